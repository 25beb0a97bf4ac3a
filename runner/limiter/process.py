"""The limiter of one process alone: aiolimiter paces, and a log of the last minute is strict."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count

from aiolimiter import AsyncLimiter

from runner.config import ModelSettings
from runner.limiter.limits import of_window, refuse_oversize

# A call reaches the provider not always equally late after its grant: part of a window.
_JITTER = 1 / 60
_BURST = 1 / 60  # how much of a window's limit may start at once


@dataclass(frozen=True, slots=True)
class Pass:
    """The right to start one call now, and what it was charged."""

    model: str
    tokens: int
    waited_us: int
    number: int  # tells one pass of a limiter from another


@dataclass(frozen=True, slots=True)
class OwnUse:
    """What one model's limits are doing in this process at this moment."""

    waiting: int
    in_flight: int  # passed and not released
    window_requests: int  # started in the last window, as far as limits are set
    window_tokens: int
    paused_s: float  # how long nobody starts, after a 429


class ProcessLimiter:
    """A process's own share of each model's limits; all times are its event loop's.

    It is the whole limiter where there is no Redis, and stands in while Redis is away. aiolimiter
    paces the starts at (limit - burst) / (window + jitter), and a log of the last window makes the
    promise strict: in any rolling window, passed requests and tokens stay within the share. Pacing
    alone cannot promise that, because a document larger than the burst is let through in one piece.

    With more processes than its share allows (fewer than one request, or a document larger than the
    share of tokens), a process still lets one call through at a time, at the share's average pace;
    all of them together may then exceed the limit for a moment. A model without limits is granted
    at once, but honours pauses.
    """

    def __init__(self, models: Mapping[str, ModelSettings]) -> None:
        self._models = models
        self._lanes: dict[str, _Lane] = {}
        self._numbers = count(1)
        self._processes = 1

    async def acquire(self, model: str, *, tokens: int) -> Pass:
        """Wait, first come first served, until a call of `tokens` may start.

        Raises OverLimitError at once when no window has room for `tokens`. A cancelled waiter takes
        nothing. Every pass ends with one `release`.
        """
        lane = self._lane(model)
        refuse_oversize(model, lane.limits, tokens=tokens)
        number = next(self._numbers)
        if lane.idle_and_unlimited():
            lane.in_flight.add(number)
            return Pass(model, tokens, 0, number)
        waited_s = await lane.enter(number=number, tokens=tokens)
        return Pass(model, tokens, int(waited_s * 1e6), number)

    def note(self, model: str, *, tokens: int) -> None:
        """Count a call that somebody else let start now."""
        self._lane(model).note(number=-next(self._numbers), tokens=tokens)

    def refund(self, passed: Pass, *, used_tokens: int = 0) -> None:
        """Give back what a call did not use; only the first refund of a pass counts.

        0 means that it was never sent: the request and its concurrency slot come back too.
        """
        lane = self._lane(passed.model)
        lane.refund(passed.number, used_tokens=used_tokens)
        if used_tokens == 0:
            lane.release(passed.number)

    def release(self, passed: Pass) -> None:
        """The call has ended, however it did: its concurrency slot is free. Repeatable."""
        self._lane(passed.model).release(passed.number)

    def pause(self, model: str, *, seconds: float) -> None:
        """Let nobody start a call of this model for that long; never shortens a longer pause."""
        self._lane(model).pause(seconds)

    def set_share(self, processes: int) -> None:
        """From now on this process has 1 / `processes` of every limit."""
        if processes < 1:
            raise ValueError(f"a limit is shared by at least 1 process, not {processes}")
        if processes == self._processes:
            return
        self._processes = processes
        for lane in self._lanes.values():
            lane.set_share(processes)

    def snapshot(self) -> Mapping[str, OwnUse]:
        """What each model that was asked for is doing."""
        return {model: lane.use() for model, lane in self._lanes.items()}

    def _lane(self, model: str) -> "_Lane":
        lane = self._lanes.get(model)
        if lane is None:
            lane = _Lane(self._models.get(model) or ModelSettings(), processes=self._processes)
            self._lanes[model] = lane
        return lane


