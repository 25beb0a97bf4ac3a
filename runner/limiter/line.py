"""One lane's waiting line in this process, and the pump that asks the calendar on its behalf.

Callers wait in the order of their arrival. One task, the pump, sends the head of the line to the
calendar, which answers with exact start times; each caller is let go a little before its own, so
that what has to be durable before a call is so when its time has come. A pause, or a breaker that
opens, takes back every start that has not come yet. While Redis is away the process keeps to its
own share of the limits, for a bounded time.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from runner.config import ModelSettings
from runner.lanes import Lane
from runner.limiter.alone import end_alone
from runner.limiter.calendar import (
    CALENDAR_ERRORS,
    Calendar,
    EpochSeen,
    Question,
    Reply,
    Report,
)
from runner.limiter.grants import TAKEN_BACK, Ended, Ending, Grant
from runner.limiter.notes import Notes, pause_s, told_limits
from runner.limiter.process import ProcessLimiter
from runner.limiter.searching import next_knee
from runner.limiter.timing import Clock, Lead

POLL_S = 0.2  # between two questions while something is going on
HAND_OVER_S = 0.05  # while others have the places that callers here wait for
TOGETHER_S = 0.02  # newcomers of so long are asked for together
ASK_MAX = 100
ALONE_MAX_S = 60.0  # so long a process limits itself while Redis is away; then it waits
AWAY_POLL_S = 0.5
LATE_S = 0.01


@dataclass(slots=True, eq=False)
class _Waiter:
    """One caller in line."""

    number: int
    tokens: int
    since_s: float
    future: "asyncio.Future[Grant]"
    # once the calendar has given it a start
    start_us: int = 0
    start_s: float = 0.0
    cost_us: int = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def gone(self) -> bool:
        """Whether nobody waits any more."""
        return self.future.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A breaker has opened: since when calls of this lane have failed without a success."""

    lane: Lane
    since_s: float  # seconds ago


