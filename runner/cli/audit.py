"""`runner audit`: tells whether everything adds up."""

import click

from runner.cli.commands import ALWAYS, Command, json_option, leave
from runner.cli.exits import Exit
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.home import AuditShape
from runner.cli.terminal import lines_of, say, say_json
from runner.cli.wording import usd
from runner.ledger.audit import audit as audit_ledger


@click.command(
    cls=Command,
    example=("runner audit", "runner audit june --json"),
    exits=(*ALWAYS, Exit.UNBALANCED),
)
@click.argument("batch", required=False)
@json_option
@pass_session
def audit(session: Session, /, *, batch: str | None, as_json: bool) -> None:
    """Check conservation: every document in one state with what that state owes, and all money.

    It reads one consistent view and may run while workers do.
    """
    with session.ledger() as ledger:
        batch_id = None if batch is None else find_batch(ledger, batch).id
        with ledger.snapshot() as connection:
            shape = AuditShape.of(audit_ledger(connection, batch_id))
    if as_json:
        say_json(shape)
    else:
        _say(shape)
    leave(Exit.DONE if shape.balanced else Exit.UNBALANCED)


def _say(shape: AuditShape) -> None:
    say(
        lines_of(
            [
                ("batches", shape.batches),
                ("documents", shape.documents),
                ("calls", shape.attempts),
                ("settled", usd(shape.settled_usd)),
                ("ambiguous", usd(shape.ambiguous_usd)),
                ("held", usd(shape.held_usd)),
            ]
        )
    )
    for problem in shape.problems:
        say(f"problem: {problem}")
    say("everything adds up" if shape.balanced else f"{len(shape.problems)} problems")
