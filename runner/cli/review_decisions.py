"""`runner review accept`, `correct`, `reject` and `again`: what a person decides, once."""

import getpass
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from runner.cli.askagain import again_options, tell_price
from runner.cli.commands import Command, json_option
from runner.cli.confirming import confirm
from runner.cli.idle import tell_if_idle, tell_paused
from runner.cli.lookup import find_document
from runner.cli.session import Session, pass_session
from runner.cli.shapes.review import DecidedShape, RunAgainShape
from runner.cli.terminal import say, say_json
from runner.cli.wording import several
from runner.corrections import typed_value, with_values
from runner.errors import InputError, UsageError
from runner.exporters import STDOUT
from runner.ledger import Ledger
from runner.ledger.reviews import Waiting
from runner.model import Decided
from runner.pinned import PinnedJobs
from runner.pricing import price_retry
from runner.reviews import Reviewer, decide_all, find_waiting, run_again
from runner.reviews import correct as write_correction
from runner.validate import TEXT_MAX_CHARS

NAME_CHARS_MAX = 200

_documents = click.argument("documents", nargs=-1, required=True, metavar="DOCUMENT...")


def _who_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Who decides, and why."""
    reviewer = click.option("--reviewer", help="Who decides; the login name by default.")
    note = click.option("--note", help="Why, for whoever looks at it later.")
    return reviewer(note(command))


def _reviewer(name: str | None, note: str | None) -> Reviewer:
    """Raises UsageError when nobody is named and the system knows no name."""
    try:
        known = name if name is not None else getpass.getuser()
    except (OSError, KeyError):
        known = ""
    if not known.strip():
        raise UsageError("who decides? --reviewer NAME tells; this system has no login name")
    return Reviewer(name=known.strip()[:NAME_CHARS_MAX], note=note or None)


def _found(ledger: Ledger, typed: Sequence[str]) -> list[Waiting]:
    return find_waiting(ledger, [find_document(ledger, one) for one in typed])


def _say_decided(
    decided: Decided, by: Reviewer, documents: Sequence[str], *, as_json: bool
) -> None:
    if as_json:
        say_json(DecidedShape(decision=decided, reviewer=by.name, documents=tuple(documents)))
    else:
        say(f"{decided} {len(documents):,}")


@click.command(
    "accept",
    cls=Command,
    example=("runner review accept invoices/0042.pdf", "runner review accept dk3x7q d7wqa2"),
)
@_documents
@_who_options
@json_option
@pass_session
def accept(
    session: Session,
    /,
    *,
    documents: tuple[str, ...],
    reviewer: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Say that the records of these documents are right; they are done, flagged `accepted`.

    All of them, or none when another person has decided on one meanwhile.
    """
    by = _reviewer(reviewer, note)
    with session.ledger() as ledger:
        decided = decide_all(ledger, _found(ledger, documents), Decided.ACCEPTED, by)
    _say_decided(Decided.ACCEPTED, by, decided, as_json=as_json)


@click.command(
    "reject",
    cls=Command,
    example=('runner review reject scans/0007.pdf --note "a delivery note, no invoice"',),
)
@_documents
@_who_options
@json_option
@pass_session
def reject(
    session: Session,
    /,
    *,
    documents: tuple[str, ...],
    reviewer: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Make dead letters of these documents; their records are kept in the history only.

    `runner dead retry` runs them again. All of them, or none when another person has decided on one
    meanwhile.
    """
    by = _reviewer(reviewer, note)
    with session.ledger() as ledger:
        decided = decide_all(ledger, _found(ledger, documents), Decided.REJECTED, by)
    _say_decided(Decided.REJECTED, by, decided, as_json=as_json)


@click.command(
    "correct",
    cls=Command,
    example=(
        "runner review correct dk3x7q --set line_items.0.amount=12.5 --set due_date=null",
        "runner review correct dk3x7q --data right.json",
    ),
)
@click.argument("document")
@click.option("--data", metavar="FILE", help="The whole record as JSON; - is standard input.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="PATH=VALUE",
    help="Another value for one field, as JSON or else as text; may be repeated.",
)
@click.option(
    "--despite-checks",
    is_flag=True,
    help="Take what is valid by the schema, though the job's checks speak against it.",
)
@_who_options
@json_option
@pass_session
def correct(
    session: Session,
    /,
    *,
    document: str,
    data: str | None,
    changes: tuple[str, ...],
    despite_checks: bool,
    reviewer: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Give a document the right record; it is done, flagged `corrected`.

    The record must be valid by the job's schema and checks. A text stays a text: --set number=12
    sets "12" where the record has a text.
    """
    if (data is None) == (not changes):
        raise UsageError("give the right record with --data FILE, or its values with --set")
    by = _reviewer(reviewer, note)
    with session.ledger() as ledger:
        (waiting,) = _found(ledger, [document])
        decided = write_correction(
            ledger,
            waiting,
            _read(data) if data is not None else _changed(waiting, changes),
            by,
            jobs=PinnedJobs(session.settings.job_folders),
            despite_checks=despite_checks,
        )
    _say_decided(Decided.CORRECTED, by, decided, as_json=as_json)


def _read(path: str) -> str:
    try:
        if path == STDOUT:
            return sys.stdin.read(TEXT_MAX_CHARS + 1)
        with Path(path).open(encoding="utf-8") as file:
            return file.read(TEXT_MAX_CHARS + 1)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text, so it cannot be JSON") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _changed(waiting: Waiting, changes: Sequence[str]) -> str:
    """The record with the values of `--set`, as JSON."""
    if waiting.data_json is None:
        raise UsageError(
            f"document {waiting.document_id} has no record whose values could be set; "
            "give it a whole one with --data FILE"
        )
    record = json.loads(waiting.data_json)
    pairs = []
    for change in changes:
        path, equals, value = change.partition("=")
        if not path or not equals:
            raise UsageError(f"--set {change!r} is no PATH=VALUE, such as line_items.0.amount=12.5")
        pairs.append((path, value))
    return json.dumps(with_values(record, pairs, read=typed_value))


@click.command(
    "again",
    cls=Command,
    example=(
        "runner review again dk3x7q --dry-run",
        "runner review again dk3x7q --model gpt-5 --yes",
    ),
)
@_documents
@again_options
@_who_options
@json_option
@pass_session
def again(
    session: Session,
    /,
    *,
    documents: tuple[str, ...],
    models: tuple[str, ...],
    prompt: str | None,
    dry_run: bool,
    yes: bool,
    reviewer: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Queue documents in review again, each with a new life; their records are dropped.

    The price is told first; a terminal is asked. All of them, or none when another person has
    decided on one meanwhile.
    """
    by = _reviewer(reviewer, note)
    jobs = PinnedJobs(session.settings.job_folders)
    with session.ledger() as ledger:
        found = _found(ledger, documents)
        estimate = price_retry(session.settings, ledger, found, prompt=prompt, models=models)
        tell_price(estimate)
        queued: list[str] = []
        if not dry_run:
            question = f"ask again for {several(len(found), 'document')}?"
            confirm(question, yes=yes, needed_without_terminal=False)
            queued = run_again(ledger, found, by, jobs=jobs, prompt=prompt, models=models)
        if as_json:
            say_json(
                RunAgainShape(
                    reviewer=by.name,
                    documents=tuple(queued),
                    expected_usd=estimate.expected_usd,
                    worst_usd=estimate.worst_usd,
                )
            )
        else:
            say("dry run: nothing was queued" if dry_run else f"queued {len(queued):,}")
        if queued:
            tell_paused(ledger, {one.batch_name for one in found})
            tell_if_idle(ledger)
