"""What `show` and `dead show` print of one document with `--json`."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, as_iso, in_usd
from runner.cli.shapes.calls import CallShape
from runner.cli.wording import iso
from runner.keys import trace_id
from runner.ledger.calls import AttemptRow, DocumentView, EventRow
from runner.model import DocumentState, How


class EventShape(Shape):
    """Something that happened to a document."""

    at: str
    kind: str
    message: str

    @classmethod
    def of(cls, row: EventRow) -> Self:
        """An event as the ledger has it."""
        return cls(at=iso(row.at_us), kind=row.kind, message=row.message)


class EvidenceShape(Shape):
    """Where in the text a value stands: characters `start` up to, not with, `end`."""

    path: str
    start: int
    end: int
    how: How


class DocumentShape(Shape):
    """`show` and `dead show`: one document with all that is known of it."""

    document_id: str
    batch: str
    batch_id: str
    job: str
    state: str
    reason: str | None
    message: str | None
    sources: tuple[str, ...]
    attempts: int  # charged, in its present life
    deferrals: int
    crashes: int
    cost_usd: Decimal | None
    ambiguous_usd: Decimal
    created: str
    due: str | None  # when it may be tried again, while it waits
    finished: str | None
    pruned: str | None  # when its text, requests and answers were dropped for age
    model: str | None
    prompt_id: str | None
    flags: tuple[str, ...]
    data: Any
    evidence: tuple[EvidenceShape, ...]
    text: str | None
    trace_id: str
    calls: tuple[CallShape, ...]
    events: tuple[EventShape, ...]

    @classmethod
    def of(
        cls, view: DocumentView, *, calls: Sequence[AttemptRow], events: Sequence[EventRow]
    ) -> Self:
        """A document with its calls and events."""
        return cls(
            document_id=view.id,
            batch=view.batch_name,
            batch_id=view.batch_id,
            job=view.job,
            state=view.state,
            reason=view.reason,
            message=view.message,
            sources=view.sources,
            attempts=view.attempts,
            deferrals=view.deferrals,
            crashes=view.crashes,
            cost_usd=in_usd(view.cost_nusd),
            ambiguous_usd=nusd_to_usd(view.ambiguous_nusd),
            created=iso(view.created_us),
            due=iso(view.due_us) if view.state == DocumentState.QUEUED else None,
            finished=as_iso(view.finished_us),
            pruned=as_iso(view.pruned_us),
            model=view.model,
            prompt_id=view.prompt_id,
            flags=view.flags,
            data=view.data,
            evidence=tuple(
                EvidenceShape(path=one.path, start=one.start, end=one.end, how=one.how)
                for one in view.evidence
            ),
            text=view.text,
            trace_id=trace_id(view.id),
            calls=tuple(CallShape.of(row) for row in calls),
            events=tuple(EventShape.of(row) for row in events),
        )
