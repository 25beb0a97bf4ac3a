"""What a worker says of the end of a turn: its outcome, and what became of its attempt."""

from dataclasses import dataclass
from typing import assert_never

from runner.keys import Ticket
from runner.lanes import Lane
from runner.model import (
    Again,
    AttemptState,
    Charge,
    Dead,
    Done,
    Fault,
    Outcome,
    Review,
    Unconfirmed,
    Usage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one attempt ended: what it cost, what it used, and how long its reading took."""

    attempt_id: str
    state: AttemptState  # CONCLUDED, AMBIGUOUS or NOT_SENT
    cost_nusd: int | None  # none at an unknown price
    ambiguous_nusd: int = 0
    usage: Usage | None = None
    response_us: int | None = None
    parse_us: int | None = None
    total_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of a turn: its outcome, and the settlement of its attempt.

    Without a lease token (nothing was called) the ticket must still be ready.
    """

    ticket: Ticket
    outcome: Outcome
    signature: str
    now_us: int
    lease_token: str | None = None
    settlement: Settlement | None = None
    model: str = ""
    prompt_id: str = ""
    lane: Lane | None = None  # who was, or would have been, asked: what a key is paused by
    ceiling_nusd: int | None = None  # of the document's present life
    audit_percent: float = 0.0  # of done documents, drawn for a person's audit
    record_attempt_id: str | None = None  # what gave its record; none: the attempt that ended


def was_called(one: Finish) -> bool:
    """Whether a request was, or may have been, sent."""
    return one.settlement is not None and one.settlement.state is not AttemptState.NOT_SENT


def is_charged(one: Finish) -> bool:
    """Whether it counts as an attempt of the document's present life."""
    if isinstance(one.outcome, Again):
        return one.outcome.charge is Charge.ATTEMPT
    return was_called(one)


def reads_again(one: Finish) -> bool:
    """Whether the stored answer of this turn waits for another one, which will settle it."""
    return one.lease_token is not None and one.settlement is None


def fault_of(outcome: Outcome) -> tuple[Fault | None, str | None]:
    """What went wrong, and in which words; nothing where a record came of it."""
    match outcome:
        case Done() | Unconfirmed():
            return None, None
        case Again(failure=failure) | Review(failure=failure) | Dead(failure=failure):
            return failure.fault, failure.message
        case _:
            assert_never(outcome)
