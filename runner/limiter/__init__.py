"""When a call may start: requests and tokens a minute, concurrency, first come first served."""

from runner.limiter.grants import Grant, Limiter, LimiterUse, OverLimitError
from runner.limiter.process import ProcessLimiter

__all__ = ["Grant", "Limiter", "LimiterUse", "OverLimitError", "ProcessLimiter"]
