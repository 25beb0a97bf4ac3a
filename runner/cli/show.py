"""`runner show`: everything about one document."""

import json

import click

from runner.cli.calls import say_calls
from runner.cli.commands import Command, json_option
from runner.cli.lookup import find_document, look_at
from runner.cli.session import Session, pass_session
from runner.cli.shapes import DocumentShape
from runner.cli.terminal import lines_of, say, say_json
from runner.cli.wording import usd

TEXT_CHARS_MAX = 2_000


@click.command(
    cls=Command,
    example=("runner show invoices/0042.pdf", "runner show dk3x7q", "runner show dk3x7q --json"),
)
@click.argument("document")
@click.option("--full", is_flag=True, help="Show the whole text, not only its beginning.")
@json_option
@pass_session
def show(session: Session, /, *, document: str, full: bool, as_json: bool) -> None:
    """Show one document: state, record, flags, calls, cost, text.

    DOCUMENT is its id, the beginning of its id, or the name of its source.
    """
    with session.ledger() as ledger:
        shape = look_at(ledger, find_document(ledger, document))
    if as_json:
        say_json(shape)
    else:
        say_document(shape, text_chars_max=None if full else TEXT_CHARS_MAX)


def say_document(shape: DocumentShape, *, text_chars_max: int | None) -> None:
    """Write a document for a person."""
    say(lines_of(_facts(shape)))
    if shape.data is not None:
        say("\nrecord\n" + json.dumps(shape.data, indent=2, ensure_ascii=False))
    if shape.calls:
        say("\ncalls")
        say_calls(shape.calls, with_document=False)
    for event in shape.events:
        say(f"{event.at}  {event.kind}: {event.message}")
    if shape.text is not None:
        cut = shape.text if text_chars_max is None else shape.text[:text_chars_max]
        rest = len(shape.text) - len(cut)
        say("\ntext\n" + cut + (f"\n… {rest:,} more characters: --full shows them" if rest else ""))


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
        ("trace id", shape.trace_id),
    ]
