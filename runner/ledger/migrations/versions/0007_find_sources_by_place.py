"""Sources know their document's place in its batch, and are found by it.

Ids of documents are random: an index by them is written all over with each submission, and at a
million documents it was a third of what a submission costs. Places come in order.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the place, and change the index."""
    op.add_column(
        "source", sa.Column("position", sa.BigInteger, nullable=False, server_default="0")
    )
    op.execute(
        "UPDATE source SET position ="
        " (SELECT document.position FROM document WHERE document.id = source.document_id)"
    )
    op.create_index("source_by_place", "source", ["batch_id", "position"])
    op.drop_index("source_by_document", "source")