class _Pace:
    """One aiolimiter bucket with a credit: what was taken from it and not used after all."""

    def __init__(self, *, limit: float, burst: int, extra: float, span_s: float) -> None:
        self._burst = burst
        self._limit = limit
        self._span_s = span_s
        rate_per_s = (limit - extra) / span_s
        self._bucket = AsyncLimiter(burst, burst / rate_per_s)
        self._credit = 0
        self._credit_until_s = 0.0

    async def take(self, amount: int) -> None:
        """Take `amount` in chunks no larger than the bucket; a cancelled caller gets all back."""
        now_s = _now_s()
        from_credit = min(amount, self._credit) if now_s < self._credit_until_s else 0
        self._credit -= from_credit
        taken = from_credit
        try:
            while taken < amount:
                chunk = min(amount - taken, self._burst)
                await self._bucket.acquire(chunk)
                taken += chunk
        except asyncio.CancelledError:
            self.give_back(taken)
            raise

    def give_back(self, amount: int) -> None:
        """Let the next callers have `amount` without waiting, within the next window."""
        now_s = _now_s()
        unspent = self._credit if now_s < self._credit_until_s else 0
        self._credit = min(unspent + amount, math.ceil(self._limit))
        self._credit_until_s = now_s + self._span_s


def _request_pace(most: float, *, span_s: float) -> _Pace:
    # Requests are counted one by one, so the first of a burst costs no rate: with a burst of one
    # they start (window + jitter) / most apart, and no rolling window holds more than that.
    extra = int(most * _BURST)
    return _Pace(limit=most, burst=1 + extra, extra=extra, span_s=span_s)


def _token_pace(most: float, *, span_s: float) -> _Pace:
    burst = max(1, int(most * _BURST))
    return _Pace(limit=most, burst=burst, extra=burst if burst < most else 0, span_s=span_s)


@dataclass(slots=True)
class _Started:
    """One call in the log of the last window; a refund lowers what it counts."""

    at_s: float
    number: int
    requests: int
    tokens: int


class _Window:
    """The calls started in the last window, and their sums."""

    def __init__(self, *, span_s: float) -> None:
        self._span_s = span_s
        self._log: deque[_Started] = deque()
        self._by_number: dict[int, _Started] = {}
        self.requests = 0
        self.tokens = 0

    def add(self, *, number: int, tokens: int) -> None:
        started = _Started(_now_s(), number, 1, tokens)
        self._log.append(started)
        self._by_number[number] = started
        self.requests += 1
        self.tokens += tokens

    def forget_old(self) -> None:
        horizon_s = _now_s() - self._span_s
        while self._log and self._log[0].at_s <= horizon_s:
            started = self._log.popleft()
            self._by_number.pop(started.number, None)
            self.requests -= started.requests
            self.tokens -= started.tokens

    def lower(self, number: int, *, used_tokens: int) -> tuple[int, int]:
        """Count a call at what it used, once; returns the requests and tokens given back."""
        started = self._by_number.pop(number, None)
        if started is None:
            return 0, 0
        requests = 0 if used_tokens else 1
        tokens = max(0, started.tokens - used_tokens)
        started.requests -= requests
        started.tokens -= tokens
        self.requests -= requests
        self.tokens -= tokens
        return requests, tokens

    def wait_s(self, *, requests_max: float, tokens: int, tokens_max: float) -> float:
        """How long until one more call of `tokens` fits beside those that then remain.

        A call that is alone always fits: what is larger than a share goes through by itself.
        """
        self.forget_old()
        requests_left, tokens_left = self.requests, self.tokens
        now_s, wait_s = _now_s(), 0.0
        for started in self._log:
            fits = requests_left + 1 <= requests_max and tokens_left + tokens <= tokens_max
            if fits or not requests_left:
                break
            requests_left -= started.requests
            tokens_left -= started.tokens
            wait_s = started.at_s + self._span_s - now_s
        return wait_s


