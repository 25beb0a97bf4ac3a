"""The end of a call that this process let start by its own share of the limits."""

from runner.limiter.grants import Ended, Ending
from runner.limiter.process import Pass, ProcessLimiter

REFUSED_S = 1.0  # the pause after a refusal that does not say how long


def end_alone(own: ProcessLimiter, passed: Pass, ending: Ending) -> None:
    """The end of a call that this process let start by its own share."""
    match ending.how:
        case Ended.TAKEN_BACK | Ended.NO_CONNECTION | Ended.REFUSED | Ended.SLOW_DOWN:
            own.refund(passed)
        case Ended.ANSWERED if ending.used_tokens is not None:
            own.refund(passed, used_tokens=max(1, ending.used_tokens))
        case _:
            pass
    own.release(passed)
    if ending.how in (Ended.REFUSED, Ended.SLOW_DOWN):
        seconds = REFUSED_S if ending.retry_after_s is None else ending.retry_after_s
        own.pause(passed.model, seconds=seconds)
