"""`runner submit`: puts documents into the queue and nothing else."""

import time
from typing import Any

import click

from runner import batches
from runner.batches import Submitted
from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.batches import SubmittedShape
from runner.cli.submission import Asked, make_plan, submission_options, tell_canary
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.cli.wording import several

TELL_EVERY_S = 5.0


@click.command(
    cls=Command,
    example=(
        "runner submit invoice invoices/ --batch june",
        "cat tickets.jsonl | runner submit ticket - --text-field body --batch tickets",
    ),
)
@submission_options
@json_option
@pass_session
def submit(session: Session, /, *, as_json: bool, **asked: Any) -> None:
    """Put documents into the queue; `runner work` then works on them.

    Inputs are streamed: memory does not grow with their number. Submitting the same inputs again
    adds nothing, so an interrupted submission is simply repeated.
    """
    planned = make_plan(session, Asked(**asked))
    with session.ledger(create=True) as ledger:
        done = batches.submit(
            ledger,
            planned.plan,
            planned.texts,
            rejected=lambda: planned.skipped.count,
            on_progress=_Teller(),
        )
    planned.skipped.tell()
    tell_canary(done.batch)
    shape = SubmittedShape(
        batch=done.batch.name,
        batch_id=done.batch.id,
        accepted=done.accepted,
        duplicate=done.duplicate,
        rejected=done.rejected,
        unparsable=done.unparsable,
    )
    if as_json:
        say_json(shape)
        return
    say(lines_of(dict(shape).items()))
    talk(f"`runner work` works on it, `runner status {done.batch.name}` shows how it stands")


class _Teller:
    """Says now and then how far a long submission is."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + TELL_EVERY_S

    def __call__(self, so_far: Submitted) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + TELL_EVERY_S
            talk(f"{several(so_far.accepted, 'document')} accepted so far")
