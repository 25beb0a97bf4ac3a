"""The call log: attempts with exact request and raw answer, documents with their history."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, Select, select

from runner.ledger import blobs
from runner.ledger.callfilters import CallFilter, conditions
from runner.ledger.evidence import read_evidence
from runner.ledger.sources import HAS_SOURCE
from runner.ledger.tables import attempt, batch, document, event, record, source
from runner.model import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt, its bodies left out."""

    id: str
    document_id: str
    batch_id: str
    number: int
    state: str
    worker_id: str
    model: str
    prompt_id: str
    status: int | None
    fault: str | None
    message: str | None
    hold_nusd: int | None
    cost_nusd: int | None
    ambiguous_nusd: int
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    service_tier: str | None
    created_us: int
    queue_wait_us: int
    limiter_wait_us: int
    response_us: int | None
    parse_us: int | None
    total_us: int | None


_ROW_COLUMNS = [attempt.c[name] for name in AttemptRow.__slots__]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBodies:
    """Exactly what was sent and what came back; None once removed."""

    request: bytes | None
    answer: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentView:
    """One document with all that is known of it but its calls."""

    id: str
    batch_id: str
    batch_name: str
    job: str
    state: str
    turn: int
    reason: str | None
    message: str | None
    attempts: int
    deferrals: int
    crashes: int
    calls: int
    cost_nusd: int | None
    ambiguous_nusd: int
    created_us: int
    due_us: int
    finished_us: int | None
    pruned_us: int | None  # when its text, requests and answers were dropped for age
    sources: tuple[str, ...]
    text: str | None
    data: Any
    flags: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    model: str | None
    prompt_id: str | None  # of the record


def _rows(connection: Connection, query: Select[Any]) -> list[AttemptRow]:
    return [AttemptRow(**row) for row in connection.execute(query).mappings()]


def list_calls(connection: Connection, wanted: CallFilter) -> list[AttemptRow]:
    """The newest attempts first (attempt ids sort by time of birth)."""
    query = (
        select(*_ROW_COLUMNS)
        .where(*conditions(connection, wanted))
        .order_by(attempt.c.id.desc())
        .limit(wanted.limit)
    )
    return _rows(connection, query)


def find_call(connection: Connection, attempt_id: str) -> AttemptRow | None:
    """One attempt."""
    found = _rows(connection, select(*_ROW_COLUMNS).where(attempt.c.id == attempt_id))
    return found[0] if found else None


def record_of_call(connection: Connection, attempt_id: str) -> str | None:
    """The data that this call gave its document, as JSON; None when it gave none."""
    return connection.execute(
        select(record.c.data_json)
        .join(attempt, attempt.c.document_id == record.c.document_id)
        .where(attempt.c.id == attempt_id, record.c.attempt_id == attempt_id)
    ).scalar()


def document_calls(connection: Connection, document_id: str) -> list[AttemptRow]:
    """A document's attempts, first one first."""
    return _rows(
        connection,
        select(*_ROW_COLUMNS)
        .where(attempt.c.document_id == document_id)
        .order_by(attempt.c.number, attempt.c.id),
    )


def call_bodies(connection: Connection, attempt_id: str) -> CallBodies:
    """The exact bytes of one attempt, put together again from what is stored once."""
    row = connection.execute(
        select(
            attempt.c.request_head_digest,
            attempt.c.request_tail_digest,
            attempt.c.answer_digest,
            attempt.c.headers_json,
            document.c.text_digest,
        )
        .join(document, document.c.id == attempt.c.document_id)
        .where(attempt.c.id == attempt_id)
    ).one()
    found = blobs.fetch(
        connection,
        (row.request_head_digest, row.request_tail_digest, row.answer_digest, row.text_digest),
    )
    return CallBodies(
        request=_request(row, found),
        answer=found.get(row.answer_digest),
        headers=json.loads(row.headers_json or "{}"),
    )


