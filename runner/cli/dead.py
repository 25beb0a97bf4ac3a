"""`runner dead`: list, show, retry, purge and export dead letters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runner import batches
from runner.cli.askagain import again_options, tell_price
from runner.cli.commands import Command, LazyGroup, json_option, together
from runner.cli.confirming import confirm, yes_option
from runner.cli.idle import tell_if_idle, tell_paused
from runner.cli.lookup import find_document, look_at
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.dead import (
    DeadGroupShape,
    DeadListShape,
    ExportedShape,
    LetterShape,
    PurgedShape,
    RetriedShape,
)
from runner.cli.show import TEXT_CHARS_MAX, say_document
from runner.cli.tables import Column, say_table
from runner.cli.terminal import json_text, say, say_json, stdout_lines, talk
from runner.cli.wording import several, short_time, since_us, usd
from runner.errors import UsageError
from runner.exporters import STDOUT
from runner.files import write_text
from runner.ledger import Ledger
from runner.ledger.deadletters import (
    DeadFilter,
    DeadLetter,
    group_dead,
    list_dead,
)
from runner.model import DeadReason, DocumentState
from runner.pinned import PinnedJobs
from runner.pricing import Estimate, price_retry
from runner.retention import purge as purge_texts

_HERE = "runner.cli.dead"


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "Dead letters, grouped by what went wrong."),
        "show": (_HERE, "show", "One dead letter with its whole history."),
        "retry": (_HERE, "retry", "Queue dead letters again, priced first."),
        "purge": (_HERE, "purge", "Drop the texts of dead letters."),
        "export": (_HERE, "export_", "Write dead letters as JSON lines."),
    },
)
def dead() -> None:
    """Dead letters: documents that ended without a record, each with its whole history."""


# which dead letters are meant: their values make a `DeadFilter`
filter_options = together(
    click.option("--batch", help="Of this batch."),
    click.option("--reason", help="With this reason, such as unparsable or attempts_exhausted."),
    click.option("--since", help="That died since then: 30m, 2h, 3d ago, or a date or time (UTC)."),
    click.option("--grep", help="With this text in the message, in any case."),
    click.option("--limit", type=click.IntRange(min=1), help="At most this many, the newest."),
)


def _filter(ledger: Ledger, filters: dict[str, Any], documents: Sequence[str] = ()) -> DeadFilter:
    batch, since = filters["batch"], filters["since"]
    return DeadFilter(
        batch_id=None if batch is None else find_batch(ledger, batch).id,
        reason=filters["reason"],
        grep=filters["grep"],
        since_us=None if since is None else since_us(since, now_us=ledger.clock.us()),
        document_ids=tuple(find_document(ledger, one) for one in documents),
        limit=filters["limit"],
    )


def _letters(ledger: Ledger, wanted: DeadFilter) -> list[DeadLetter]:
    with ledger.snapshot() as connection:
        return list_dead(connection, wanted)


@click.command(
    "list",
    cls=Command,
    example=("runner dead list --batch june", "runner dead list --since 2h --all"),
)
@filter_options
@click.option("--all", "each", is_flag=True, help="One line for each, instead of groups.")
@json_option
@pass_session
def list_(session: Session, /, *, each: bool, as_json: bool, **filters: Any) -> None:
    """List dead letters, grouped by what went wrong; with --all one by one, the newest first."""
    with session.ledger() as ledger:
        wanted = _filter(ledger, filters)
        with ledger.snapshot() as connection:
            groups = () if each else tuple(map(DeadGroupShape.of, group_dead(connection, wanted)))
            letters = tuple(map(LetterShape.of, list_dead(connection, wanted))) if each else ()
    if as_json:
        say_json(DeadListShape(groups=groups, letters=letters))
    elif groups:
        _say_groups(groups)
    elif letters:
        _say_letters(letters)
    else:
        talk("no dead letter")


def _say_groups(groups: Sequence[DeadGroupShape]) -> None:
    columns = (
        *(Column("documents", right=True), Column("reason"), Column("what went wrong", folds=True)),
        Column("for example"),
    )
    say_table(
        columns,
        [(one.documents, one.reason, one.signature, one.example_id) for one in groups],
    )
    talk("\n`runner dead show DOCUMENT` tells one's history, `runner dead list --all` names each")


def _say_letters(letters: Sequence[LetterShape]) -> None:
    columns = (
        *(
            Column("document"),
            Column("batch"),
            Column("source", shrinks=True),
            Column("died"),
            Column("reason"),
        ),
        *(Column("calls", right=True), Column("cost", right=True), Column("message", shrinks=True)),
    )
    say_table(
        columns,
        [
            (
                *(one.document_id, one.batch, one.source, short_time(one.finished), one.reason),
                *(one.calls, usd(one.cost_usd), one.message),
            )
            for one in letters
        ],
    )


@click.command("show", cls=Command, example=("runner dead show invoices/0042.pdf",))
@click.argument("document")
@json_option
@pass_session
def show(session: Session, /, *, document: str, as_json: bool) -> None:
    """Show a dead letter: why it died, every call made for it, its text."""
    with session.ledger() as ledger:
        shape = look_at(ledger, find_document(ledger, document))
    if shape.state != DocumentState.DEAD:
        raise UsageError(
            f"document {shape.document_id} is {shape.state}, not dead; "
            f"`runner show {shape.document_id}` shows it"
        )
    if as_json:
        say_json(shape)
    else:
        say_document(shape, text_chars_max=TEXT_CHARS_MAX)


@click.command(
    "retry",
    cls=Command,
    example=(
        "runner dead retry --batch june --dry-run",
        "runner dead retry --reason attempts_exhausted --model gpt-5 --yes",
    ),
)
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...")
@filter_options
@again_options
@json_option
@pass_session
def retry(
    session: Session,
    /,
    *,
    documents: tuple[str, ...],
    models: tuple[str, ...],
    prompt: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Queue dead letters again, each with a new life; without a filter, all of them.

    Count and price are told first; a terminal is asked. Two people who retry at once retry once.
    What has no text (unparsable or purged) and what belongs to a cancelled batch stays dead.
    """
    with session.ledger() as ledger:
        wanted = _filter(ledger, filters, documents)
        letters = _letters(ledger, wanted)
        _refuse_erased(letters, documents)
        estimate = price_retry(session.settings, ledger, letters, prompt=prompt, models=models)
        _tell_matches(estimate)
        tell_price(estimate)
        retried: list[str] = []
        if estimate.retriable and not dry_run:
            question = f"retry {several(estimate.retriable, 'document')}?"
            confirm(question, yes=yes, needed_without_terminal=False)
            jobs = PinnedJobs(session.settings.job_folders)
            retried = batches.retry(ledger, wanted, jobs=jobs, prompt=prompt, models=models)
        if as_json:
            say_json(_retried_shape(estimate, retried))
        else:
            say("dry run: nothing was queued" if dry_run else f"retried {len(retried):,}")
        if retried:
            tell_paused(ledger, (letter.batch_name for letter in letters))
            tell_if_idle(ledger)


