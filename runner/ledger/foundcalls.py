"""What a list of search results says of each call and its document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, null, select

from runner.ledger.dialect import chunks
from runner.ledger.sources import FIRST_NAME
from runner.ledger.tables import attempt, batch, document


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCall:
    """A call, or a document that had none, and where it belongs."""

    batch_id: str
    batch_name: str
    job: str
    state: str  # of the document
    source: str
    number: int | None
    model: str | None
    prompt_id: str | None
    fault: str | None
    cost_nusd: int | None
    ambiguous_nusd: int
    at_us: int


def found_calls(
    connection: Connection, hits: Iterable[tuple[str, str | None]]
) -> Mapping[tuple[str, str | None], FoundCall]:
    """By document id and attempt id, what there is to say of each."""
    found: dict[tuple[str, str | None], FoundCall] = {}
    wanted = list(dict.fromkeys(hits))
    for some in chunks([attempt_id for _, attempt_id in wanted if attempt_id is not None]):
        rows = connection.execute(_calls().where(attempt.c.id.in_(some))).mappings()
        found |= {(row["document_id"], row["attempt_id"]): _read(row) for row in rows}
    for some in chunks([document_id for document_id, attempt_id in wanted if attempt_id is None]):
        rows = connection.execute(_uncalled().where(document.c.id.in_(some))).mappings()
        found |= {(row["document_id"], None): _read(row) for row in rows}
    return found


def _read(row: RowMapping) -> FoundCall:
    return FoundCall(**{name: row[name] for name in FoundCall.__slots__})


def _query(*columns: ColumnElement[Any]) -> Select[Any]:
    return select(
        document.c.id.label("document_id"),
        document.c.batch_id,
        batch.c.name.label("batch_name"),
        batch.c.job,
        document.c.state,
        FIRST_NAME.label("source"),
        *columns,
    ).join(batch, batch.c.id == document.c.batch_id)


def _calls() -> Select[Any]:
    return _query(
        attempt.c.id.label("attempt_id"),
        attempt.c.number,
        attempt.c.model,
        attempt.c.prompt_id,
        attempt.c.fault,
        attempt.c.cost_nusd,
        attempt.c.ambiguous_nusd,
        attempt.c.created_us.label("at_us"),
    ).join(attempt, attempt.c.document_id == document.c.id)


def _uncalled() -> Select[Any]:
    return _query(
        null().label("number"),
        null().label("model"),
        null().label("prompt_id"),
        document.c.reason.label("fault"),
        document.c.cost_nusd,
        document.c.ambiguous_nusd,
        func.coalesce(document.c.finished_us, document.c.created_us).label("at_us"),
    )
