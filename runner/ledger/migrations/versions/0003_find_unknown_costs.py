"""An index of the few documents whose cost is unknown: no sum has to look at all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add it."""
    op.create_index(
        "document_of_unknown_cost",
        "document",
        ["batch_id"],
        sqlite_where=sa.text("cost_known IS 0"),
        postgresql_where=sa.text("cost_known IS false"),
    )