def _refuse_erased(letters: Sequence[DeadLetter], documents: Sequence[str]) -> None:
    """Those that are named one by one are told; a filter passes them over, as all without text."""
    for letter in letters:
        if documents and letter.reason == DeadReason.ERASED:
            raise UsageError(
                f"document {letter.document_id} was {letter.message}: there is nothing to send "
                "again; submit its file anew, in another batch, if that may be"
            )


def _tell_matches(estimate: Estimate) -> None:
    match = "matches" if estimate.matched == 1 else "match"
    talk(f"{several(estimate.matched, 'dead letter')} {match}")
    if estimate.without_text:
        talk(f"{estimate.without_text:,} of them have no text (unparsable or purged) and stay dead")


def _retried_shape(estimate: Estimate, retried: Sequence[str]) -> RetriedShape:
    return RetriedShape(
        matched=estimate.matched,
        without_text=estimate.without_text,
        retried=len(retried),
        documents=tuple(retried),
        expected_usd=estimate.expected_usd,
        worst_usd=estimate.worst_usd,
    )


@click.command("purge", cls=Command, example=("runner dead purge --reason unparsable --since 7d",))
@filter_options
@yes_option
@json_option
@pass_session
def purge(session: Session, /, *, yes: bool, as_json: bool, **filters: Any) -> None:
    """Drop the texts of dead letters, for good; their rows, reasons and costs stay.

    What was purged cannot be retried.
    """
    with session.ledger() as ledger:
        letters = [one for one in _letters(ledger, _filter(ledger, filters)) if one.has_text]
        purged = 0
        if letters:
            count = several(len(letters), "dead letter")
            confirm(f"drop the texts of {count}? They cannot be retried then.", yes=yes)
            ids = [one.document_id for one in letters]
            purged = purge_texts(ledger, session.settings.home, ids)
    if as_json:
        say_json(PurgedShape(purged=purged))
    else:
        say(f"purged {purged:,}")


@click.command("export", cls=Command, example=("runner dead export --batch june --out dead.jsonl",))
@filter_options
@click.option("--out", metavar="FILE", default=STDOUT, help="- (the default) is stdout.")
@json_option
@pass_session
def export_(session: Session, /, *, out: str, as_json: bool, **filters: Any) -> None:
    """Write dead letters as JSON lines, the newest first."""
    if as_json and out == STDOUT:
        raise UsageError("the lines on stdout are JSON already: --json goes with --out FILE")
    with session.ledger() as ledger:
        letters = _letters(ledger, _filter(ledger, filters))
    lines = [json_text(LetterShape.of(one)) for one in letters]
    if out == STDOUT:
        stdout_lines(lines)
        return
    write_text(Path(out), "".join(f"{line}\n" for line in lines))
    if as_json:
        say_json(ExportedShape(file=out, letters=len(lines)))
    else:
        talk(f"{out}: {several(len(lines), 'line')}")
