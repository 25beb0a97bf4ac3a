"""The calendar by definition: a list of grants, looked through anew for every question."""

import math
from dataclasses import dataclass, field

FULL = 1_000_000


@dataclass(slots=True)
class Granted:
    """A call on the calendar, and what it counts by now."""

    start_us: int
    requests: int
    tokens: int


@dataclass
class CalendarModel:
    """Starts by pace and by rolling window, pauses and cuts; times in microseconds.

    A call counts from its start until the end of its slot is one span (window + jitter) ago.
    """

    window_us: int
    span_us: int
    slot_us: int
    credit_us: int
    horizon_us: int
    requests: int | None
    tokens: int | None
    born_us: int
    calls: list[Granted] = field(default_factory=list)
    last_us: int = 0
    paused_us: int = 0
    factor: int = FULL
    cut_us: int = 0
    grown: int = 0
    cuts: int = 0

    def __post_init__(self) -> None:
        """It begins without credit."""
        self.request_tat_us: float = self.born_us + self.credit_us
        self.token_tat_us: float = self.born_us + self.credit_us

    def write_down(self) -> None:
        """Between two questions only whole microseconds are kept."""
        self.request_tat_us = round(self.request_tat_us)
        self.token_tat_us = round(self.token_tat_us)

    def limit(self, most: int | None) -> int | None:
        """A limit as it stands after cuts."""
        return None if most is None else max(1, math.floor(most * self.factor / FULL))

    def grow(self, now_us: int) -> None:
        """Half a hundredth of the limit a window, more with every window that all was well."""
        windows = (now_us - self.cut_us) // self.window_us
        while self.grown < windows and self.factor < FULL:
            self.grown += 1
            self.factor = min(FULL, self.factor + 5_000 * max(1, self.grown - 2))

    def counting(self, start_us: float) -> list[Granted]:
        """The calls that count in the window that ends at `start_us`."""
        return [
            call
            for call in self.calls
            if (call.start_us // self.slot_us + 1) * self.slot_us > start_us - self.span_us
        ]

    def fits(self, start_us: float, tokens: int) -> bool:
        """Whether one more call has room in that window; one that is alone always has."""
        counting = self.counting(start_us)
        requests = sum(call.requests for call in counting)
        used = sum(call.tokens for call in counting)
        most_requests, most_tokens = self.limit(self.requests), self.limit(self.tokens)
        return not requests or (
            (most_requests is None or requests + 1 <= most_requests)
            and (most_tokens is None or used + tokens <= most_tokens)
        )

    def earliest_us(self, now_us: int, tokens: int) -> int:
        """The first moment at which pace and window both have room."""
        start_us: float = max(now_us, self.last_us)
        if self.requests is not None:
            start_us = max(start_us, self.request_tat_us - self.credit_us)
        if self.tokens is not None:
            start_us = max(start_us, self.token_tat_us - self.credit_us)
        leaving = sorted(
            (call.start_us // self.slot_us + 1) * self.slot_us + self.span_us for call in self.calls
        )
        moments = [start_us, *(at for at in leaving if at > start_us)]
        return math.ceil(next(at for at in moments if self.fits(at, tokens)))

    def grant(self, now_us: int, tokens: int) -> int:
        """Give the next call its start."""
        start_us = self.earliest_us(now_us, tokens)
        self.calls.append(Granted(start_us, 1, tokens))
        self.last_us = start_us
        most_requests, most_tokens = self.limit(self.requests), self.limit(self.tokens)
        self.request_tat_us = max(self.request_tat_us, start_us) + self.pace_us(1, most_requests)
        self.token_tat_us = max(self.token_tat_us, start_us) + self.pace_us(tokens, most_tokens)
        return start_us

    def pace_us(self, amount: int, limit: int | None) -> float:
        """How much of the calendar an amount takes: a span at most."""
        if limit is None:
            return 0.0
        return max(-self.span_us, min(self.span_us, amount * self.span_us / limit))

    def correct(self, call: Granted, *, requests: int, tokens: int) -> None:
        """Let a call count differently; one that has left the window counts nothing."""
        if call not in self.counting(self.last_us):
            return
        call.requests += requests
        call.tokens += tokens
        self.request_tat_us += self.pace_us(requests, self.limit(self.requests))
        self.token_tat_us += self.pace_us(tokens, self.limit(self.tokens))

    def move(self, call: Granted, there_us: int) -> None:
        """A call in the window begins later than it was to."""
        call.start_us = there_us

    def refuse(self, call: Granted, now_us: int, retry_after_us: int) -> None:
        """The provider refused a call: pause, and cut the limits once an episode."""
        self.paused_us = max(self.paused_us, now_us + retry_after_us)
        if call.start_us >= self.cut_us + self.horizon_us:
            seen = [
                one
                for one in self.calls
                if (now_us - self.window_us) // self.slot_us
                <= one.start_us // self.slot_us
                <= now_us // self.slot_us
            ]
            parts = [0.0]
            if self.requests is not None:
                parts.append(sum(one.requests for one in seen) / self.requests)
            if self.tokens is not None:
                parts.append(sum(one.tokens for one in seen) / self.tokens)
            wanted = min(0.985 * self.factor, 0.985 * (max(parts) * FULL))
            self.factor = max(20_000, math.floor(max(0.5 * self.factor, wanted)))
            self.cut_us, self.grown = now_us, 0
            self.cuts += 1
