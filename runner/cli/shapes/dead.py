"""What the commands about dead letters print with `--json`."""

from decimal import Decimal
from typing import Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape
from runner.cli.wording import iso
from runner.ledger.deadletters import DeadGroup, DeadLetter


class DeadGroupShape(Shape):
    """Dead letters that failed alike."""

    signature: str
    reason: str
    documents: int
    example_id: str

    @classmethod
    def of(cls, group: DeadGroup) -> Self:
        """A group as the ledger counts it."""
        return cls(
            signature=group.signature,
            reason=group.reason,
            documents=group.documents,
            example_id=group.example_id,
        )


class LetterShape(Shape):
    """One dead letter; also a line of `dead export`."""

    document_id: str
    batch: str
    job: str
    source: str
    reason: str
    message: str
    signature: str
    calls: int
    cost_usd: Decimal
    finished: str
    has_text: bool  # false: unparsable or purged, so there is nothing to send again

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """A dead letter as the ledger has it."""
        return cls(
            document_id=letter.document_id,
            batch=letter.batch_name,
            job=letter.job,
            source=letter.source,
            reason=letter.reason,
            message=letter.message,
            signature=letter.signature,
            calls=letter.calls,
            cost_usd=nusd_to_usd(letter.cost_nusd),
            finished=iso(letter.finished_us),
            has_text=letter.has_text,
        )


class DeadListShape(Shape):
    """`dead list`: groups, or letters with `--all`."""

    groups: tuple[DeadGroupShape, ...] = ()
    letters: tuple[LetterShape, ...] = ()


class RetriedShape(Shape):
    """`dead retry`: what matched, what this command queued again, and what that is to cost."""

    matched: int
    without_text: int  # of the matched: nothing to send again
    retried: int
    documents: tuple[str, ...]
    expected_usd: Decimal | None  # null when a price is unknown
    worst_usd: Decimal | None


class PurgedShape(Shape):
    """`dead purge`."""

    purged: int


class ExportedShape(Shape):
    """`dead export`."""

    file: str
    letters: int