def _request(row: Any, found: Mapping[bytes, bytes]) -> bytes | None:
    head = found.get(row.request_head_digest)
    if head is None or row.request_tail_digest is None:
        return head
    tail = found.get(row.request_tail_digest)
    text = found.get(row.text_digest)
    if tail is None or text is None:
        return None
    return join_request(head, text.decode(), tail)


def escape_text(text: str) -> bytes:
    """A text as it stands inside a JSON string of a request body."""
    return to_json(text)[1:-1]


def split_request(body: bytes, text: str) -> tuple[bytes, bytes | None]:
    """Head and tail of a request around the document's text; (body, None) when it is not in it.

    Promise: `join_request(head, text, tail) == body` whenever the tail is not None.
    """
    escaped = escape_text(text)
    start = body.find(escaped) if escaped else -1
    return (body, None) if start < 0 else (body[:start], body[start + len(escaped) :])


def join_request(head: bytes, text: str, tail: bytes) -> bytes:
    """The exact request bytes again."""
    return head + escape_text(text) + tail


def find_documents(connection: Connection, id_or_source: str) -> list[str]:
    """Ids of the documents of this id, id prefix or source name, newest first."""
    escaped = id_or_source.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    by_id = select(document.c.id).where(document.c.id.like(f"{escaped}%", escape="\\")).limit(20)
    found = list(connection.execute(by_id).scalars())
    if found:
        return found
    by_source = (
        select(source.c.document_id)
        .where(source.c.name == id_or_source)
        .order_by(source.c.id.desc())
        .limit(20)
    )
    return list(dict.fromkeys(connection.execute(by_source).scalars()))


def source_names(connection: Connection, document_id: str) -> tuple[str, ...]:
    """The names of a document's sources, in the order of their submission."""
    names = (
        select(source.c.name)
        .join(document, HAS_SOURCE)
        .where(document.c.id == document_id)
        .order_by(source.c.id)
    )
    return tuple(connection.execute(names).scalars())


def view_document(connection: Connection, document_id: str) -> DocumentView:
    """One document as a person would look at it."""
    row = (
        connection.execute(
            select(document, batch.c.name.label("batch_name"), batch.c.job, record)
            .join(batch, batch.c.id == document.c.batch_id)
            .outerjoin(record, record.c.document_id == document.c.id)
            .where(document.c.id == document_id)
        )
        .mappings()
        .one()
    )
    texts = blobs.fetch(connection, [row[document.c.text_digest]])
    text = texts.get(row[document.c.text_digest])
    own = {
        name: row[document.c[name]]
        for name in DocumentView.__slots__
        if name in document.c and name not in ("cost_nusd", "prompt_id")
    }
    data_json = row[record.c.data_json]
    return DocumentView(
        **own,
        batch_name=row["batch_name"],
        job=row["job"],
        cost_nusd=row[document.c.cost_nusd] if row[document.c.cost_known] else None,
        sources=source_names(connection, document_id),
        text=None if text is None else text.decode(),
        data=None if data_json is None else json.loads(data_json),
        flags=tuple(json.loads(row[record.c.flags_json] or "[]")),
        evidence=read_evidence(row[record.c.evidence_json]),
        model=row[record.c.model],
        prompt_id=row[record.c.prompt_id],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened."""

    at_us: int
    kind: str
    batch_id: str | None
    document_id: str | None
    message: str


def events(
    connection: Connection,
    *,
    document_id: str | None = None,
    batch_id: str | None = None,
    limit: int = 20,
) -> Sequence[EventRow]:
    """The newest events first, of one document, of a batch as a whole, or of all."""
    query = select(
        event.c.at_us, event.c.kind, event.c.batch_id, event.c.document_id, event.c.message
    ).order_by(event.c.id.desc())
    if document_id is not None:
        query = query.where(event.c.document_id == document_id)
    if batch_id is not None:
        query = query.where(event.c.batch_id == batch_id)
    return [EventRow(**row) for row in connection.execute(query.limit(limit)).mappings()]
