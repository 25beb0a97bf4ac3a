"""`runner revalidate`: stored answers through the present schema and checks, at no cost."""

from collections import Counter
from collections.abc import Sequence

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.quality import RevalidatedShape, RevalidationShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.cli.wording import several
from runner.pinned import PinnedJobs
from runner.revalidation import Revalidated, Verdict, apply, revalidate

LISTED_MAX = 50
_WORDS = {
    Verdict.SAME: "same",
    Verdict.CHANGED: "good, with other data",
    Verdict.NOW_GOOD: "good now",
    Verdict.NOW_BAD: "not good any more",
    Verdict.STILL_BAD: "still not good",
    Verdict.NO_ANSWER: "without a stored answer",
    Verdict.DECIDED: "decided by a person",
}
_CHANGES = (Verdict.CHANGED, Verdict.NOW_GOOD, Verdict.NOW_BAD)


@click.command(
    "revalidate",
    cls=Command,
    example=("runner revalidate june", "runner revalidate june --apply"),
)
@click.argument("batch")
@click.option(
    "--apply",
    "applies",
    is_flag=True,
    help="Write it down: what is good now is done, what is not any more goes to review.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=LISTED_MAX,
    show_default=True,
    help="List at most this many documents that changed.",
)
@json_option
@pass_session
def revalidate_batch(
    session: Session, /, *, batch: str, applies: bool, limit: int, as_json: bool
) -> None:
    """Read the stored answers of BATCH again with the schema and checks as they are now.

    Nobody is called and nothing is paid. Documents that a person decided about stay as they are.
    """
    jobs = PinnedJobs(session.settings.job_folders)
    with session.ledger() as ledger:
        found_batch = find_batch(ledger, batch)
        counts: Counter[Verdict] = Counter()
        changes: list[Revalidated] = []
        for one in revalidate(ledger, found_batch, jobs):
            counts[one.verdict] += 1
            if one.verdict in _CHANGES:
                changes.append(one)
        written = sum(apply(ledger, changes).values()) if applies else None
    shape = RevalidationShape(
        batch=found_batch.name,
        documents=counts.total(),
        **{verdict.value: counts[verdict] for verdict in Verdict},
        applied=written,
        listed=tuple(RevalidatedShape.of(one) for one in changes[:limit]),
    )
    if as_json:
        say_json(shape)
    else:
        _say(shape, counts, left_out=len(changes) - len(shape.listed))


def _say(shape: RevalidationShape, counts: Counter[Verdict], *, left_out: int) -> None:
    say(lines_of([(words, counts[verdict] or None) for verdict, words in _WORDS.items()]))
    if shape.listed:
        say("")
        _say_changes(shape.listed)
    if left_out:
        talk(f"and {several(left_out, 'document')} more: --limit shows them")
    if shape.applied is not None:
        talk(f"{several(shape.applied, 'document')} written anew")
    elif shape.changed or shape.now_good or shape.now_bad:
        talk("nothing was written: --apply does")


def _say_changes(listed: Sequence[RevalidatedShape]) -> None:
    columns = (
        *(Column("document"), Column("source", shrinks=True), Column("was"), Column("now")),
        Column("why", folds=True),
    )
    say_table(
        columns,
        [
            (one.document_id, one.source, one.state, _WORDS[Verdict(one.verdict)], _why(one))
            for one in listed
        ],
    )


def _why(one: RevalidatedShape) -> str:
    if one.message is not None:
        return f"{one.reason}: {one.message}"
    return "; ".join(f"{place.place}: {place.before} → {place.after}" for place in one.places)
