"""How things stand: counts by state, money, ages and progress of batches and of the whole queue."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from runner.ledger.money import budget_scope
from runner.ledger.pausing import held_by_past_days
from runner.ledger.submission import Batch, batch_from_row
from runner.ledger.tables import batch, budget, document, source
from runner.ledger.workers import WorkerRow, living
from runner.model import OPEN_STATES, BatchState, DocumentState


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStanding:
    """One batch: its documents by state, its sources, and its money in nano-dollars."""

    batch: Batch
    states: Mapping[DocumentState, int]
    sources: int
    calls: int
    limit_nusd: int | None
    settled_nusd: int
    ambiguous_nusd: int
    held_nusd: int
    cost_known: bool

    @property
    def accepted(self) -> int:
        """Documents of the batch."""
        return sum(self.states.values())

    @property
    def open(self) -> int:
        """Documents that have not ended."""
        return sum(self.states[state] for state in OPEN_STATES)

    @property
    def duplicate(self) -> int:
        """Further sources of documents that were known already."""
        return self.sources - self.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStanding:
    """The whole queue: depth by state, how much waits for its time, and the oldest age."""

    states: Mapping[DocumentState, int]
    delayed: int
    oldest_age_s: float | None
    workers: tuple[WorkerRow, ...]


def batch_standing(connection: Connection, found: Batch) -> BatchStanding:
    """How one batch stands now."""
    states = dict.fromkeys(DocumentState, 0)
    calls = 0
    known = True
    rows = connection.execute(
        select(
            document.c.state,
            func.count().label("documents"),
            func.sum(document.c.calls).label("calls"),
            func.sum(document.c.cost_known.is_(False)).label("unknown")
            if connection.dialect.name == "sqlite"
            else func.count().filter(document.c.cost_known.is_(False)).label("unknown"),
        )
        .where(document.c.batch_id == found.id)
        .group_by(document.c.state)
    )
    for row in rows:
        states[DocumentState(row.state)] = row.documents
        calls += row.calls
        known = known and not row.unknown
    money = connection.execute(select(budget).where(budget.c.scope == budget_scope(found.id))).one()
    return BatchStanding(
        batch=found,
        states=states,
        sources=_source_count(connection, found.id),
        calls=calls,
        limit_nusd=money.limit_nusd,
        settled_nusd=money.settled_nusd,
        ambiguous_nusd=money.ambiguous_nusd,
        held_nusd=money.held_nusd,
        cost_known=known,
    )


def _source_count(connection: Connection, batch_id: str) -> int:
    counted = select(func.count()).select_from(source).where(source.c.batch_id == batch_id)
    return int(connection.execute(counted).scalar_one())


def state_counts(connection: Connection, batch_id: str | None) -> dict[DocumentState, int]:
    """Documents by state, of one batch or of all; cheap enough to ask every second."""
    counted = select(document.c.state, func.count()).group_by(document.c.state)
    if batch_id is not None:
        counted = counted.where(document.c.batch_id == batch_id)
    counts = dict.fromkeys(DocumentState, 0)
    for state, count in connection.execute(counted):
        counts[DocumentState(state)] = count
    return counts


def queue_standing(connection: Connection, *, now_us: int) -> QueueStanding:
    """How the whole queue stands now."""
    waiting = document.c.state == DocumentState.QUEUED
    delayed = connection.execute(
        select(func.count()).select_from(document).where(waiting, document.c.due_us > now_us)
    ).scalar_one()
    oldest_us = connection.execute(
        select(func.min(document.c.queued_us)).where(
            document.c.state.in_([DocumentState.QUEUED, DocumentState.READY])
        )
    ).scalar()
    return QueueStanding(
        states=state_counts(connection, None),
        delayed=delayed,
        oldest_age_s=None if oldest_us is None else max(0, now_us - oldest_us) / 1e6,
        workers=tuple(living(connection)),
    )


def all_batches(connection: Connection, *, limit: int) -> list[Batch]:
    """The newest batches first."""
    rows = connection.execute(select(batch).order_by(batch.c.id.desc()).limit(limit))
    return [batch_from_row(row) for row in rows]


def has_open_documents(connection: Connection, *, now_us: int) -> bool:
    """Whether workers still have something to do: what runs, and what waits in no paused batch.

    A batch that a day holds which is over is about to go on.
    """
    if held_by_past_days(connection, now_us=now_us):
        return True
    waits = (
        select(document.c.id)
        .join(batch, batch.c.id == document.c.batch_id)
        .where(
            document.c.state.in_(OPEN_STATES),
            (batch.c.state != BatchState.PAUSED) | (document.c.state == DocumentState.RUNNING),
        )
        .limit(1)
    )
    return connection.execute(waits).first() is not None
