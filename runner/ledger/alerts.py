"""Alerts: what a person should hear of money and pauses, each taken from the ledger once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from runner.ledger.events import note
from runner.ledger.money import DAY, budget_scope, day_scope, larger_limit_nusd
from runner.ledger.tables import alert, batch, budget
from runner.model import BatchState

BUDGET_ALERT = "budget_alert"
BATCH_PAUSED = "batch_paused"
UNSPENT_SHARE = 5  # an alert is due when no more than one part in so many is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing to tell; money is that of the scope, or of the batch where a key is its scope."""

    kind: str
    scope: str
    batch: str | None  # its name; none: it is not about one batch
    spent_nusd: int | None  # none: it is not about money
    limit_nusd: int | None
    message: str
    at_us: int


def is_mostly_spent(spent_nusd: int, limit_nusd: int | None) -> bool:
    """Whether 80 % of a limit are spent."""
    if limit_nusd is None or not spent_nusd:
        return False
    return spent_nusd >= limit_nusd - limit_nusd // UNSPENT_SHARE


def alerts_due(connection: Connection, *, day_limit_nusd: int | None, now_us: int) -> bool:
    """Whether `take_alerts` would give any; cheap enough to ask every second."""
    if next(_mostly_spent(connection, day_limit_nusd=day_limit_nusd, now_us=now_us), None):
        return True
    waits = (_paused().limit(1), select(alert.c.key).where(alert.c.waits).limit(1))
    return any(connection.execute(one).first() is not None for one in waits)


def take_alerts(connection: Connection, *, day_limit_nusd: int | None, now_us: int) -> list[Alert]:
    """What is to be told now; whoever takes it tells it, nobody is given it again.

    `day_limit_nusd` is what the settings let all batches together spend on a day.
    """
    spent = list(_mostly_spent(connection, day_limit_nusd=day_limit_nusd, now_us=now_us))
    alerts = [
        _budget_alert(connection, row, limit_nusd=limit_nusd, now_us=now_us)
        for row, limit_nusd in spent
    ]
    alerts += [
        _pause_alert(connection, row, day_limit_nusd=day_limit_nusd, now_us=now_us)
        for row in connection.execute(_paused()).all()
    ]
    alerts += [
        _raised_alert(connection, row)
        for row in connection.execute(_raised().order_by(alert.c.at_us, alert.c.key)).all()
    ]
    return [one for one in alerts if one is not None]


def _mostly_spent(
    connection: Connection, *, day_limit_nusd: int | None, now_us: int
) -> Iterator[tuple[Row[Any], int]]:
    """Budgets of which most is spent and nobody has heard, with their limit."""
    today = day_scope(now_us)
    spent_nusd = budget.c.settled_nusd + budget.c.ambiguous_nusd
    limit_nusd = budget.c.limit_nusd
    of_batch = ~budget.c.scope.startswith(DAY, autoescape=True) & (
        spent_nusd >= limit_nusd - limit_nusd // UNSPENT_SHARE
    )
    rows = connection.execute(
        select(budget).where(
            budget.c.alerted_us.is_(None), spent_nusd > 0, (budget.c.scope == today) | of_batch
        )
    )
    for row in rows.all():
        limit = row.limit_nusd
        if row.scope == today:
            limit = larger_limit_nusd(limit, day_limit_nusd)
        if is_mostly_spent(row.settled_nusd + row.ambiguous_nusd, limit):
            yield row, limit


def _budget_alert(
    connection: Connection, row: Row[Any], *, limit_nusd: int, now_us: int
) -> Alert | None:
    taken = connection.execute(
        update(budget)
        .where(budget.c.scope == row.scope, budget.c.alerted_us.is_(None))
        .values(alerted_us=now_us)
    ).rowcount
    if not taken:
        return None
    of = connection.execute(
        select(batch.c.id, batch.c.name).where(
            batch.c.id == row.scope.removeprefix(budget_scope(""))
        )
    ).first()
    spent_nusd = row.settled_nusd + row.ambiguous_nusd
    whose = f"the day {row.scope.removeprefix(DAY)}" if of is None else f"batch {of.name}"
    message = (
        f"budget of {whose}: {spent_nusd / 1e9:.4f} of {limit_nusd / 1e9:.4f} USD spent; "
        "no call is begun that could exceed it"
    )
    batch_id = None if of is None else of.id
    note(connection, BUDGET_ALERT, message, batch_id=batch_id, now_us=now_us)
    return Alert(
        kind=BUDGET_ALERT,
        scope=row.scope,
        batch=None if of is None else of.name,
        spent_nusd=spent_nusd,
        limit_nusd=limit_nusd,
        message=message,
        at_us=now_us,
    )


def _paused() -> Any:
    """Batches whose pause is still to be told."""
    return select(batch).where(
        batch.c.state == BatchState.PAUSED, batch.c.pause_alert_us.is_not(None)
    )


def _pause_alert(
    connection: Connection, row: Row[Any], *, day_limit_nusd: int | None, now_us: int
) -> Alert | None:
    taken = connection.execute(
        update(batch)
        .where(batch.c.id == row.id, batch.c.pause_alert_us == row.pause_alert_us)
        .values(pause_alert_us=None)
    ).rowcount
    if not taken:
        return None
    scope = row.pause_scope or budget_scope(row.id)
    by_day = scope.startswith(DAY)
    money = connection.execute(
        select(budget).where(budget.c.scope == (scope if by_day else budget_scope(row.id)))
    ).one()
    return Alert(
        kind=BATCH_PAUSED,
        scope=scope,
        batch=row.name,
        spent_nusd=money.settled_nusd + money.ambiguous_nusd,
        limit_nusd=larger_limit_nusd(money.limit_nusd, day_limit_nusd if by_day else None),
        message=f"batch {row.name} is paused: {row.pause_reason}",
        at_us=now_us,
    )


def _raised() -> Any:
    """What was raised and not told yet, with the name of its batch."""
    return (
        select(alert, batch.c.name.label("batch_name"))
        .outerjoin(batch, batch.c.id == alert.c.batch_id)
        .where(alert.c.waits)
    )


def _raised_alert(connection: Connection, row: Row[Any]) -> Alert | None:
    taken = connection.execute(
        update(alert).where(alert.c.key == row.key, alert.c.waits).values(waits=False)
    ).rowcount
    if not taken:
        return None
    return Alert(
        kind=row.kind,
        scope=row.scope,
        batch=row.batch_name,
        spent_nusd=None,
        limit_nusd=None,
        message=row.message,
        at_us=row.at_us,
    )
