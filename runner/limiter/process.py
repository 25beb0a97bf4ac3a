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
from runner.limiter.grants import Grant, LimiterUse, OverLimitError

WINDOW_S = 60.0
# A call reaches the provider a little after its grant, and not always equally late.
JITTER_S = 1.0
_SPAN_S = WINDOW_S + JITTER_S
_BURST_S = 1.0  # how many seconds' worth of the limit may start at once


class ProcessLimiter:
    """The `Limiter` of one process, from the limits of each model; all times are its event loop's.

    aiolimiter paces the starts at (limit - burst) / (window + jitter), and a log of the last
    window makes the promise strict: in any rolling minute, granted requests and tokens stay within
    the share of the limits. Pacing alone cannot promise that, because a document larger than the
    burst is let through in one piece.

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

    async def acquire(self, model: str, *, tokens: int) -> Grant:
        """See `Limiter.acquire`."""
        lane = self._lane(model)
        tpm = lane.limits.tpm
        if tpm is not None and tokens > tpm:
            raise OverLimitError(
                f"model {model}: the call needs up to {tokens} tokens, but at most {tpm} a minute "
                "may start; shorten the document, lower max_output_tokens, or raise tpm in "
                "runner.toml if the provider allows more"
            )
        number = next(self._numbers)
        if lane.idle_and_unlimited():
            lane.in_flight.add(number)
            return Grant(model, tokens, 0, number)
        waited_s = await lane.enter(number=number, tokens=tokens)
        return Grant(model, tokens, int(waited_s * 1e6), number)

    def refund(self, grant: Grant, *, used_tokens: int = 0) -> None:
        """See `Limiter.refund`."""
        lane = self._lane(grant.model)
        lane.refund(grant.number, used_tokens=used_tokens)
        if used_tokens == 0:
            lane.release(grant.number)

    def release(self, grant: Grant) -> None:
        """See `Limiter.release`."""
        self._lane(grant.model).release(grant.number)

    def pause(self, model: str, *, seconds: float) -> None:
        """See `Limiter.pause`."""
        self._lane(model).pause(seconds)

    def set_share(self, processes: int) -> None:
        """See `Limiter.set_share`."""
        if processes < 1:
            raise ValueError(f"a limit is shared by at least 1 process, not {processes}")
        self._processes = processes
        for lane in self._lanes.values():
            lane.set_share(processes)

    def snapshot(self) -> Mapping[str, LimiterUse]:
        """See `Limiter.snapshot`."""
        return {model: lane.use() for model, lane in self._lanes.items()}

    def _lane(self, model: str) -> "_Lane":
        lane = self._lanes.get(model)
        if lane is None:
            lane = _Lane(self._models.get(model) or ModelSettings(), processes=self._processes)
            self._lanes[model] = lane
        return lane


class _Pace:
    """One aiolimiter bucket with a credit: what was taken from it and not used after all."""

    def __init__(self, *, limit: float, burst: int, extra: float) -> None:
        self._burst = burst
        self._limit = limit
        rate_per_s = (limit - extra) / _SPAN_S
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
        """Let the next callers have `amount` without waiting, within the next minute."""
        now_s = _now_s()
        unspent = self._credit if now_s < self._credit_until_s else 0
        self._credit = min(unspent + amount, math.ceil(self._limit))
        self._credit_until_s = now_s + _SPAN_S


def _request_pace(rpm: float) -> _Pace:
    # Requests are counted one by one, so the first of a burst costs no rate: with a burst of one
    # they start (window + jitter) / rpm apart, and no rolling window holds more than rpm.
    extra = int(rpm * _BURST_S / WINDOW_S)
    return _Pace(limit=rpm, burst=1 + extra, extra=extra)


def _token_pace(tpm: float) -> _Pace:
    burst = max(1, int(tpm * _BURST_S / WINDOW_S))
    return _Pace(limit=tpm, burst=burst, extra=burst if burst < tpm else 0)


@dataclass(slots=True)
class _Started:
    """One call in the log of the last window; a refund lowers what it counts."""

    at_s: float
    number: int
    requests: int
    tokens: int


class _Window:
    """The calls started in the last window, and their sums."""

    def __init__(self) -> None:
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
        horizon_s = _now_s() - _SPAN_S
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
            wait_s = started.at_s + _SPAN_S - now_s
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
        self._window = _Window()
        self._paused_until_s = -math.inf
        self._unlimited = limits.rpm is limits.tpm is limits.max_concurrency is None
        self.set_share(processes)

    def set_share(self, processes: int) -> None:
        rpm, tpm = self.limits.rpm, self.limits.tpm
        slots = self.limits.max_concurrency
        self._rpm = math.inf if rpm is None else _whole_share(rpm, processes)
        self._tpm = math.inf if tpm is None else _whole_share(tpm, processes)
        self._slots = math.inf if slots is None else max(1, slots // processes)
        self._request_pace = None if rpm is None else _request_pace(self._rpm)
        self._token_pace = None if tpm is None else _token_pace(self._tpm)
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
        window_s = self._window.wait_s(requests_max=self._rpm, tokens=tokens, tokens_max=self._tpm)
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

    def use(self) -> LimiterUse:
        self._window.forget_old()
        return LimiterUse(
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
