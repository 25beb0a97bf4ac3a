"""How the limits of one lane are used: what the leader writes into the ledger, and others read.

It stands apart from the limiter, so that who only reads it loads no Redis client.
"""

from pydantic import BaseModel, ConfigDict


class LaneUse(BaseModel):
    """One lane: limits of a window as they stand now, and what was started within the last one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: float
    requests: int
    requests_limit: int | None
    tokens: int
    tokens_limit: int | None
    calls: int  # under way
    calls_limit: int | None
    waiting: int  # documents that wait for a start
    cut: float  # the part of the configured limits that is used, 1 when no refusal cut them
    refused: int  # since the lane was first called
    refused_s: float | None  # ago, the last one
    paused_s: float  # nothing starts for so long, after a refusal
    breaker_open: bool
    probe_s: float  # until the next call that tries it, while the breaker is open
    failed: int
    answered: int

    @property
    def is_in_use(self) -> bool:
        """Whether anything was started within the window, or waits, or is under way."""
        return bool(self.requests or self.waiting or self.calls)
