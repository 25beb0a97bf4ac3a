"""Tombstones of documents, a list of blobs to drop, and indexes for filters of the call log."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "unwanted",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("mark", sa.BigInteger, nullable=False),
    )
    op.add_column("document", sa.Column("former_digest", sa.LargeBinary(32)))
    op.add_column("document", sa.Column("pruned_us", sa.BigInteger))
    op.add_column("document", sa.Column("erased_us", sa.BigInteger))
    op.create_index(
        "document_of_own_prompt",
        "document",
        ["prompt_version", "prompt_id"],
        sqlite_where=sa.text("prompt_version IS NOT NULL"),
        postgresql_where=sa.text("prompt_version IS NOT NULL"),
    )
    op.create_index(
        "attempt_by_fault",
        "attempt",
        ["fault", "id"],
        sqlite_where=sa.text("fault IS NOT NULL"),
        postgresql_where=sa.text("fault IS NOT NULL"),
    )
