"""Records that a person accepted or corrected, with their texts: candidates for gold data."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from runner.ledger import blobs
from runner.ledger.sampling import KEPT, last_decision
from runner.ledger.strata import Scope
from runner.ledger.tables import batch, document, record, review
from runner.model import DocumentState

PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A text, and the record that a person says is right."""

    document_id: str
    text: str
    data_json: str


def confirmed(connection: Connection, scope: Scope) -> Iterator[Confirmed]:
    """What people have confirmed and what still has its text, the newest decision first.

    Of documents with one text in several batches, the newest decision counts.
    """
    seen: set[bytes] = set()
    before: int | None = None
    while True:
        query = (
            select(review.c.id, document.c.id.label("document_id"), document.c.text_digest)
            .add_columns(record.c.data_json)
            .select_from(review)
            .join(document, document.c.id == review.c.document_id)
            .join(record, record.c.document_id == document.c.id)
            .join(batch, batch.c.id == review.c.batch_id)
            .where(
                scope.of_batch(),
                review.c.decision.in_(KEPT),
                last_decision().in_(KEPT),
                document.c.state == DocumentState.DONE,
                document.c.text_digest.is_not(None),
                document.c.text_bytes > 0,
            )
            .order_by(review.c.id.desc())
            .limit(PAGE)
        )
        rows = connection.execute(
            query if before is None else query.where(review.c.id < before)
        ).all()
        if not rows:
            return
        texts = blobs.fetch(connection, (row.text_digest for row in rows))
        for row in rows:
            if row.text_digest in seen or row.text_digest not in texts:
                continue
            seen.add(row.text_digest)
            yield Confirmed(
                document_id=row.document_id,
                text=texts[row.text_digest].decode(),
                data_json=row.data_json,
            )
        before = rows[-1].id
