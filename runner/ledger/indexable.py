"""What the search index reads of a ledger on SQLite: calls in the order in which they were begun.

That order is the row number of the table of attempts. Rows are never deleted from it, so numbers
only grow, whatever clocks do; `is_known` tells when a ledger is not the one that was read before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    exists,
    func,
    literal_column,
    select,
)

from runner.ledger.tables import attempt, document, source
from runner.model import AttemptState, DocumentState

SETTLED = (AttemptState.CONCLUDED, AttemptState.AMBIGUOUS, AttemptState.NOT_SENT)

_ROW: ColumnElement[int] = literal_column("attempt.rowid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexable:
    """A call, or a document that ended without one: then `attempt_id` is None."""

    row: int
    attempt_id: str | None
    is_settled: bool
    document_id: str
    batch_id: str
    text_digest: bytes | None
    text_bytes: int
    model: str | None
    prompt_id: str | None
    fault: str | None
    message: str | None
    status: int | None
    answer_digest: bytes | None
    headers_json: str | None
    created_us: int
    cost_nusd: int  # what may have been billed at its worst


@dataclass(frozen=True, slots=True)
class SourceName:
    """A source of a document."""

    id: int
    document_id: str
    name: str


def _calls() -> Select[Any]:
    return select(
        _ROW.label("row"),
        attempt.c.id.label("attempt_id"),
        attempt.c.state.in_(SETTLED).label("is_settled"),
        attempt.c.document_id,
        attempt.c.batch_id,
        document.c.text_digest,
        document.c.text_bytes,
        attempt.c.model,
        attempt.c.prompt_id,
        attempt.c.fault,
        attempt.c.message,
        attempt.c.status,
        attempt.c.answer_digest,
        attempt.c.headers_json,
        attempt.c.created_us,
        (func.coalesce(attempt.c.cost_nusd, 0) + attempt.c.ambiguous_nusd).label("cost_nusd"),
    ).join(document, document.c.id == attempt.c.document_id)


def _read(connection: Connection, query: Select[Any]) -> list[Indexable]:
    return [Indexable(**row) for row in connection.execute(query).mappings()]


def calls_after(connection: Connection, row: int, *, limit: int) -> list[Indexable]:
    """The calls that were begun after this row."""
    return _read(connection, _calls().where(row < _ROW).order_by(_ROW).limit(limit))


def calls_of_ids(connection: Connection, ids: Sequence[str]) -> list[Indexable]:
    """These calls, those that have ended."""
    query = _calls().where(attempt.c.id.in_(list(ids)), attempt.c.state.in_(SETTLED))
    return _read(connection, query.order_by(_ROW))


def calls_of_documents(connection: Connection, ids: Sequence[str]) -> list[Indexable]:
    """All calls of these documents, and of those that had none the document itself."""
    calls = _read(connection, _calls().where(attempt.c.document_id.in_(list(ids))).order_by(_ROW))
    return calls + _read(connection, _uncalled().where(document.c.id.in_(list(ids))))


def last_row(connection: Connection) -> int:
    """How many calls were begun so far."""
    return int(
        connection.execute(
            select(func.coalesce(func.max(_ROW), 0)).select_from(attempt)
        ).scalar_one()
    )


def is_known(connection: Connection, *, row: int, attempt_id: str) -> bool:
    """Whether this row is still this call: else the ledger was put back, or is another one."""
    found = connection.execute(select(attempt.c.id).where(row == _ROW)).scalar()
    return bool(found == attempt_id)


def _uncalled() -> Select[Any]:
    none = literal_column("NULL")
    return select(
        literal_column("0").label("row"),
        none.label("attempt_id"),
        literal_column("1").label("is_settled"),
        document.c.id.label("document_id"),
        document.c.batch_id,
        document.c.text_digest,
        document.c.text_bytes,
        none.label("model"),
        none.label("prompt_id"),
        document.c.reason.label("fault"),
        document.c.message,
        none.label("status"),
        none.label("answer_digest"),
        none.label("headers_json"),
        document.c.finished_us.label("created_us"),
        literal_column("0").label("cost_nusd"),
    ).where(
        document.c.state == DocumentState.DEAD,
        ~exists().where(attempt.c.document_id == document.c.id),
    )


def dead_counts(connection: Connection) -> dict[str, int]:
    """How many dead letters each batch has: when that is as before, none came."""
    rows = connection.execute(
        select(document.c.batch_id, func.count())
        .where(document.c.state == DocumentState.DEAD)
        .group_by(document.c.batch_id)
    )
    return dict(rows.all())


def dead_without_call(connection: Connection, batch_id: str) -> list[str]:
    """Dead letters of a batch for which nothing was called, such as unparsable ones."""
    query = _uncalled().with_only_columns(document.c.id).where(document.c.batch_id == batch_id)
    return list(connection.execute(query).scalars())


def names_after(connection: Connection, source_id: int, *, limit: int) -> list[SourceName]:
    """The sources that came after this one."""
    query = _names().where(source.c.id > source_id).order_by(source.c.id).limit(limit)
    return [SourceName(*row) for row in connection.execute(query)]


def names_of(connection: Connection, document_ids: Sequence[str]) -> list[SourceName]:
    """Every source of these documents."""
    query = _names().where(source.c.document_id.in_(list(document_ids))).order_by(source.c.id)
    return [SourceName(*row) for row in connection.execute(query)]


def _names() -> Select[Any]:
    return select(source.c.id, source.c.document_id, source.c.name)
