"""Pauses that belong to a key or a day, budgets of days, alerts, ceilings, and limits of lanes."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_DAY_US = 86_400_000_000
_DAY_S = 86_400


def upgrade() -> None:
    """Add them, and book what was spent so far to its days."""
    op.add_column("budget", sa.Column("alerted_us", sa.BigInteger(), nullable=True))
    op.add_column(
        "document",
        sa.Column("spent_before_nusd", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.add_column("batch", sa.Column("pause_scope", sa.String(length=80), nullable=True))
    op.add_column("batch", sa.Column("pause_alert_us", sa.BigInteger(), nullable=True))
    op.create_table(
        "key_pause",
        sa.Column("scope", sa.String(length=80), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fault", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("probe_us", sa.BigInteger(), nullable=True),
        sa.Column("probe_document_id", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("scope"),
    )
    op.create_table(
        "lane",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("server", sa.String(length=200), nullable=False),
        sa.Column("key_name", sa.String(length=200), nullable=True),
        sa.Column("use_json", sa.Text(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column(
        "attempt",
        sa.Column("charged", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    _book_days()


def _book_days() -> None:
    attempt = sa.table(
        "attempt",
        *(sa.column(name) for name in ("batch_id", "state")),
        *(
            sa.column(name, sa.BigInteger())
            for name in ("created_us", "cost_nusd", "ambiguous_nusd", "hold_nusd")
        ),
    )
    batch = sa.table("batch", sa.column("id"), sa.column("simulated", sa.Boolean()))
    budget = sa.table(
        "budget",
        *(
            sa.column(name)
            for name in ("scope", "limit_nusd", "settled_nusd", "ambiguous_nusd", "held_nusd")
        ),
    )
    day = (attempt.c.created_us // _DAY_US).label("day")
    live = attempt.c.state.in_(["intent", "answered"])
    held = sa.case((live, attempt.c.hold_nusd), else_=0)
    spent = op.get_bind().execute(
        sa.select(
            day,
            sa.func.coalesce(sa.func.sum(attempt.c.cost_nusd), 0).label("settled_nusd"),
            sa.func.coalesce(sa.func.sum(attempt.c.ambiguous_nusd), 0).label("ambiguous_nusd"),
            sa.func.coalesce(sa.func.sum(held), 0).label("held_nusd"),
        )
        .join_from(attempt, batch, batch.c.id == attempt.c.batch_id)
        .where(batch.c.simulated.is_(False))
        .group_by("day")
    )
    rows = [
        {
            "scope": f"day:{datetime.fromtimestamp(row.day * _DAY_S, UTC):%Y-%m-%d}",
            "settled_nusd": int(row.settled_nusd),
            "ambiguous_nusd": int(row.ambiguous_nusd),
            "held_nusd": int(row.held_nusd),
        }
        for row in spent
    ]
    op.bulk_insert(budget, rows)
