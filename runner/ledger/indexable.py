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
    or_,
    select,
)

from runner.ledger.dialect import chunks
from runner.ledger.sources import HAS_SOURCE
from runner.ledger.tables import attempt, document, source
from runner.model import AttemptState, DocumentState

SETTLED = (AttemptState.CONCLUDED, AttemptState.AMBIGUOUS, AttemptState.NOT_SENT)

_NO_ROW: ColumnElement[int] = literal_column("0")
_row: ColumnElement[int] = literal_column("attempt.rowid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexable:
    """A call, or a document that ended without one: then `attempt_id` is None."""

    row: int
    attempt_id: str | None
    is_settled: bool
    document_id: str
    batch_id: str
    is_erased: bool
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


def _calls(row: ColumnElement[int]) -> Select[Any]:
    return select(
        row.label("row"),
        attempt.c.id.label("attempt_id"),
        attempt.c.state.in_(SETTLED).label("is_settled"),
        attempt.c.document_id,
        attempt.c.batch_id,
        document.c.erased_us.is_not(None).label("is_erased"),
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
    return _read(connection, _calls(_row).where(_row > row).order_by(_row).limit(limit))


def calls_of_ids(connection: Connection, ids: Sequence[str]) -> list[Indexable]:
    """These calls, those that have ended, the oldest first; their rows are not told."""
    ended = _calls(_NO_ROW).where(attempt.c.state.in_(SETTLED)).order_by(attempt.c.id)
    return [
        call
        for some in chunks(ids)
        for call in _read(connection, ended.where(attempt.c.id.in_(some)))
    ]


def calls_of_documents(connection: Connection, ids: Sequence[str]) -> list[Indexable]:
    """All calls of these documents, and of those that had none the document itself."""
    return [
        call
        for some in chunks(ids)
        for query in (
            _calls(_NO_ROW).where(attempt.c.document_id.in_(some)),
            _uncalled(_IS_DEAD_OF_FEW).where(document.c.id.in_(some)),
        )
        for call in _read(connection, query)
    ]


def last_row(connection: Connection) -> int:
    """How many calls were begun so far."""
    return int(
        connection.execute(
            select(func.coalesce(func.max(_row), 0)).select_from(attempt)
        ).scalar_one()
    )


def is_known(connection: Connection, *, row: int, attempt_id: str) -> bool:
    """Whether this row is still this call: else the ledger was put back, or is another one."""
    found = connection.execute(select(attempt.c.id).where(_row == row)).scalar()
    return bool(found == attempt_id)


_IS_DEAD: ColumnElement[bool] = document.c.state == DocumentState.DEAD
# of documents that are named: SQLite would rather look through the index of all dead letters
# (0.09 s of 20,000 for fifty documents)
_IS_DEAD_OF_FEW: ColumnElement[bool] = document.c.state.concat("") == DocumentState.DEAD


def _uncalled(is_dead: ColumnElement[bool]) -> Select[Any]:
    none: ColumnElement[Any] = literal_column("NULL")
    return select(
        _NO_ROW.label("row"),
        none.label("attempt_id"),
        literal_column("1").label("is_settled"),
        document.c.id.label("document_id"),
        document.c.batch_id,
        document.c.erased_us.is_not(None).label("is_erased"),
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
        is_dead,
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
    query = (
        _uncalled(_IS_DEAD).with_only_columns(document.c.id).where(document.c.batch_id == batch_id)
    )
    return list(connection.execute(query).scalars())


def last_source(connection: Connection) -> int:
    """The number of the source that came last."""
    return int(connection.execute(select(func.max(source.c.id))).scalar() or 0)


def names_between(connection: Connection, after: int, upto: int) -> list[SourceName]:
    """The sources of these numbers whose documents have been called, or have ended without it.

    Those of a backlog are not among them: they are found when their documents are.
    """
    query = (
        _names()
        .join(document, document.c.id == source.c.document_id)
        .where(
            source.c.id > after,
            source.c.id <= upto,
            or_(document.c.calls > 0, document.c.state == DocumentState.DEAD),
        )
    )
    return [SourceName(*row) for row in connection.execute(query.order_by(source.c.id))]


def names_of(connection: Connection, document_ids: Sequence[str]) -> list[SourceName]:
    """Every source of these documents."""
    return [
        SourceName(*row)
        for some in chunks(document_ids)
        for row in connection.execute(
            _names().join(document, HAS_SOURCE).where(document.c.id.in_(some))
        )
    ]


def _names() -> Select[Any]:
    return select(source.c.id, source.c.document_id, source.c.name)
