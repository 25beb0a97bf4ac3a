"""The page of one document: its record field by field, and its text with the evidence marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.keys import trace_id
from runner.ledger.calls import AttemptRow, DocumentView, EventRow
from runner.model import Evidence

from . import render_page
from .marking import leaves, pieces
from .waterfall import waterfall


@dataclass(frozen=True, slots=True)
class FieldLine:
    """A value of the record, and the words of the document it stands on."""

    path: str
    value: Any
    evidence: Evidence | None
    words: str | None


def document_page(
    view: DocumentView, *, calls: Sequence[AttemptRow], events: Sequence[EventRow]
) -> str:
    """One document as HTML that stands alone."""
    return render_page("document.html", **document_parts(view, calls=calls, events=events))


def document_parts(
    view: DocumentView, *, calls: Sequence[AttemptRow], events: Sequence[EventRow]
) -> Mapping[str, Any]:
    """What `document.html` shows, wherever it is served."""
    return {
        "view": view,
        "trace_id": trace_id(view.id),
        "bars": waterfall(calls),
        "events": events,
        "fields": field_lines(view),
        "pieces": pieces(view.text or "", view.evidence),
    }


def field_lines(view: DocumentView) -> list[FieldLine]:
    """The record field by field, each with its evidence where it has one."""
    if view.data is None:
        return []
    found = {one.path: one for one in view.evidence}
    # a quote may be the ground of a whole list or object: its parts share it
    return [
        FieldLine(path, value, here, _words(view.text, here))
        for path, value in leaves(view.data)
        for here in [_evidence_of(path, found)]
    ]


def _evidence_of(path: str, found: dict[str, Evidence]) -> Evidence | None:
    while path not in found and "." in path:
        path = path.rpartition(".")[0]
    return found.get(path)


def _words(text: str | None, evidence: Evidence | None) -> str | None:
    if text is None or evidence is None:
        return None
    return text[evidence.start : evidence.end]