class Line:
    """The callers of one lane. Everything happens in one event loop."""

    def __init__(
        self,
        lane: Lane,
        limits: ModelSettings,
        *,
        calendar: Calendar,
        own: ProcessLimiter,
        process: Callable[[], str],
        on_outage: Callable[[Outage], None],
    ) -> None:
        self.lane = lane
        self.is_open = False  # the breaker
        self._lead = Lead()
        self._limits = limits
        self._calendar = calendar
        self._own = own
        self._process = process
        self._on_outage = on_outage
        self._clock = Clock()
        self._waiting: deque[_Waiter] = deque()
        self._granted: dict[int, _Waiter] = {}  # in the order of their starts
        self._under_way: dict[int, Grant] = {}
        self._notes = Notes()
        self._sending: Report | None = None
        self._seq = 0
        self._told: Mapping[str, int] = {}
        self._known = False  # the calendar has answered at least once
        self._paced = True
        self._allowed: int | None = 0
        self._asking = False  # others count on it that nothing begins meanwhile
        self._blocked_until_s = -math.inf
        self._denied = False  # the last question got fewer starts than it asked for
        self._listeners: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._closing = False
        self._away_since_s: float | None = None

    # ------------------------------------------------------------ for callers

    async def enter(self, *, number: int, tokens: int) -> Grant:
        """Wait in line until this call may soon start."""
        if self._may_start_at_once():
            return self._start_at_once(number=number, tokens=tokens, waited_us=0)
        waiter = _Waiter(number, tokens, _now_s(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._tend(hurry=not self._denied)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise

    def note_ready(self, grant: Grant) -> None:
        """All that comes before a call is done; one that begins late is moved on the calendar.

        There it would leave the window before it leaves the provider's.
        """
        if not self._paced or grant.start_us is None or grant.number not in self._under_way:
            return  # without a pace nothing stands on the calendar
        ready_s = _now_s()
        self._lead.note(grant.start_s - ready_s)
        self._under_way[grant.number] = self._begun(grant, at_s=ready_s)

    def _begun(self, grant: Grant, *, at_s: float) -> Grant:
        """The grant of a call that begins then; when that is late, the calendar is told."""
        if not self._paced or grant.start_us is None or at_s < grant.start_s + LATE_S:
            return grant
        to_us = grant.start_us + round((at_s - grant.start_s) * 1e6)
        self._notes.move(grant, from_us=grant.start_us, to_us=to_us)
        return replace(grant, start_s=at_s, start_us=to_us)

    def end(self, grant: Grant, ending: Ending) -> None:
        """The call has ended; only the first end of a grant counts."""
        known = self._under_way.pop(grant.number, None)
        if known is None:
            return
        # a busy process sends late what was ready in time
        grant = known if ending.sent_s is None else self._begun(known, at_s=ending.sent_s)
        start_us = grant.start_us or self._clock.calendar_us(grant.start_s)
        if grant.own is not None:
            end_alone(self._own, grant.own, ending)
        elif self._paced:
            self._notes.correct(start_us, grant, ending)
        self._notes.hear(start_us, grant, ending)
        if ending.how in (Ended.REFUSED, Ended.SLOW_DOWN):
            self._block(pause_s(ending))
        if ending.told is not None:
            self._told = told_limits(ending.told) or self._told
        self._start_those_that_may()
        self._tend(hurry=ending.how in _URGENT or (self._paced and self._is_full()))

    async def is_out(self) -> bool:
        """Whether the breaker is open, now that all that was said so far has been heard."""
        heard = asyncio.get_running_loop().create_future()
        self._listeners.append(heard)
        self._tend(hurry=True)
        await heard
        return self.is_open

    async def close(self) -> None:
        """Say what is left to say, and end the pump."""
        if self._pump is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.gather(self._pump, return_exceptions=True)
        with suppress(*CALENDAR_ERRORS):
            await self._ask()

    # ------------------------------------------------------------ starting

    def _may_start_at_once(self) -> bool:
        return self._known and not self._waiting and self._is_free()

    def _is_free(self) -> bool:
        """Whether one more call may start without asking: no pace, no pause, and room."""
        blocked = self.is_open or self._asking or _now_s() < self._blocked_until_s
        return not self._paced and not blocked and self._room() > 0

    def _room(self) -> float:
        if self._allowed is None:
            return math.inf
        return self._allowed - len(self._under_way) - len(self._granted)

    def _is_full(self) -> bool:
        return bool(self._waiting) and self._room() <= 1

    def _start_those_that_may(self) -> None:
        while self._waiting and self._is_free():
            waiter = self._waiting.popleft()
            if not waiter.gone:
                waited_us = round((_now_s() - waiter.since_s) * 1e6)
                waiter.future.set_result(
                    self._start_at_once(
                        number=waiter.number, tokens=waiter.tokens, waited_us=waited_us
                    )
                )

    def _start_at_once(self, *, number: int, tokens: int, waited_us: int) -> Grant:
        start_s = _now_s()
        grant = Grant(
            lane=self.lane,
            number=number,
            tokens=tokens,
            waited_us=waited_us,
            start_s=start_s,
            start_us=self._clock.calendar_us(start_s),
        )
        self._under_way[number] = grant
        self._tend(hurry=False)
        return grant

    def _let_go(self, last: _Waiter) -> None:
        """The time of a waiter is near; those before it go first, however short their lead was."""
        while last.number in self._granted:
            self._let_go_first(self._granted.pop(next(iter(self._granted))))

    def _let_go_first(self, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        if waiter.gone:  # given up in this very moment; `_give_up` found it nowhere
            self._take_back_start(waiter)
            return
        grant = Grant(
            lane=self.lane,
            number=waiter.number,
            tokens=waiter.tokens,
            waited_us=round((_now_s() - waiter.since_s) * 1e6),
            start_s=waiter.start_s,
            start_us=waiter.start_us,
        )
        self._under_way[waiter.number] = grant
        self._own.note(self.lane.model, tokens=waiter.tokens)
        waiter.future.set_result(grant)

    def _give_up(self, waiter: _Waiter) -> None:
        """A caller was cancelled while it waited, or as it was let go."""
        grant = self._under_way.get(waiter.number)
        if grant is not None:
            self.end(grant, TAKEN_BACK)
        elif self._granted.pop(waiter.number, None) is not None:
            self._take_back_start(waiter)
        else:
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def _take_back_start(self, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        self._notes.take_back(waiter.start_us, tokens=waiter.tokens)

    def _take_back_all_starts(self) -> None:
        """Those whose time has not come stand first in line again, in their order."""
        back = sorted(self._granted.values(), key=lambda waiter: waiter.start_us)
        self._granted.clear()
        for waiter in back:
            self._take_back_start(waiter)
        self._waiting.extendleft(reversed(back))

    def _block(self, seconds: float) -> None:
        self._blocked_until_s = max(self._blocked_until_s, _now_s() + seconds)
        self._take_back_all_starts()

    # ------------------------------------------------------------ the pump

    def _tend(self, *, hurry: bool) -> None:
        """See that the pump runs; `hurry` it when there is news worth a question of its own."""
        if hurry:
            self._wake.set()
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._ask_again_and_again()
        except Exception as error:
            # a fault of ours must not leave callers waiting for ever
            for waiter in self._waiting:
                if not waiter.gone:
                    waiter.future.set_exception(error)
            for heard in self._listeners:
                if not heard.done():
                    heard.set_exception(error)
            raise

    async def _ask_again_and_again(self) -> None:
        while True:
            asked_s = _now_s()
            self._wake.clear()
            try:
                await self._ask()
            except CALENDAR_ERRORS:
                await self._go_alone()
            if self._closing or not self._has_business():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            await asyncio.sleep(asked_s + TOGETHER_S - _now_s())

    def _pause_s(self) -> float:
        return HAND_OVER_S if self._waiting and self._room() <= 0 else POLL_S

    def _has_business(self) -> bool:
        return bool(
            self._waiting
            or self._granted
            or self._under_way
            or self._notes
            or self._sending
            or self._listeners
        )

    async def _ask(self) -> None:
        """One question to the calendar, and all that follows from its reply."""
        listeners, asked = self._listeners[:], self._to_ask()
        if self._sending is None:  # a report that got no reply is sent again as it was
            self._seq += 1
            self._sending, self._notes = self._notes.report(self._seq), Notes()
        asked_s = _now_s()
        self._asking = True
        try:
            reply = await self._calendar.ask(self.lane.id, self._limits, self._question(asked))
        finally:
            self._asking = False
        self._clock.note(reply.now_us, asked_s=asked_s, answered_s=_now_s())
        self._sending, self._away_since_s, self._known = None, None, True
        self._obey(reply)
        self._assign(asked, reply)
        self._start_those_that_may()
        for heard in listeners:
            self._listeners.remove(heard)
            if not heard.done():
                heard.set_result(None)
        if reply.epoch is not None:
            await self._judge(reply.epoch)

    def _to_ask(self) -> list[_Waiter]:
        while self._waiting and self._waiting[0].gone:
            self._waiting.popleft()
        if not self._paced and self._known and not self.is_open:
            return []  # they start without asking; a probe has to be asked for
        room = ASK_MAX if not self._known else max(0, min(ASK_MAX, self._room()))
        return list(islice(self._waiting, int(room)))

    def _question(self, asked: list[_Waiter]) -> Question:
        assert self._sending is not None
        now_s = _now_s()
        oldest_s = now_s - self._waiting[0].since_s if self._waiting else 0.0
        return Question(
            process=self._process(),
            report=self._sending,
            waiting=len(self._waiting),
            in_flight=len(self._under_way) + len(self._granted),
            oldest_us=round(oldest_s * 1e6),
            ahead_us=sum(waiter.cost_us for waiter in self._granted.values()),
            wishes=[waiter.tokens for waiter in asked],
            told_requests=self._told.get("requests"),
            told_tokens=self._told.get("tokens"),
        )

    def _obey(self, reply: Reply) -> None:
        self._allowed, self._paced = reply.allowed, reply.paced
        was_open, self.is_open = self.is_open, reply.open
        if reply.paused_us:
            self._block(reply.paused_us / 1e6)
        elif reply.open and not was_open:
            self._take_back_all_starts()
        if reply.opened:
            self._on_outage(Outage(lane=self.lane, since_s=reply.run_us / 1e6))

    def _assign(self, asked: list[_Waiter], reply: Reply) -> None:
        """Give the first of those that were asked for their starts."""
        loop = asyncio.get_running_loop()
        self._denied = len(reply.starts_us) < len(asked)
        stale = self._notes.tell_of_a_refusal  # which came while the calendar was asked
        for waiter, after_us, cost_us in zip(asked, reply.starts_us, reply.costs_us, strict=False):
            waiter.start_us, waiter.cost_us = reply.now_us + after_us, cost_us
            if waiter.gone or stale:
                self._take_back_start(waiter)
                continue
            self._waiting.remove(waiter)
            self._granted[waiter.number] = waiter
            waiter.start_s = self._clock.loop_s(waiter.start_us)
            waiter.timer = loop.call_at(waiter.start_s - self._lead.s, self._let_go, waiter)

    async def _judge(self, seen: EpochSeen) -> None:
        """Set the concurrency of an adaptive lane anew when its epoch has told enough."""
        knee = next_knee(seen)
        if knee is not None:
            await self._calendar.tune(
                self.lane.id, epoch=seen.number, limit=knee.limit, knee=knee.to_json()
            )
            self._wake.set()

    # ------------------------------------------------------------ Redis is away

    async def _go_alone(self) -> None:
        """Let calls start by this process's own share of the limits; after a while, none."""
        for heard in self._listeners:
            if not heard.done():
                heard.set_result(None)
        self._listeners.clear()
        now_s = _now_s()
        if self._away_since_s is None:
            self._away_since_s = now_s
        if now_s - self._away_since_s > ALONE_MAX_S:
            await asyncio.sleep(AWAY_POLL_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(AWAY_POLL_S):
                await self._serve_alone()

    async def _serve_alone(self) -> None:
        while True:
            head = next((waiter for waiter in self._waiting if not waiter.gone), None)
            if head is None or (self._room() <= 0 and self._known):
                await asyncio.sleep(TOGETHER_S)
                continue
            passed = await self._own.acquire(self.lane.model, tokens=head.tokens)
            if head.gone:
                self._own.refund(passed)
                continue
            self._waiting.remove(head)
            now_s = _now_s()
            grant = Grant(
                lane=self.lane,
                number=head.number,
                tokens=head.tokens,
                waited_us=round((now_s - head.since_s) * 1e6),
                start_s=now_s,
                own=passed,
            )
            self._under_way[head.number] = grant
            head.future.set_result(grant)


_URGENT = (Ended.FAILED, Ended.NO_CONNECTION, Ended.REFUSED, Ended.SLOW_DOWN)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
