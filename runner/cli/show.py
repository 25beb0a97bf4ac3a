"""`runner show`: everything about one document."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from runner.cli.calls import say_calls
from runner.cli.commands import Command, json_option
from runner.cli.lookup import find_document
from runner.cli.session import Session, pass_session
from runner.cli.shapes.documents import DocumentShape, EvidenceShape
from runner.cli.terminal import lines_of, plain, say, say_json, talk
from runner.cli.wording import usd
from runner.files import write_text
from runner.ledger import Ledger
from runner.ledger.calls import document_calls, events, view_document
from runner.model import How

TEXT_CHARS_MAX = 2_000


@click.command(
    cls=Command,
    example=(
        "runner show invoices/0042.pdf",
        "runner show dk3x7q",
        "runner show dk3x7q --json",
        "runner show dk3x7q --html page.html",
    ),
)
@click.argument("document")
@click.option("--full", is_flag=True, help="Show the whole text, not only its beginning.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with the text, the place of each value marked in it.",
)
@json_option
@pass_session
def show(
    session: Session, /, *, document: str, full: bool, html: Path | None, as_json: bool
) -> None:
    """Show one document: state, record, evidence, flags, calls, cost, text.

    DOCUMENT is its id, the beginning of its id, or the name of its source.
    """
    with session.ledger() as ledger:
        document_id = find_document(ledger, document)
        shape = look_at(ledger, document_id)
        if html is not None:
            write_text(html, page_of(ledger, document_id))
            talk(f"{plain(str(html))} shows {document_id}")
    if as_json:
        say_json(shape)
    elif html is None:
        say_document(shape, text_chars_max=None if full else TEXT_CHARS_MAX)


def look_at(ledger: Ledger, document_id: str) -> DocumentShape:
    """A document with its calls and events."""
    with ledger.snapshot() as connection:
        return DocumentShape.of(
            view_document(connection, document_id),
            calls=document_calls(connection, document_id),
            events=events(connection, document_id=document_id),
        )


def page_of(ledger: Ledger, document_id: str) -> str:
    """The page of a document, from one moment of the ledger."""
    # jinja2 takes 60 ms to load, and only this asks for it
    from runner.pages.document import document_page  # noqa: PLC0415

    with ledger.snapshot() as connection:
        return document_page(
            view_document(connection, document_id),
            calls=document_calls(connection, document_id),
            events=events(connection, document_id=document_id),
        )


def say_document(shape: DocumentShape, *, text_chars_max: int | None) -> None:
    """Write a document for a person."""
    say(lines_of(_facts(shape)))
    if shape.data is not None:
        say("\nrecord\n" + json.dumps(shape.data, indent=2, ensure_ascii=False))
    say_evidence(shape.evidence, shape.text)
    if shape.calls:
        say("\ncalls")
        say_calls(shape.calls, with_document=False)
    for event in shape.events:
        say(f"{event.at}  {event.kind}: {event.message}")
    if shape.text is not None:
        cut = shape.text if text_chars_max is None else shape.text[:text_chars_max]
        rest = len(shape.text) - len(cut)
        say("\ntext\n" + cut + (f"\n… {rest:,} more characters: --full shows them" if rest else ""))


def say_evidence(evidence: Sequence[EvidenceShape], text: str | None) -> None:
    """Write where in the text each value stands."""
    if evidence and text is not None:
        say("\nevidence\n" + lines_of([(one.path, _words(text, one)) for one in evidence]))


def _words(text: str, evidence: EvidenceShape) -> str:
    near = "" if evidence.how is How.EXACT else f"  ({evidence.how})"
    line = text.count("\n", 0, evidence.start) + 1
    return f"line {line}: {plain(text[evidence.start : evidence.end])}{near}"


def _facts(shape: DocumentShape) -> list[tuple[str, object]]:
    return [
        ("document", shape.document_id),
        ("sources", ", ".join(shape.sources)),
        ("batch", shape.batch),
        ("job", shape.job),
        ("state", shape.state),
        ("reason", shape.reason),
        ("message", shape.message),
        ("flags", ", ".join(shape.flags)),
        ("model", shape.model),
        ("cost", usd(shape.cost_usd)),
        ("ambiguous", usd(shape.ambiguous_usd) if shape.ambiguous_usd else None),
        ("attempts", shape.attempts or None),
        ("deferrals", shape.deferrals or None),
        ("crashes", shape.crashes or None),
        ("submitted", shape.created),
        ("due", shape.due),
        ("finished", shape.finished),
        ("bodies dropped", shape.pruned),
        ("trace id", shape.trace_id),
    ]
