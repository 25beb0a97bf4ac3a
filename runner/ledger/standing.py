"""How things stand: counts by state, money, ages and progress of batches and of the whole queue."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from runner.ledger.money import budget_scope
from runner.ledger.pausing import held_by_past_days
from runner.ledger.submission import Batch, batch_from_row
from runner.ledger.tables import attempt, batch, budget, document, source
from runner.ledger.workers import WorkerRow, living
from runner.model import OPEN_STATES, AttemptState, BatchState, DocumentState, Purpose

_CALLED = [state for state in AttemptState if state is not AttemptState.NOT_SENT]


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
    """How one batch stands; counted by indexes alone, however many documents it has."""
    money = connection.execute(select(budget).where(budget.c.scope == budget_scope(found.id))).one()
    return BatchStanding(
        batch=found,
        states=state_counts(connection, found.id),
        sources=_count(connection, select(source.c.id).where(source.c.batch_id == found.id)),
        calls=_count(
            connection,
            select(attempt.c.id).where(
                attempt.c.batch_id == found.id, attempt.c.state.in_(_CALLED)
            ),
        ),
        limit_nusd=money.limit_nusd,
        settled_nusd=money.settled_nusd,
        ambiguous_nusd=money.ambiguous_nusd,
        held_nusd=money.held_nusd,
        cost_known=connection.execute(
            select(document.c.id)
            .where(document.c.batch_id == found.id, document.c.cost_known.is_(False))
            .limit(1)
        ).first()
        is None,
    )


def _count(connection: Connection, rows: Select[Any]) -> int:
    return int(connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one())


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
    """How the whole queue stands now.

    Of documents that were never called, the first in the line of each batch counts for the oldest.
    """
    queued = document.c.state == DocumentState.QUEUED
    delayed = select(document.c.id).where(
        queued,
        # each batch by itself, so that the index finds the few that are not due
        document.c.batch_id.in_(select(batch.c.id)),
        document.c.tried.in_([False, True]),
        document.c.due_us > now_us,
    )
    oldest_us = min(_queued_since(connection, waiting_batches(connection)), default=None)
    return QueueStanding(
        states=state_counts(connection, None),
        delayed=_count(connection, delayed),
        oldest_age_s=None if oldest_us is None else max(0, now_us - oldest_us) / 1e6,
        workers=tuple(living(connection)),
    )


def oldest_in_line_us(connection: Connection) -> int | None:
    """Since when the oldest document waits that nothing holds; those of paused batches are held."""
    goes_on = set(
        connection.execute(select(batch.c.id).where(batch.c.state == BatchState.ACTIVE)).scalars()
    )
    open_batches = (one for one in waiting_batches(connection) if one in goes_on)
    return min(_queued_since(connection, open_batches), default=None)


def _queued_since(connection: Connection, batch_ids: Iterable[str]) -> Iterator[int]:
    """Since when documents wait: those on the road, those called before, and each line's first."""
    waits = select(func.min(document.c.queued_us))
    queued = document.c.state == DocumentState.QUEUED
    some = [waits.where(document.c.state == DocumentState.READY)]
    for batch_id in batch_ids:
        mine = (queued, document.c.batch_id == batch_id)
        some.append(waits.where(*mine, document.c.tried.is_(True)))
        line = select(document.c.queued_us).where(*mine, document.c.tried.is_(False))
        some.append(line.order_by(document.c.due_us, document.c.position).limit(1))
    for one in some:
        if (since_us := connection.execute(one).scalar()) is not None:
            yield since_us


def waiting_batches(connection: Connection) -> Iterator[str]:
    """The batches that have queued documents, in the order of their ids."""
    # A skip scan: one index look-up a batch, however many documents wait.
    last = ""
    while True:
        found = connection.execute(
            select(func.min(document.c.batch_id)).where(
                document.c.state == DocumentState.QUEUED, document.c.batch_id > last
            )
        ).scalar()
        if found is None:
            return
        yield found
        last = found


def all_batches(connection: Connection, *, limit: int) -> list[Batch]:
    """The newest runs first; what was only tried or evaluated is left out."""
    runs = select(batch).where(batch.c.purpose == Purpose.RUN)
    rows = connection.execute(runs.order_by(batch.c.id.desc()).limit(limit))
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
