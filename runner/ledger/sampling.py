"""Which done documents a person audits: drawn by what they are, never by what came of them.

A document is in the sample when a hash of its text, even over 0 to 100, lies below the share in per
cent. So a draw can be repeated, the same text is in it whatever batch, prompt or worker it meets,
and a larger share holds all of a smaller one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, update

from runner.keys import part_of_hundred
from runner.ledger.dialect import chunks
from runner.ledger.tables import document, record, review
from runner.model import Decided, DocumentState

PAGE = 1_000
SALT = "audit"

# after these the document still has the record that was looked at
KEPT = (Decided.ACCEPTED, Decided.CORRECTED)


def is_sampled(text_digest: bytes, percent: float) -> bool:
    """Whether a document is in a sample of this share."""
    return part_of_hundred(text_digest.hex(), salt=SALT) < percent


def last_decision() -> ColumnElement[str]:
    """What a person last decided of the document at hand, in a query over `document`."""
    past = review.alias()
    last = (
        select(past.c.decision)
        .where(past.c.document_id == document.c.id)
        .order_by(past.c.id.desc())
        .limit(1)
        .correlate(document)
        .scalar_subquery()
    )
    return func.coalesce(last, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a sample of a batch's done documents would be; those a person has seen are left out."""

    done: int
    in_sample: int  # already
    new_ids: tuple[str, ...]


def draw(connection: Connection, batch_id: str, *, percent: float) -> Draw:
    """Draw from the done documents of a batch; what an earlier draw took stays in the sample."""
    rows = connection.execute(
        select(document.c.id, document.c.text_digest, record.c.sampled)
        .join(record, record.c.document_id == document.c.id)
        .where(
            document.c.batch_id == batch_id,
            document.c.state == DocumentState.DONE,
            document.c.text_digest.is_not(None),
            last_decision().not_in(KEPT),
        )
        .execution_options(yield_per=PAGE)
    )
    done = in_sample = 0
    new: list[str] = []
    for row in rows:
        done += 1
        if row.sampled:
            in_sample += 1
        elif is_sampled(row.text_digest, percent):
            new.append(row.id)
    return Draw(done=done, in_sample=in_sample, new_ids=tuple(new))


def add_to_sample(connection: Connection, ids: Sequence[str]) -> int:
    """Let these done documents wait for a person's audit; how many do that did not before."""
    return sum(
        connection.execute(
            update(record)
            .where(record.c.document_id.in_(some), record.c.sampled.is_(False))
            .values(sampled=True)
        ).rowcount
        for some in chunks(ids)
    )
