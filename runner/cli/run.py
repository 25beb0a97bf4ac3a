"""`runner run`: a whole job in one process tree, safe to interrupt and to repeat."""

import time
from collections.abc import Iterator
from typing import Any

import click

from runner import batches
from runner.cli.commands import Command, json_option, leave, worker_options
from runner.cli.exits import Exit
from runner.cli.export import check_target, export
from runner.cli.opening import open_again
from runner.cli.session import Session, pass_session
from runner.cli.submission import (
    Asked,
    Planned,
    Submission,
    make_plan,
    submission_options,
    tell_canary,
)
from runner.cli.summary import Told, tell_ending
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.cli.watch import Ending
from runner.cli.wording import duration, several, usd
from runner.cli.working import EXIT_OF, MAX_WAIT_S, Workers, interrupts_told, work_on
from runner.errors import UsageError
from runner.exporters import STDOUT
from runner.keys import content_digest
from runner.prices import PriceList


@click.command(
    cls=Command,
    example=(
        "runner run invoice invoices/ --out invoices.jsonl --budget-usd 5",
        "runner run ticket tickets.csv --text-field body --id-field id --out tickets.csv",
        "runner run invoice invoices/ --dry-run",
    ),
    exits=(
        *(Exit.DONE, Exit.FAILED, Exit.USAGE, Exit.UNFINISHED, Exit.PAUSED),
        Exit.INTERRUPTED,
    ),
)
@submission_options
@click.option("--out", metavar="FILE", help="Result file (.jsonl, .csv or .parquet); - is stdout.")
@worker_options
@click.option(
    "--max-wait",
    "max_wait_s",
    type=click.FloatRange(min=1),
    default=MAX_WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="Stop with exit code 5 when no document has ended for so long.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what it would cost; send nothing, create no batch."
)
@json_option
@pass_session
def run(
    session: Session,
    /,
    *,
    out: str | None,
    processes: int,
    concurrency: int,
    allow_unsafe_redis: bool,
    max_wait_s: float,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Do a whole job: submit the inputs, work on them, wait, write the results, sum up.

    JOB is a job's name (`runner prompt list` shows them). INPUT is a folder, a glob, a file, or -
    for standard input; rows of .jsonl and .csv files are documents of their own.

    Repeat the same command whenever you like: it goes on where it stopped, adds new or changed
    files as new documents, and calls nobody for what is done. Ctrl-C lets calls in flight finish.
    """
    with interrupts_told(session):
        began_s = time.monotonic()
        _check_outputs(out, as_json=as_json)
        planned = make_plan(session, Asked(**asked))
        if dry_run:
            _forecast(session, planned, as_json=as_json)
            return
        with session.ledger(create=True) as ledger:
            batch = open_again(ledger, planned.plan, known=planned.known)
            if batch.simulated:
                talk("simulated: answers and costs are made up, no provider is called")
            tell_canary(batch)
            ending, why = work_on(
                ledger,
                batch,
                submission=Submission(ledger, planned),
                workers=Workers(
                    processes, concurrency, session.env, allow_unsafe_redis=allow_unsafe_redis
                ),
                max_wait_s=max_wait_s,
            )
            planned.skipped.tell()
            exported = None
            if out is not None and ending is not Ending.INTERRUPTED:
                exported = export(ledger, batch, out)
            standing = batches.standing(ledger, batch)
            seconds = time.monotonic() - began_s
            tell_ending(
                ledger,
                Told(
                    ending=ending,
                    why=why,
                    standing=standing,
                    seconds=seconds,
                    out=out,
                    exported=exported,
                    again=session.typed,
                ),
            )
        summed = batches.summary(standing, seconds=seconds)
        if as_json:
            say_json(summed)
        unfinished = bool(summed.dead or summed.review)
        leave(EXIT_OF.get(ending, Exit.UNFINISHED if unfinished else Exit.DONE))


def _check_outputs(out: str | None, *, as_json: bool) -> None:
    if out is not None:
        check_target(out)
    if out == STDOUT and as_json:
        raise UsageError("--out - and --json would both write to stdout: give --out a file")


def _forecast(session: Session, planned: Planned, *, as_json: bool) -> None:
    """Print what the inputs would cost; equal contents are one document, as in a batch."""
    prices = PriceList(session.settings)
    found = batches.forecast(
        planned.pinned, _distinct_texts(planned), settings=session.settings, prices=prices
    )
    planned.skipped.tell()
    if as_json:
        say_json(found)
        return
    say(
        lines_of(
            [
                ("documents", found.documents),
                ("unparsable", found.unparsable or None),
                ("model", found.model),
                ("input tokens", found.input_tokens),
                ("expected cost", usd(found.expected_usd)),
                ("worst case", usd(found.worst_usd)),
                ("expected time", _time(found.expected_s)),
                ("worst time", _time(found.worst_s)),
            ]
        )
    )
    if found.worst_usd is not None:
        attempts = planned.pinned.job.max_attempts
        talk(f"worst case: every document takes all its {attempts} attempts, each at its longest")
    if planned.known is not None:
        with session.ledger() as ledger:
            standing = batches.standing(ledger, planned.known)
        ended = standing.accepted - standing.open
        talk(
            f"batch {planned.known.name} was begun before: {several(ended, 'document')} in it "
            "have ended and will not be paid for again"
        )
    talk("nothing was sent and no batch was created")


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else f"{duration(seconds)} at the rate limits"


def _distinct_texts(planned: Planned) -> Iterator[str | None]:
    seen: set[bytes] = set()
    for one in planned.texts:
        digest = content_digest(one.content)
        if digest not in seen:
            seen.add(digest)
            yield one.text
