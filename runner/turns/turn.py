"""One document on its way through one turn: what has been promised, spent and timed so far."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runner.ledger.ends import Settlement
from runner.ledger.gate import Refusal
from runner.ledger.work import Work
from runner.model import Outcome, RawAnswer
from runner.pinned import Pinned
from runner.tracing import Span

# How a turn ended: with an outcome in the ledger, or with the gate's refusal. None: it did not, and
# nobody was called; or what it came to could not be written, as the lease was lost meanwhile.
Ended = Outcome | Refusal | None


@dataclass(slots=True)
class Turn:
    """What a turn has come to. Its model is the one that it asks, or has asked."""

    work: Work
    pinned: Pinned
    started_ns: int
    model: str
    lease_token: str | None = None
    attempt_id: str | None = None
    hold_nusd: int | None = None
    sent: bool = False  # the request may have left
    received: bool = False  # its answer is here, durable or about to be
    answer: RawAnswer | None = None  # durable
    ended: Ended = None
    settlement: Settlement | None = None
    steps: list[Span] = field(default_factory=list)  # for a trace

    @classmethod
    def begin(cls, work: Work, pinned: Pinned, *, now_ns: int) -> "Turn":
        """A turn that asks the model on which its document has arrived."""
        step = min(work.history.ladder_step, len(pinned.models) - 1)
        return cls(work, pinned, now_ns, pinned.models[step])

    @contextmanager
    def timed(self, step: str, clock_ns: Callable[[], int]) -> Iterator[None]:
        """Note when a step began and ended, however it ends."""
        began_ns = clock_ns()
        try:
            yield
        finally:
            self.steps.append(Span(step, began_ns, clock_ns()))
