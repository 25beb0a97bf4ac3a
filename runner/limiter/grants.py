"""The words of the limiter: the right to start a call, and how that call ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from runner.lanes import Lane
from runner.limiter.process import Pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The right to start one call at `start_s` of the event loop's time.

    `start_us` is that moment in the calendar; none when the call was not paced by it, or when the
    process limits itself alone (`own`).
    """

    lane: Lane
    number: int  # tells one grant of a process from another
    tokens: int
    waited_us: int
    start_s: float
    start_us: int | None = None
    own: Pass | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """No call for now: the retry budget of the lane is used up; ask again after `wait_s`."""

    wait_s: float


class Ended(StrEnum):
    """How a granted call ended, as far as its lane is concerned."""

    TAKEN_BACK = "taken_back"  # nothing was sent, for reasons of our own
    NO_CONNECTION = "no_connection"  # nothing was sent: the provider cannot be reached
    ANSWERED = "answered"
    REFUSED = "refused"  # over a limit
    SLOW_DOWN = "slow_down"  # ramped up too fast
    FAILED = "failed"  # the provider is in trouble, or does not answer
    CUT_OFF = "cut_off"  # we went away in the middle; it says nothing of the provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a call. `told` are the provider's headers that speak of limits, lower-case."""

    how: Ended
    sent_s: float | None = None  # when it left, in the event loop's time; none: not known
    used_tokens: int | None = None  # none: not reported
    retry_after_s: float | None = None
    told: Mapping[str, str] | None = None


TAKEN_BACK = Ending(how=Ended.TAKEN_BACK)
CUT_OFF = Ending(how=Ended.CUT_OFF)
