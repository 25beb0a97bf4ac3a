"""The words of every limiter: a grant, how a limit is used, and what a limiter promises."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from runner.errors import RunnerError


class OverLimitError(RunnerError):
    """A document needs more tokens than its model's limit ever lets through in a minute."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to start one call now, and what it was charged."""

    model: str
    tokens: int
    waited_us: int
    number: int  # tells one grant of a limiter from another


@dataclass(frozen=True, slots=True)
class LimiterUse:
    """What one model's limits are doing in this process at this moment."""

    waiting: int
    in_flight: int  # granted and not released
    window_requests: int  # started in the last minute, as far as limits are set
    window_tokens: int
    paused_s: float  # how long nobody starts, after a 429


class Limiter(Protocol):
    """Decides when calls start. Every grant ends with one `release`."""

    async def acquire(self, model: str, *, tokens: int) -> Grant:
        """Wait, first come first served, until a call of `tokens` may start.

        Raises OverLimitError at once when `tokens` exceed the model's tokens per minute. A
        cancelled waiter takes nothing.
        """
        ...

    def refund(self, grant: Grant, *, used_tokens: int = 0) -> None:
        """Give back what a call did not use; only the first refund of a grant counts.

        0 means that it was never sent: the request and its concurrency slot come back too.
        """
        ...

    def release(self, grant: Grant) -> None:
        """The call has ended, however it did: its concurrency slot is free. Repeatable."""
        ...

    def pause(self, model: str, *, seconds: float) -> None:
        """Let nobody start a call of this model for that long; never shortens a longer pause."""
        ...

    def set_share(self, processes: int) -> None:
        """From now on this process has 1 / `processes` of every limit."""
        ...

    def snapshot(self) -> Mapping[str, LimiterUse]:
        """What each model that was asked for is doing."""
        ...
