"""The money of a scope: what is held, settled and ambiguous, moved in one place."""

from collections.abc import Mapping

from sqlalchemy import Connection, update

from runner.ledger.tables import budget


def budget_scope(batch_id: str) -> str:
    """The budget row of a batch."""
    return f"batch:{batch_id}"


def move_money(
    connection: Connection,
    *,
    held: Mapping[str, int],
    settled: Mapping[str, int] | None = None,
    ambiguous: Mapping[str, int] | None = None,
) -> None:
    """Add these amounts (nano-dollars, may be negative) to their scopes."""
    for scope in held:
        connection.execute(
            update(budget)
            .where(budget.c.scope == scope)
            .values(
                held_nusd=budget.c.held_nusd + held[scope],
                settled_nusd=budget.c.settled_nusd + (settled or {}).get(scope, 0),
                ambiguous_nusd=budget.c.ambiguous_nusd + (ambiguous or {}).get(scope, 0),
            )
        )
