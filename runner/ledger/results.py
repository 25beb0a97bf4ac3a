"""What a batch has given so far: one result a source, in order of submission, streamed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from runner.ledger.sources import HAS_SOURCE
from runner.ledger.tables import batch, document, record, source

PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One source and what became of its document; money and calls stand on the first one only."""

    document_id: str
    source: str
    state: str
    data: Any
    flags: tuple[str, ...]
    reason: str | None
    message: str | None
    prompt_id: str
    model: str | None
    calls: int
    cost_nusd: int | None
    ambiguous_nusd: int
    latency_us: int | None


def results(connection: Connection, batch_id: str) -> Iterator[Result]:
    """Every source of the batch, a page of rows in memory at a time."""
    last = 0
    while True:
        rows = connection.execute(
            select(
                source.c.id.label("source_id"),
                source.c.name,
                document,
                record.c.data_json,
                record.c.flags_json,
                record.c.model,
                record.c.prompt_id.label("record_prompt_id"),
                record.c.latency_us,
                batch.c.prompt_id.label("batch_prompt_id"),
            )
            .join(document, document.c.id == source.c.document_id)
            .join(batch, batch.c.id == document.c.batch_id)
            .outerjoin(record, record.c.document_id == document.c.id)
            .where(source.c.batch_id == batch_id, source.c.id > last)
            .order_by(source.c.id)
            .limit(PAGE)
        ).all()
        if not rows:
            return
        first_sources = _first_sources(connection, [row.id for row in rows])
        for row in rows:
            yield _result(row, first=first_sources[row.id] == row.source_id)
        last = rows[-1].source_id


def _first_sources(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    rows = connection.execute(
        select(source.c.document_id, func.min(source.c.id))
        .join(document, HAS_SOURCE)
        .where(document.c.id.in_(set(ids)))
        .group_by(source.c.document_id)
    )
    return dict(rows.all())


def _result(row: Any, *, first: bool) -> Result:
    return Result(
        document_id=row.id,
        source=row.name,
        state=row.state,
        data=None if row.data_json is None else json.loads(row.data_json),
        flags=tuple(json.loads(row.flags_json or "[]")),
        reason=row.reason,
        message=row.message,
        prompt_id=row.record_prompt_id or row.prompt_id or row.batch_prompt_id,
        model=row.model,
        calls=row.calls if first else 0,
        cost_nusd=(row.cost_nusd if row.cost_known else None) if first else 0,
        ambiguous_nusd=row.ambiguous_nusd if first else 0,
        latency_us=row.latency_us,
    )
