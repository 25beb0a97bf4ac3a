"""What metrics read of the ledger: attempts in the order of their ids, open batches, who works.

An attempt is counted once, when it has ended: nothing that is read here of its row changes then.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from runner.ledger.dialect import chunks
from runner.ledger.money import budget_scope
from runner.ledger.standing import state_counts, waiting_batches
from runner.ledger.tables import attempt, batch, budget, document, worker
from runner.model import AttemptState, BatchState, DocumentState

ROWS_AT_ONCE = 5_000
UNENDED = frozenset({AttemptState.INTENT, AttemptState.ANSWERED})

# Plain rows with these columns, not objects: 200,000 of them are read at a start.
_COLUMNS = [
    attempt.c[name]
    for name in (
        *("id", "batch_id", "created_us", "state", "model", "fault"),
        *("cost_nusd", "ambiguous_nusd"),
        *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"),
        *("reasoning_tokens", "queue_wait_us", "limiter_wait_us"),
        *("response_us", "parse_us", "total_us"),
    )
]


def attempts_after(connection: Connection, floor: str) -> Iterator[Any]:
    """Every attempt whose id is greater, in the order of their ids."""
    query = select(*_COLUMNS).where(attempt.c.id > floor).order_by(attempt.c.id)
    yield from _rows(connection, query)


def attempts_of(connection: Connection, ids: Iterable[str]) -> Iterator[Any]:
    """The attempts of these ids."""
    for some in chunks(ids):
        yield from _rows(connection, select(*_COLUMNS).where(attempt.c.id.in_(some)))


def _rows(connection: Connection, query: Select[Any]) -> Iterator[Any]:
    yield from connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)


def attempt_count(connection: Connection) -> int:
    """How many attempts there are; counted by an index alone."""
    return int(connection.execute(select(func.count()).select_from(attempt)).scalar_one())


def simulated_batches(connection: Connection) -> frozenset[str]:
    """The batches whose answers and costs are made up."""
    return frozenset(connection.execute(select(batch.c.id).where(batch.c.simulated)).scalars())


def workers_that_died(connection: Connection) -> int:
    """How many workers were taken for dead since the ledger began."""
    dead = select(func.count()).select_from(worker).where(worker.c.state == "dead")
    return int(connection.execute(dead).scalar_one())


def running_since_us(connection: Connection) -> int | None:
    """Since when the oldest of the running documents has waited for its end."""
    running = document.c.state == DocumentState.RUNNING
    return connection.execute(select(func.min(document.c.queued_us)).where(running)).scalar()


def held_nusd(connection: Connection) -> int:
    """The holds of all calls under way, made-up money included."""
    of_batches = budget.c.scope.startswith(budget_scope(""))
    return int(
        connection.execute(
            select(func.coalesce(func.sum(budget.c.held_nusd), 0)).where(of_batches)
        ).scalar_one()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch with documents that have not ended: its documents by state, and its money."""

    name: str
    job: str
    simulated: bool
    paused: bool
    states: Mapping[DocumentState, int]
    settled_nusd: int
    ambiguous_nusd: int
    held_nusd: int
    limit_nusd: int | None


def open_batches(connection: Connection, *, limit: int) -> list[OpenBatch]:
    """The newest batches with documents that have not ended."""
    on_the_road = (
        select(document.c.batch_id)
        .distinct()
        .where(document.c.state.in_([DocumentState.READY, DocumentState.RUNNING]))
    )
    ids = {*waiting_batches(connection), *connection.execute(on_the_road).scalars()}
    return list(_open_batches(connection, sorted(ids, reverse=True)[:limit]))


def _open_batches(connection: Connection, ids: Collection[str]) -> Iterator[OpenBatch]:
    for batch_id in ids:
        row = connection.execute(
            select(batch, budget)
            .join(budget, budget.c.scope == budget_scope(batch_id))
            .where(batch.c.id == batch_id)
        ).one()
        yield OpenBatch(
            name=row.name,
            job=row.job,
            simulated=row.simulated,
            paused=row.state == BatchState.PAUSED,
            states=state_counts(connection, batch_id),
            settled_nusd=row.settled_nusd,
            ambiguous_nusd=row.ambiguous_nusd,
            held_nusd=row.held_nusd,
            limit_nusd=row.limit_nusd,
        )
