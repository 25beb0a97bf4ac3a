"""`runner batch`: lists batches; what changes them is in a file of its own."""

import click

from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.batches import BatchListShape
from runner.cli.status import look_at_batches, say_batches
from runner.cli.terminal import say_json

_HERE = "runner.cli.batch"
_CHANGES = "runner.cli.batch_changes"


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "The newest batches, with counts and spend."),
        "pause": (_CHANGES, "pause", "Call for no more documents; calls in flight finish."),
        "resume": (_CHANGES, "resume", "Let a paused batch go on, with a new budget if need be."),
        "cancel": (_CHANGES, "cancel", "End every document that is not done, for good."),
    },
)
def batch() -> None:
    """List, pause, resume and cancel batches; BATCH is a name or an id."""


@click.command("list", cls=Command, example=("runner batch list --limit 5",))
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=50,
    show_default=True,
    help="At most this many.",
)
@json_option
@pass_session
def list_(session: Session, /, *, limit: int, as_json: bool) -> None:
    """List the newest batches first."""
    if not session.has_ledger:
        shapes = BatchListShape(batches=())
    else:
        with session.ledger() as ledger:
            with ledger.snapshot() as connection:
                batches = look_at_batches(connection, None, limit=limit, at_us=ledger.clock.us())
            shapes = BatchListShape(batches=batches)
    if as_json:
        say_json(shapes)
    else:
        say_batches(shapes.batches)
