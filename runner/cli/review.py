"""`runner review`: the records that wait for a person, with all that helps to decide."""

import json
from collections.abc import Sequence

import click

from runner.cli.calls import say_calls
from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.excerpts import excerpt
from runner.cli.lookup import find_document
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.review import (
    ReviewedShape,
    ReviewListShape,
    ReviewShape,
    WaitingShape,
)
from runner.cli.show import TEXT_CHARS_MAX, say_evidence
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.cli.wording import several, short_time
from runner.ledger import Ledger
from runner.ledger.calls import document_calls, view_document
from runner.ledger.reviews import (
    ReviewFilter,
    Waiting,
    count_waiting,
    list_waiting,
    reviews_of,
)
from runner.model import Stratum
from runner.reviews import find_waiting

_HERE = "runner.cli.review"
_DECISIONS = "runner.cli.review_decisions"
_SAMPLE = "runner.cli.review_sample"
_ESTIMATE = "runner.cli.review_estimate"


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "What waits for a person, the oldest first."),
        "show": (_HERE, "show", "One record with what speaks against it, and its text."),
        "accept": (_DECISIONS, "accept", "Say that records are right."),
        "correct": (_DECISIONS, "correct", "Give a document the right record."),
        "reject": (_DECISIONS, "reject", "Make documents dead letters."),
        "again": (_DECISIONS, "again", "Ask for records anew, priced first."),
        "sample": (_SAMPLE, "sample", "Draw done documents for an audit."),
        "estimate": (_ESTIMATE, "estimate", "How many records are wrong, with an interval."),
        "gold": (_SAMPLE, "gold", "Write what people confirmed as gold candidates."),
    },
)
def review() -> None:
    """Decide on records that wait for a person: unsure ones, and a sample of the others."""


@click.command(
    "list",
    cls=Command,
    example=("runner review list june", "runner review list --sampled --limit 10"),
)
@click.argument("batch", required=False)
@click.option("--reason", help="That wait for this reason, such as check_failed or not_grounded.")
@click.option("--sampled", is_flag=True, help="Only those that were drawn for an audit.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="At most this many.",
)
@json_option
@pass_session
def list_(
    session: Session,
    /,
    *,
    batch: str | None,
    reason: str | None,
    sampled: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the records that wait for a person, of a batch or of all, the oldest first.

    Those that the runner is not sure of, and the done ones that were drawn for an audit.
    """
    with session.ledger() as ledger:
        wanted = ReviewFilter(
            batch_id=None if batch is None else find_batch(ledger, batch).id,
            reason=reason,
            stratum=Stratum.SAMPLED if sampled else None,
            limit=limit,
        )
        with ledger.snapshot() as connection:
            counts = count_waiting(connection, wanted)
            shapes = tuple(map(WaitingShape.of, list_waiting(connection, wanted)))
    if as_json:
        say_json(
            ReviewListShape(
                flagged=counts[Stratum.FLAGGED], sampled=counts[Stratum.SAMPLED], reviews=shapes
            )
        )
    elif shapes:
        _say_waiting(shapes)
        if (more := sum(counts.values()) - len(shapes)) > 0:
            talk(f"\n{several(more, 'record')} more: --limit shows them")
        talk("\n`runner review show DOCUMENT` shows one, and the commands that decide on it")
    else:
        talk("nothing waits for a person")


def _say_waiting(shapes: Sequence[WaitingShape]) -> None:
    columns = (
        *(Column("document"), Column("batch"), Column("source", shrinks=True)),
        *(Column("since"), Column("why"), Column("message", shrinks=True)),
    )
    say_table(
        columns,
        [
            (
                *(one.document_id, one.batch, one.source),
                *(short_time(one.since), one.reason or "drawn for an audit", one.message),
            )
            for one in shapes
        ],
    )


@click.command("show", cls=Command, example=("runner review show invoices/0042.pdf",))
@click.argument("document")
@click.option("--full", is_flag=True, help="Show the whole text, not only the places of evidence.")
@json_option
@pass_session
def show(session: Session, /, *, document: str, full: bool, as_json: bool) -> None:
    """Show a record that waits: what speaks against it, where its values stand, what to type."""
    with session.ledger() as ledger:
        (waiting,) = find_waiting(ledger, [find_document(ledger, document)])
        shape = _look_at(ledger, waiting)
    if as_json:
        say_json(shape)
    else:
        _say_review(shape, full=full)


def _look_at(ledger: Ledger, waiting: Waiting) -> ReviewShape:
    with ledger.snapshot() as connection:
        return ReviewShape.of_document(
            waiting,
            text=view_document(connection, waiting.document_id).text,
            calls=document_calls(connection, waiting.document_id),
            history=reviews_of(connection, waiting.document_id),
        )


def _say_review(shape: ReviewShape, *, full: bool) -> None:
    say(lines_of(_facts(shape)))
    if shape.errors:
        say("\nwhat is wrong\n" + lines_of((one.path or "-", one.message) for one in shape.errors))
    if shape.data is None:
        say("\nno record: nobody knows whether its last call was answered")
    else:
        say("\nrecord\n" + json.dumps(shape.data, indent=2, ensure_ascii=False))
    say_evidence(shape.evidence, shape.text)
    _say_text(shape, full=full)
    if shape.calls:
        say("\ncalls")
        say_calls(shape.calls, with_document=False)
    for past in shape.history:
        say(_past(past))
    talk("\n" + lines_of(_commands(shape)))


def _facts(shape: ReviewShape) -> list[tuple[str, object]]:
    return [
        ("document", shape.document_id),
        ("source", shape.source),
        ("batch", shape.batch),
        ("job", shape.job),
        ("why", shape.reason or "drawn for an audit, from what seems right"),
        ("message", shape.message),
        ("flags", ", ".join(shape.flags)),
        ("model", shape.model),
        ("since", shape.since),
    ]


def _say_text(shape: ReviewShape, *, full: bool) -> None:
    if shape.text is None:
        say("\nthe text was removed")
    elif not full and (lines := _lines_around(shape, shape.text)):
        say("\ntext around it\n" + "\n".join(lines))
    else:
        cut = shape.text if full else shape.text[:TEXT_CHARS_MAX]
        rest = len(shape.text) - len(cut)
        say("\ntext\n" + cut + (f"\n… {rest:,} more characters: --full shows them" if rest else ""))


def _lines_around(shape: ReviewShape, text: str) -> list[str]:
    """Where the doubtful values stand, else where any do."""
    doubted = {error.path for error in shape.errors}
    places = [one for one in shape.evidence if one.path in doubted] or shape.evidence
    return excerpt(text, [(one.start, one.end) for one in places])


def _past(past: ReviewedShape) -> str:
    note = f": {past.note}" if past.note else ""
    return f"{short_time(past.at)}  an earlier record was {past.decision} by {past.reviewer}{note}"


def _commands(shape: ReviewShape) -> list[tuple[str, str]]:
    one = shape.document_id
    commands = [
        ("it is right", f"runner review accept {one}"),
        ("a value is wrong", f"runner review correct {one} --set PATH=VALUE"),
        ("it is no such document", f"runner review reject {one} --note WHY"),
        ("ask once more", f"runner review again {one}"),
    ]
    if shape.data is None:
        commands[:2] = [("give it a record", f"runner review correct {one} --data FILE")]
    return commands if shape.stratum is Stratum.FLAGGED else commands[:-1]
