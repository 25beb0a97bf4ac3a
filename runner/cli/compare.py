"""`runner compare`: two batches of the same documents, field by field."""

import click
from pydantic import BaseModel

from runner.batchdiff import compare_batches
from runner.cli.commands import Command, json_option
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.quality import CompareShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several
from runner.errors import JobError
from runner.ledger.submission import Batch
from runner.pinned import PinnedJobs

LISTED_MAX = 20


@click.command(
    cls=Command,
    example=("runner compare june june-with-v2", "runner compare june july --json | jq .fields"),
)
@click.argument("batch_a")
@click.argument("batch_b")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=LISTED_MAX,
    show_default=True,
    help="List at most this many documents that differ.",
)
@json_option
@pass_session
def compare(session: Session, /, *, batch_a: str, batch_b: str, limit: int, as_json: bool) -> None:
    """Compare the records of two batches: which documents differ, and in which fields.

    Documents are the same when their text is. Values are the same as the job's schema declares.
    """
    with session.ledger() as ledger:
        a, b = find_batch(ledger, batch_a), find_batch(ledger, batch_b)
        found = compare_batches(ledger, a, b, schema=_schema(session, a, b), limit=limit)
    shape = CompareShape.of(a.name, b.name, found)
    if as_json:
        say_json(shape)
        return
    _say(shape)
    if found.left_out:
        talk(f"and {several(found.left_out, 'document')} more: --limit shows them")


def _schema(session: Session, a: Batch, b: Batch) -> type[BaseModel] | None:
    """The schema both have in common; none when they differ, or it cannot be loaded any more."""
    if a.job != b.job:
        talk(f"{a.name} is of job {a.job} and {b.name} of {b.job}: values are compared as written")
        return None
    try:
        return PinnedJobs(session.settings.job_folders).job(a.job).job.schema
    except JobError as error:
        talk(f"{error}; values are compared as written")
        return None


def _say(shape: CompareShape) -> None:
    say(f"A  {shape.a}\nB  {shape.b}")
    say(
        f"{several(shape.both, 'document')} in both, {shape.only_a:,} only in A, "
        f"{shape.only_b:,} only in B; of {shape.with_records:,} with a record in both, "
        f"{shape.same:,} are equal\n"
    )
    say_table(
        (Column("in A"), Column("in B"), Column("documents", right=True)),
        [(one.state_a, one.state_b, one.documents) for one in shape.states],
    )
    say("")
    columns = ("same", "differ", "only A", "only B")
    say_table(
        (Column("field", folds=True), *(Column(name, right=True) for name in columns)),
        [
            (name, one.same, one.differ, one.only_a, one.only_b)
            for name, one in shape.fields.items()
        ],
    )
    if shape.differing:
        say("")
        _say_differing(shape)


def _say_differing(shape: CompareShape) -> None:
    say_table(
        (
            *(Column("source", shrinks=True), Column("place")),
            *(Column("A", folds=True), Column("B", folds=True)),
        ),
        [
            (one.source, place.place, _value(place.before), _value(place.after))
            for one in shape.differing
            for place in one.places
        ],
    )


def _value(value: object) -> str:
    return "null" if value is None else str(value)
