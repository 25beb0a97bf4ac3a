"""What `try` prints with `--json`."""

from decimal import Decimal
from typing import Any, Literal

from runner.cli.shapes.base import FieldErrorShape, Shape
from runner.cli.shapes.documents import EvidenceShape

TriedOutcome = Literal["done", "review", "dead", "again", "refused", "stopped"]


class TryShape(Shape):
    """`try`: one document, asked for once."""

    document_id: str
    batch: str
    job: str
    source: str
    prompt: str
    model: str
    simulated: bool
    outcome: TriedOutcome  # again: a run would ask again; refused, stopped: without an outcome
    interrupted: bool
    state: str  # of the document, which has ended
    reason: str | None
    message: str | None
    errors: tuple[FieldErrorShape, ...]
    next: str | None  # what a run would do, or what helps
    data: Any
    flags: tuple[str, ...]
    evidence: tuple[EvidenceShape, ...]
    no_ground: tuple[str, ...]  # fields whose value the document does not state
    attempt_id: str | None  # null: nobody was called
    streamed: bool
    first_token_s: float | None
    total_s: float
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None  # null: unknown, or nothing settled
    ambiguous_usd: Decimal
    trace_id: str
