"""`runner try`: one document, asked for once, its fields shown as they come."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import click

from runner.cli.commands import Command, json_option, leave
from runner.cli.exits import Exit
from runner.cli.fieldboard import FieldBoard, LiveFields, NoFields, PlainFields
from runner.cli.fields import Leaf, growing, leaves, marks
from runner.cli.interrupts import Interrupts
from runner.cli.money import Usd
from runner.cli.session import Session, pass_session
from runner.cli.submission import Asked, Planned, make_plan
from runner.cli.terminal import say, say_json, talk
from runner.cli.tried import End, say_try, shape_of, tell_next
from runner.cli.wording import duration
from runner.errors import InputError
from runner.fields import FieldSpec, spec_of
from runner.keys import new_id
from runner.ledger import Ledger
from runner.model import Purpose, SourceText
from runner.stream import Stream
from runner.trying import Trial, Tried

LOOK_EVERY_S = 0.1


@click.command(
    "try",
    cls=Command,
    example=(
        "runner try invoice invoices/0042.pdf",
        "runner try invoice invoices/0042.pdf --prompt v3 --model gpt-5",
        "cat mail.txt | runner try ticket - --simulate --json",
    ),
    exits=(
        *(Exit.DONE, Exit.FAILED, Exit.USAGE, Exit.UNFINISHED, Exit.PAUSED),
        Exit.INTERRUPTED,
    ),
)
@click.argument("job")
@click.argument("file")
@click.option("--prompt", help="Locked prompt version to ask with; the live one by default.")
@click.option("--model", help="Model to ask; the first of the job's own by default.")
@click.option(
    "--budget-usd", type=Usd(), help="Do not call when the call could cost more than that."
)
@click.option(
    "--simulate",
    is_flag=True,
    help="Ask the simulated provider on this machine: free, no key, made-up answers.",
)
@json_option
@pass_session
def try_(
    session: Session,
    /,
    *,
    job: str,
    file: str,
    prompt: str | None,
    model: str | None,
    budget_usd: Decimal | None,
    simulate: bool,
    as_json: bool,
) -> None:
    """Ask for one document, once, and show its fields as they come.

    FILE holds one document; - is standard input, as plain text. Neither Redis nor a worker is
    needed. The call is in the ledger as any other, and within its budgets; where a run would ask
    again, this says so and ends. Beside each field stands whether the document has its value: as
    it is (exact), nearly (normalised, fuzzy), or not (no ground).

    Ctrl-C ends the call, which may have been paid by then.
    """
    planned = make_plan(
        session,
        Asked(
            job=job,
            inputs=(file,),
            batch_name=new_id(f"try-{job}-"),
            budget_usd=budget_usd,
            limit=2,
            models=() if model is None else (model,),
            prompt=prompt,
            text_field=None,
            id_field=None,
            simulate=simulate,
        ),
    )
    text = _one_text(planned, file)
    if simulate:
        talk("simulated: answer and cost are made up, no provider is called")
    board = _board(as_json=as_json)
    with session.ledger(create=True) as ledger:
        end = _try(_Watch(session, ledger, planned, board), text)
        found = _fields_of(end)
        marked = marks(found, end.evidence) if end.data_json is not None else {}
        board.close(found, marked)
        shape = shape_of(ledger, end, marks=marked)
    if as_json:
        say_json(shape)
    else:
        say_try(shape)
    tell_next(shape, typed=session.typed)
    leave(end.exit)


def _one_text(planned: Planned, file: str) -> SourceText:
    """The one document of the file. Raises InputError when it holds none, or several."""
    texts = list(planned.texts)
    if not texts:
        raise InputError(f"{file} holds no document")
    if len(texts) > 1:
        raise InputError(
            f"{file} holds several documents, and a try takes one: put the text of one into a "
            "file, or pipe it to `runner try JOB -`"
        )
    (text,) = texts
    if text.text is None:
        raise InputError(f"{text.source} cannot be read: {text.error}; nothing was asked")
    return text


def _board(*, as_json: bool) -> FieldBoard:
    stream = sys.stderr if as_json else sys.stdout
    if stream.isatty():
        return LiveFields(stream)
    return NoFields() if as_json else PlainFields(say)


@dataclass(frozen=True, slots=True)
class _Watch:
    """A try that is watched."""

    session: Session
    ledger: Ledger
    planned: Planned
    board: FieldBoard

    @property
    def spec(self) -> FieldSpec:
        return spec_of(self.planned.pinned.job.schema)


def _try(watch: _Watch, text: SourceText) -> End:
    began_s = time.monotonic()
    stream = Stream()
    # one call with one prompt: neither read a second time, nor with a canary beside it
    plan = replace(watch.planned.plan, purpose=Purpose.TRY, second_read=None, canary=None)
    trial = Trial(watch.session.settings, watch.ledger, stream)
    interrupts = Interrupts()

    async def run() -> Tried:
        running = asyncio.create_task(trial.run(plan, text))
        heard = 0
        while not running.done():
            await asyncio.wait({running}, timeout=LOOK_EVERY_S)
            seconds = time.monotonic() - began_s
            watch.board.show(_so_far(watch.spec, stream), _words(plan.models[0], stream, seconds))
            if interrupts.count > heard:
                heard = interrupts.count
                trial.interrupt()
        return running.result()

    try:
        with interrupts.heard():
            tried = asyncio.run(run())
    except BaseException:
        watch.board.close((), {})  # the terminal is left as it was
        raise
    return End(
        tried=tried,
        pinned=watch.planned.pinned,
        source=text.source,
        stream=stream,
        interrupted=interrupts.count > 0,
        seconds=time.monotonic() - began_s,
    )


def _so_far(spec: FieldSpec, stream: Stream) -> Sequence[Leaf]:
    data = growing(stream.text)
    return list(leaves(spec, data)) if data else []


def _words(model: str, stream: Stream, seconds: float) -> str:
    doing = "waiting for its first token" if stream.first_us is None else "answering"
    return f"{model}: {doing}, {duration(seconds)}"


def _fields_of(end: End) -> list[Leaf]:
    """The fields as they were found valid, else as far as they came."""
    spec = spec_of(end.pinned.job.schema)
    if end.data_json is None:
        return list(_so_far(spec, end.stream))
    return list(leaves(spec, json.loads(end.data_json)))
