"""An exact rolling window over requests and tokens, as strict as a provider could be."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a (key, model) may use in any `window_s` seconds; None is no limit."""

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Whether a request is let in, and what is left after it.

    `retry_after_s` is 0 when let in, and infinite when the request can never fit.
    """

    dimension: str | None  # None: let in; else which limit refused it, "requests" or "tokens"
    requests_left: int | None
    tokens_left: int | None
    reset_s: float  # until the window is empty
    retry_after_s: float = 0.0


class RollingWindow:
    """Counts what was let in during the last `window_s` seconds; refused requests count nothing.

    A request that arrived exactly `window_s` ago is out. Each one enters and leaves once: O(1)
    amortised; a refusal looks at as many old requests as have to leave before it would fit.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._admitted: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def ask(self, *, now_s: float, tokens: int) -> Grant:
        """Let in a request of `tokens` at `now_s` (never earlier than a time given before)."""
        self._forget(now_s)
        limits = self._limits
        if limits.requests is not None and len(self._admitted) >= limits.requests:
            wait_s = self._expiry_s(0) - now_s if self._admitted else float("inf")
            return self._grant(now_s, "requests", wait_s)
        if limits.tokens is not None and self._tokens + tokens > limits.tokens:
            return self._grant(now_s, "tokens", self._token_wait_s(now_s, tokens))
        self._admitted.append((now_s, tokens))
        self._tokens += tokens
        return self._grant(now_s, None, 0.0)

    def _forget(self, now_s: float) -> None:
        while self._admitted and self._expiry_s(0) <= now_s:
            self._tokens -= self._admitted.popleft()[1]

    def _expiry_s(self, position: int) -> float:
        return self._admitted[position][0] + self._limits.window_s

    def _token_wait_s(self, now_s: float, tokens: int) -> float:
        """Seconds until enough old tokens have left; infinite for a request above the limit."""
        excess = self._tokens + tokens - (self._limits.tokens or 0)
        for admitted_s, used in self._admitted:
            excess -= used
            if excess <= 0:
                return admitted_s + self._limits.window_s - now_s
        return float("inf")

    def _grant(self, now_s: float, dimension: str | None, retry_after_s: float) -> Grant:
        limits = self._limits
        return Grant(
            dimension=dimension,
            requests_left=None
            if limits.requests is None
            else limits.requests - len(self._admitted),
            tokens_left=None if limits.tokens is None else limits.tokens - self._tokens,
            reset_s=self._expiry_s(-1) - now_s if self._admitted else 0.0,
            retry_after_s=retry_after_s,
        )
