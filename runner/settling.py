"""What a call cost, as far as anybody knows: pure."""

from dataclasses import dataclass

from runner.budget import Price, cost_nusd
from runner.completion import Reading
from runner.model import AttemptState, Fault, RawAnswer, Unanswered

HTTP_ERROR = 400  # from here on answers are not billed


@dataclass(frozen=True, slots=True)
class Settled:
    """State of the attempt, and its cost: settled (none at an unknown price), and ambiguous."""

    state: AttemptState
    cost_nusd: int | None
    ambiguous_nusd: int = 0


def settle(
    *,
    price: Price | None,
    hold_nusd: int | None,
    answer: RawAnswer | None,
    reading: Reading | None,
    unanswered: Unanswered | None,
) -> Settled:
    """The cost of one attempt in nano-dollars.

    Reported usage settles it; an HTTP error and a call that was never sent cost nothing; whatever
    may have been billed without saying so counts at its hold, as ambiguous.
    """
    ambiguous = Settled(AttemptState.AMBIGUOUS, None, hold_nusd or 0)
    if unanswered is not None and unanswered.fault is Fault.NOT_SENT:
        return Settled(AttemptState.NOT_SENT, 0)
    if reading is None or answer is None:
        return ambiguous
    completion = reading.completion
    if completion is not None and completion.usage_reported:
        cost = None if price is None else cost_nusd(price, completion.usage)
        return Settled(AttemptState.CONCLUDED, cost)
    if answer.status >= HTTP_ERROR:
        return Settled(AttemptState.CONCLUDED, 0)
    return ambiguous
