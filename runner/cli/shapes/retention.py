"""What `runner prune` and `runner erase` print with `--json`."""

from decimal import Decimal
from typing import Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, as_iso
from runner.ledger.erasing import Sharer


class PrunedBodiesShape(Shape):
    """`prune`; with `--dry-run` what it would drop."""

    dry_run: bool
    before: str  # documents that ended before this were meant
    documents: int
    calls: int
    removed_bytes: int  # of texts, requests and answers, as stored (compressed)
    given_back_bytes: int  # to the disk
    free_bytes: int  # inside the ledger's file, for what comes next


class ErasedDocumentShape(Shape):
    """A document that was, or would be, erased."""

    document_id: str
    batch: str
    job: str
    state: str  # before
    sources: tuple[str, ...]
    calls: int
    cost_usd: Decimal
    erased_before: str | None  # when it was erased already

    @classmethod
    def of(cls, sharer: Sharer) -> Self:
        """A document as it was before."""
        return cls(
            document_id=sharer.document_id,
            batch=sharer.batch_name,
            job=sharer.job,
            state=sharer.state,
            sources=sharer.sources,
            calls=sharer.calls,
            cost_usd=nusd_to_usd(sharer.cost_nusd),
            erased_before=as_iso(sharer.erased_us),
        )


class ErasedShape(Shape):
    """`erase`: every document that had the content."""

    erased: int
    names_too: bool
    documents: tuple[ErasedDocumentShape, ...]
