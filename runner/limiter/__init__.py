"""When a call may start: requests and tokens a minute, concurrency, first come first served."""

from runner.limiter.calendar import CALENDAR_ERRORS, Calendar
from runner.limiter.grants import CUT_OFF, TAKEN_BACK, Ended, Ending, Grant, Postponed
from runner.limiter.limiter import Limiter
from runner.limiter.limits import OverLimitError, time_to_start_s
from runner.limiter.line import Outage
from runner.limiter.use import use_of

__all__ = [
    "CALENDAR_ERRORS",
    "CUT_OFF",
    "TAKEN_BACK",
    "Calendar",
    "Ended",
    "Ending",
    "Grant",
    "Limiter",
    "Outage",
    "OverLimitError",
    "Postponed",
    "time_to_start_s",
    "use_of",
]
