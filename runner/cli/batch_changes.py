"""`runner batch pause`, `resume` and `cancel`: what changes a batch."""

from decimal import Decimal

import click

from runner import batches, steering
from runner.budget import nusd_to_usd
from runner.cli.commands import Command, json_option
from runner.cli.confirming import confirm, yes_option
from runner.cli.idle import tell_if_idle
from runner.cli.money import Usd
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.batches import BatchChangedShape
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several, usd
from runner.ledger import Ledger
from runner.ledger.submission import Batch
from runner.model import BatchState, DocumentState


@click.command(
    "pause", cls=Command, example=('runner batch pause june --why "prompt looks wrong"',)
)
@click.argument("batch")
@click.option("--why", default="paused by hand", show_default=True, help="Shown wherever it waits.")
@json_option
@pass_session
def pause(session: Session, /, *, batch: str, why: str, as_json: bool) -> None:
    """Call for no more documents of BATCH; calls in flight finish and are recorded."""
    with session.ledger() as ledger:
        found = find_batch(ledger, batch)
        steering.pause(ledger, found, why=why)
        _tell(_changed(ledger, found), as_json=as_json)


@click.command(
    "resume",
    cls=Command,
    example=(
        "runner batch resume june --budget-usd 8",
        "runner batch resume june --day-budget-usd 50",
    ),
)
@click.argument("batch")
@click.option(
    "--budget-usd", type=Usd(), help="The most that the batch may spend in all, from now on."
)
@click.option(
    "--day-budget-usd",
    type=Usd(),
    help="The most that all batches together may spend today (UTC); all that it held go on.",
)
@json_option
@pass_session
def resume(
    session: Session,
    /,
    *,
    batch: str,
    budget_usd: Decimal | None,
    day_budget_usd: Decimal | None,
    as_json: bool,
) -> None:
    """Let a paused BATCH go on; what was put off while it waited is due at once.

    When it is held by the pause of a key, that pause ends, and every batch that it holds goes on.
    """
    with session.ledger() as ledger:
        found = find_batch(ledger, batch)
        resumed = steering.resume(
            ledger,
            found,
            settings=session.settings,
            budget_usd=budget_usd,
            day_budget_usd=day_budget_usd,
        )
        shape = _changed(ledger, found).model_copy(
            update={
                "day_budget_usd": day_budget_usd,
                "key": resumed.key,
                "resumed": resumed.others,
            }
        )
        _tell(shape, as_json=as_json)
        if batches.standing(ledger, found).open:
            tell_if_idle(ledger)


@click.command("cancel", cls=Command, example=("runner batch cancel june",))
@click.argument("batch")
@yes_option
@json_option
@pass_session
def cancel(session: Session, /, *, batch: str, yes: bool, as_json: bool) -> None:
    """End every document of BATCH that is not done, for good.

    Calls in flight settle, their cost is recorded, and their documents end cancelled. Records stay.
    """
    with session.ledger() as ledger:
        found = find_batch(ledger, batch)
        waiting = batches.standing(ledger, found).open
        if waiting:
            confirm(f"cancel {several(waiting, 'document')} of {found.name}?", yes=yes)
        ended = steering.cancel(ledger, found)
        _tell(_changed(ledger, found, cancelled=ended), as_json=as_json)


def _changed(ledger: Ledger, found: Batch, *, cancelled: int = 0) -> BatchChangedShape:
    standing = batches.standing(ledger, found)
    limit = standing.limit_nusd
    return BatchChangedShape(
        batch=found.name,
        state=standing.batch.state,
        pause_reason=standing.batch.pause_reason,
        budget_usd=None if limit is None else nusd_to_usd(limit),
        cancelled=cancelled,
        running=standing.states[DocumentState.RUNNING],
    )


def _tell(shape: BatchChangedShape, *, as_json: bool) -> None:
    if as_json:
        say_json(shape)
        return
    words = f"{shape.batch} is {shape.state.value}"
    if shape.pause_reason is not None and shape.state is BatchState.PAUSED:
        words += f": {shape.pause_reason}"
    if shape.budget_usd is not None:
        words += f", budget {usd(shape.budget_usd)}"
    if shape.day_budget_usd is not None:
        words += f", budget of today {usd(shape.day_budget_usd)}"
    if shape.cancelled:
        words += f", {several(shape.cancelled, 'document')} cancelled"
    say(words)
    if shape.key is not None:
        say(f"{shape.key} is called again")
    if shape.resumed:
        say(f"also resumed: {', '.join(shape.resumed)}")
    if shape.running:
        talk(f"{several(shape.running, 'call')} in flight will finish and be recorded")
