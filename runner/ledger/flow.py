"""What flows through the queue: calls as they begin and end, read a few at a time by whoever looks.

Attempt ids sort by time of birth, so that what is new is found by the last id seen, at a price that
grows with what happened since and not with the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from runner.keys import first_id
from runner.ledger.dialect import chunks
from runner.ledger.tables import attempt, batch
from runner.model import AttemptState

UNDER_WAY = (AttemptState.INTENT, AttemptState.ANSWERED)


@dataclass(frozen=True, slots=True)
class Flowing:
    """One call as far as it has got; made-up money is no money."""

    id: str
    is_over: bool
    fault: str | None
    spent_nusd: int  # what may have been paid counts as paid
    began_us: int


def _calls() -> Select[Any]:
    paid_nusd = func.coalesce(attempt.c.cost_nusd, 0) + attempt.c.ambiguous_nusd
    return select(
        attempt.c.id,
        attempt.c.state,
        attempt.c.fault,
        case((batch.c.simulated.is_(True), 0), else_=paid_nusd).label("spent_nusd"),
        attempt.c.created_us,
    ).join(batch, batch.c.id == attempt.c.batch_id)


def _flowing(rows: Any) -> list[Flowing]:
    return [
        Flowing(row.id, row.state not in UNDER_WAY, row.fault, row.spent_nusd, row.created_us)
        for row in rows
    ]


def newest_calls(connection: Connection, *, since_us: int, limit: int) -> list[Flowing]:
    """Calls that began at that time or later, the newest ones and at most so many; newest first."""
    query = _calls().where(attempt.c.id >= first_id("a", at_us=since_us))
    return _flowing(connection.execute(query.order_by(attempt.c.id.desc()).limit(limit)))


def calls_of(connection: Connection, ids: Sequence[str]) -> list[Flowing]:
    """These calls as they are now."""
    return [
        one
        for some in chunks(ids)
        for one in _flowing(connection.execute(_calls().where(attempt.c.id.in_(some))))
    ]


@dataclass(frozen=True, slots=True)
class Endings:
    """How some calls ended: good ones under None, the others by fault."""

    calls: int
    by_fault: Mapping[str | None, int]


def recent_endings(connection: Connection, *, since_us: int, limit: int) -> Endings:
    """How calls ended that began at that time or later, the newest ones and at most so many."""
    newest = (
        select(attempt.c.fault)
        .where(attempt.c.id >= first_id("a", at_us=since_us), attempt.c.state.not_in(UNDER_WAY))
        .order_by(attempt.c.id.desc())
        .limit(limit)
        .subquery()
    )
    counted = select(newest.c.fault, func.count().label("calls")).group_by(newest.c.fault)
    rows = connection.execute(counted.order_by(func.count().desc())).all()
    return Endings(sum(row.calls for row in rows), {row.fault: row.calls for row in rows})
