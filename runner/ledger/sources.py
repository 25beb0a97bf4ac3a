"""How queries find the sources of a document: by the place that they share in a batch."""

from sqlalchemy import and_, select

from runner.ledger.tables import document, source

# Two submissions at once may give two documents one place.
HAS_SOURCE = and_(
    source.c.batch_id == document.c.batch_id,
    source.c.position == document.c.position,
    source.c.document_id == document.c.id,
)
# Not the least of the names: SQLite would look through those of the whole batch for it.
FIRST_NAME = (
    select(source.c.name).where(HAS_SOURCE).order_by(source.c.id).limit(1).scalar_subquery()
)
