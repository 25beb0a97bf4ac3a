"""What the commands about calls print with `--json`; one with its bodies is in `call.py`."""

from decimal import Decimal
from typing import Any, Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, in_s, in_usd
from runner.cli.wording import iso
from runner.keys import trace_id
from runner.ledger.calls import AttemptRow


class CallShape(Shape):
    """One provider call made for a document."""

    attempt_id: str
    document_id: str
    batch_id: str
    number: int  # counts the document's calls from 1
    state: str
    model: str
    prompt: str
    worker_id: str
    status: int | None
    fault: str | None
    message: str | None
    hold_usd: Decimal | None
    cost_usd: Decimal | None
    ambiguous_usd: Decimal
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    service_tier: str | None
    at: str
    queue_wait_s: float
    limiter_wait_s: float
    response_s: float | None
    parse_s: float | None
    total_s: float | None
    trace_id: str

    @classmethod
    def of(cls, row: AttemptRow) -> Self:
        """A call as the ledger has it."""
        return cls(**call_fields(row))


def call_fields(row: AttemptRow) -> dict[str, Any]:
    """What `CallShape` says of a call."""
    same = (
        *("document_id", "batch_id", "number", "state", "model", "worker_id", "status", "fault"),
        *("message", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"),
        *("reasoning_tokens", "service_tier"),
    )
    return {name: getattr(row, name) for name in same} | {
        "attempt_id": row.id,
        "prompt": row.prompt_id,
        "hold_usd": in_usd(row.hold_nusd),
        "cost_usd": in_usd(row.cost_nusd),
        "ambiguous_usd": nusd_to_usd(row.ambiguous_nusd),
        "at": iso(row.created_us),
        "queue_wait_s": row.queue_wait_us / 1e6,
        "limiter_wait_s": row.limiter_wait_us / 1e6,
        "response_s": in_s(row.response_us),
        "parse_s": in_s(row.parse_us),
        "total_s": in_s(row.total_us),
        "trace_id": trace_id(row.document_id),
    }


class CallListShape(Shape):
    """`calls list`."""

    calls: tuple[CallShape, ...]


class TraceShape(Shape):
    """`calls trace`: a document's calls in their order."""

    document_id: str
    trace_id: str
    calls: tuple[CallShape, ...]
