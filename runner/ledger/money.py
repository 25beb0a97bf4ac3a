"""The money of a batch or a day: what is held, settled and ambiguous, moved in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, case, null, select, update

from runner.ledger.dialect import insert_new
from runner.ledger.tables import budget

DAY = "day:"
DAY_US = 86_400_000_000


def budget_scope(batch_id: str) -> str:
    """The budget row of a batch."""
    return f"batch:{batch_id}"


def day_scope(at_us: int) -> str:
    """The budget row of the UTC day of this time."""
    return f"{DAY}{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d}"


def scopes_of(batch_id: str, *, simulated: bool, at_us: int) -> tuple[str, ...]:
    """Where the money of an attempt counts that was claimed at this time.

    Made-up money counts in its batch alone.
    """
    of_batch = budget_scope(batch_id)
    return (of_batch,) if simulated else (of_batch, day_scope(at_us))


def move_money(
    connection: Connection,
    *,
    held: Mapping[str, int],
    settled: Mapping[str, int] | None = None,
    ambiguous: Mapping[str, int] | None = None,
) -> None:
    """Add these amounts (nano-dollars, may be negative) to the scopes named in `held`."""
    for scope in sorted(held):  # in one order everywhere: two transactions never wait crosswise
        connection.execute(
            update(budget)
            .where(budget.c.scope == scope)
            .values(
                held_nusd=budget.c.held_nusd + held[scope],
                settled_nusd=budget.c.settled_nusd + (settled or {}).get(scope, 0),
                ambiguous_nusd=budget.c.ambiguous_nusd + (ambiguous or {}).get(scope, 0),
            )
        )


def set_limit(connection: Connection, scope: str, limit_nusd: int) -> None:
    """Set the most that a scope may spend; more than before arms its alert anew."""
    insert_new(connection, budget, [{"scope": scope}])
    more = budget.c.limit_nusd.is_(None) | (budget.c.limit_nusd < limit_nusd)
    connection.execute(
        update(budget)
        .where(budget.c.scope == scope)
        .values(limit_nusd=limit_nusd, alerted_us=case((more, null()), else_=budget.c.alerted_us))
    )


@dataclass(frozen=True, slots=True)
class Day:
    """The money of one UTC day, in nano-dollars; `limit_nusd` is what a person raised it to."""

    date: str
    settled_nusd: int
    ambiguous_nusd: int
    held_nusd: int
    limit_nusd: int | None


def day_of(connection: Connection, *, now_us: int) -> Day:
    """Today's money."""
    scope = day_scope(now_us)
    row = connection.execute(select(budget).where(budget.c.scope == scope)).one_or_none()
    date = scope.removeprefix(DAY)
    if row is None:
        return Day(date, settled_nusd=0, ambiguous_nusd=0, held_nusd=0, limit_nusd=None)
    return Day(date, row.settled_nusd, row.ambiguous_nusd, row.held_nusd, row.limit_nusd)


def day_limit_nusd(connection: Connection, *, now_us: int) -> int | None:
    """What a person raised today's limit to; None when nobody did."""
    return connection.execute(
        select(budget.c.limit_nusd).where(budget.c.scope == day_scope(now_us))
    ).scalar()


def larger_limit_nusd(raised_nusd: int | None, by_settings_nusd: int | None) -> int | None:
    """What a day may spend: the larger of what a person raised it to and of the settings."""
    given = [limit for limit in (raised_nusd, by_settings_nusd) if limit is not None]
    return max(given, default=None)
