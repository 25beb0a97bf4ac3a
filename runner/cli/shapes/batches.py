"""What submitting, working, a batch and its results print with `--json`."""

from decimal import Decimal
from typing import Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, in_usd
from runner.cli.wording import iso
from runner.ledger.speed import eta_s
from runner.ledger.standing import BatchStanding
from runner.model import BatchState, DocumentState


class SubmittedShape(Shape):
    """`submit`: what this submission added."""

    batch: str
    batch_id: str
    accepted: int  # new documents
    duplicate: int  # further sources of documents that were known
    rejected: int  # entries of folders that are not read
    unparsable: int  # of the accepted: dead letters without a call


class WorkShape(Shape):
    """`work`: how it ended."""

    processes: int
    restarts: int
    seconds: float


class BatchShape(Shape):
    """One batch: its documents by state and its money."""

    batch: str
    batch_id: str
    job: str
    prompt: str
    models: tuple[str, ...]
    state: BatchState
    pause_reason: str | None
    pause_scope: str | None  # the key or the day whose pause holds it; null: its own
    simulated: bool
    submitted: bool  # every input has been read
    created: str
    accepted: int
    duplicate: int
    rejected: int
    queued: int
    ready: int
    running: int
    done: int
    review: int
    dead: int
    cancelled: int
    calls: int
    cost_usd: Decimal | None  # settled; null when a call's price is unknown
    held_usd: Decimal
    ambiguous_usd: Decimal
    budget_usd: Decimal | None
    documents_per_s: float | None
    eta_s: float | None

    @classmethod
    def of(cls, found: BatchStanding, *, documents_per_s: float | None = None) -> Self:
        """A batch as it stands, with its speed where that is known."""
        batch = found.batch
        return cls(
            batch=batch.name,
            batch_id=batch.id,
            job=batch.job,
            prompt=batch.prompt_version,
            models=batch.models,
            state=batch.state,
            pause_reason=batch.pause_reason,
            pause_scope=batch.pause_scope,
            simulated=batch.simulated,
            submitted=batch.submitted,
            created=iso(batch.created_us),
            accepted=found.accepted,
            duplicate=found.duplicate,
            rejected=batch.rejected,
            **{state.value: found.states[state] for state in DocumentState},
            calls=found.calls,
            cost_usd=nusd_to_usd(found.settled_nusd) if found.cost_known else None,
            held_usd=nusd_to_usd(found.held_nusd),
            ambiguous_usd=nusd_to_usd(found.ambiguous_nusd),
            budget_usd=in_usd(found.limit_nusd),
            documents_per_s=documents_per_s,
            eta_s=eta_s(found, documents_per_s=documents_per_s),
        )


class BatchListShape(Shape):
    """`batch list`."""

    batches: tuple[BatchShape, ...]


class BatchChangedShape(Shape):
    """`batch pause`, `resume`, `cancel`."""

    batch: str
    state: BatchState
    pause_reason: str | None
    budget_usd: Decimal | None
    cancelled: int  # documents that this command ended
    running: int  # documents whose calls are still to finish
    day_budget_usd: Decimal | None = None  # what this command set for today, for all batches
    key: str | None = None  # the key whose pause this command ended
    resumed: tuple[str, ...] = ()  # other batches that go on by this command


class ResultsShape(Shape):
    """`results`."""

    batch: str
    file: str
    lines: int
    unfinished: int  # documents that had not ended when this was written