class _Lane:
    """The waiting line of one model.

    The lock is the line: its owner alone is inside the pacing, because aiolimiter serves small
    amounts first and would starve large ones.
    """

    def __init__(self, limits: ModelSettings, *, processes: int) -> None:
        self.limits = limits
        self.in_flight: set[int] = set()
        self._waiting = 0
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()  # something that the first in line may be waiting for
        self._span_s = limits.window_s * (1 + _JITTER)
        self._window = _Window(span_s=self._span_s)
        self._paused_until_s = -math.inf
        self._unlimited = limits.rpm is limits.tpm is limits.max_concurrency is None
        self.set_share(processes)

    def set_share(self, processes: int) -> None:
        requests = of_window(self.limits.rpm, window_s=self.limits.window_s)
        tokens = of_window(self.limits.tpm, window_s=self.limits.window_s)
        slots = self.limits.max_concurrency
        self._requests_max = math.inf if requests is None else _whole_share(requests, processes)
        self._tokens_max = math.inf if tokens is None else _whole_share(tokens, processes)
        self._slots = math.inf if slots is None else max(1, slots // processes)
        self._request_pace = (
            None if requests is None else _request_pace(self._requests_max, span_s=self._span_s)
        )
        self._token_pace = (
            None if tokens is None else _token_pace(self._tokens_max, span_s=self._span_s)
        )
        self._changed.set()

    def idle_and_unlimited(self) -> bool:
        """Whether a newcomer may start with nothing to wait for and nobody to overtake."""
        return self._unlimited and not self._waiting and self._pause_left_s() <= 0

    async def enter(self, *, number: int, tokens: int) -> float:
        """Wait in line, then start the call; returns the seconds waited."""
        since_s = _now_s()
        with self._counted():
            async with self._line:
                await self._pass(number=number, tokens=tokens)
        return _now_s() - since_s

    async def _pass(self, *, number: int, tokens: int) -> None:
        """What the first in line does: the pace, then the moment when all limits agree."""
        with ExitStack() as undo:  # a cancelled waiter leaves no hole
            if self._request_pace is not None:
                request_pace = self._request_pace
                await request_pace.take(1)
                undo.callback(request_pace.give_back, 1)
            if self._token_pace is not None:
                token_pace = self._token_pace
                await token_pace.take(tokens)
                undo.callback(token_pace.give_back, tokens)
            await self._until_clear(tokens)
            undo.pop_all()
        self.in_flight.add(number)
        if not self._unlimited:
            self._window.add(number=number, tokens=tokens)

    async def _until_clear(self, tokens: int) -> None:
        while (wait_s := self._wait_s(tokens)) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s if math.isfinite(wait_s) else None):
                    await self._changed.wait()

    def _wait_s(self, tokens: int) -> float:
        if len(self.in_flight) >= self._slots:
            return math.inf
        window_s = self._window.wait_s(
            requests_max=self._requests_max, tokens=tokens, tokens_max=self._tokens_max
        )
        return max(window_s, self._pause_left_s())

    def _pause_left_s(self) -> float:
        return self._paused_until_s - _now_s()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def note(self, *, number: int, tokens: int) -> None:
        if not self._unlimited:
            self._window.forget_old()
            self._window.add(number=number, tokens=tokens)

    def refund(self, number: int, *, used_tokens: int) -> None:
        requests, tokens = self._window.lower(number, used_tokens=used_tokens)
        if requests and self._request_pace is not None:
            self._request_pace.give_back(requests)
        if tokens and self._token_pace is not None:
            self._token_pace.give_back(tokens)
        self._changed.set()

    def release(self, number: int) -> None:
        self.in_flight.discard(number)
        self._changed.set()

    def pause(self, seconds: float) -> None:
        self._paused_until_s = max(self._paused_until_s, _now_s() + seconds)
        self._changed.set()

    def use(self) -> OwnUse:
        self._window.forget_old()
        return OwnUse(
            waiting=self._waiting,
            in_flight=len(self.in_flight),
            window_requests=self._window.requests,
            window_tokens=self._window.tokens,
            paused_s=max(0.0, self._pause_left_s()),
        )


def _whole_share(limit: int, processes: int) -> float:
    """This process's part of a limit, rounded down so that all parts together stay within it.

    A part below one stays as it is: an average pace.
    """
    share = limit / processes
    return math.floor(share) if share >= 1 else share


def _now_s() -> float:
    return asyncio.get_running_loop().time()
