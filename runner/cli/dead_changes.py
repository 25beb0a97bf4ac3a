"""`runner dead retry` and `purge`: what changes dead letters, told and priced first."""

from collections.abc import Sequence
from typing import Any

import click

from runner import batches
from runner.cli.askagain import again_options, tell_price
from runner.cli.commands import Command, json_option
from runner.cli.confirming import confirm, yes_option
from runner.cli.dead_filters import dead_filter, dead_letters, filter_options
from runner.cli.idle import tell_if_idle, tell_paused
from runner.cli.session import Session, pass_session
from runner.cli.shapes.dead import PurgedShape, RetriedShape
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several
from runner.errors import UsageError
from runner.ledger.deadletters import DeadLetter
from runner.model import DeadReason
from runner.pinned import PinnedJobs
from runner.pricing import Estimate, price_retry
from runner.retention import purge as purge_texts


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
        wanted = dead_filter(ledger, filters, documents)
        letters = dead_letters(ledger, wanted)
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
        wanted = dead_filter(ledger, filters)
        letters = [one for one in dead_letters(ledger, wanted) if one.has_text]
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
