"""The limiter of one process: every call is granted here, by the fleet's calendar or alone."""

import asyncio
from collections.abc import Callable
from itertools import count

from runner.config import ModelSettings, Settings
from runner.lanes import Lane
from runner.limiter.alone import end_alone
from runner.limiter.calendar import Calendar
from runner.limiter.grants import TAKEN_BACK, Ending, Grant, Postponed
from runner.limiter.limits import refuse_oversize, with_spare
from runner.limiter.line import Line, Outage
from runner.limiter.process import ProcessLimiter
from runner.limiter.retries import RetryBudget


class Limiter:
    """Decides when calls start. Every grant ends with one `end`; further ones change nothing.

    With a calendar, all processes of the fleet share each lane's limits, its breaker and its
    pauses. Without one, this process keeps to its own share (`set_share`) and has no breaker.
    `process` names this process in the fleet; `on_outage` is told when this process's report has
    opened a breaker.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        calendar: Calendar | None = None,
        process: Callable[[], str] = lambda: "alone",
        on_outage: Callable[[Outage], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._calendar = calendar
        self._process = process
        self._on_outage = on_outage
        self._own = ProcessLimiter(settings.models)
        self._lines: dict[str, Line] = {}
        self._retries: dict[str, RetryBudget] = {}
        self._processes = 1
        self._numbers = count(1)

    async def acquire(
        self, lane: Lane, *, tokens: int, spare: int = 0, retry: bool = False
    ) -> Grant | Postponed:
        """Wait, first come first served, until a call of about `tokens` may soon start.

        `spare`: so many more it may count; they are given back when it says that it did not.
        `retry`: it repeats a call that failed for the provider's reasons, and is postponed when the
        lane's retry budget is used up. Raises OverLimitError at once when no window of the lane's
        limits has room for `tokens`. A cancelled waiter takes nothing.
        """
        limits = self._limits(lane)
        refuse_oversize(lane.model, limits, tokens=tokens)
        budget = self._budget(lane)
        if retry and not budget.has_room():
            return Postponed(budget.postpone())
        asked = with_spare(limits, tokens=tokens, spare=spare)
        grant = await self._wait(lane, limits, tokens=asked)
        if not retry:
            budget.note_first()
        elif not await budget.take():  # others were quicker while this one waited
            self.end(grant, TAKEN_BACK)
            return Postponed(budget.postpone())
        return grant

    async def until_start(self, grant: Grant) -> None:
        """Wait for the exact moment that a grant is for; all that comes before a call is done."""
        line = self._lines.get(grant.lane.id)
        if line is not None and grant.own is None:
            line.note_ready(grant)
        await asyncio.sleep(max(0.0, grant.start_s - asyncio.get_running_loop().time()))

    def end(self, grant: Grant, ending: Ending) -> None:
        """Say how a granted call ended: its place is free, what it did not use is given back."""
        line = self._lines.get(grant.lane.id)
        if line is not None:
            line.end(grant, ending)
        elif grant.own is not None:
            end_alone(self._own, grant.own, ending)

    async def is_out(self, lane: Lane) -> bool:
        """Whether the lane's breaker is open, all calls that ended so far considered."""
        line = self._lines.get(lane.id)
        return False if line is None else await line.is_out()

    def set_share(self, processes: int) -> None:
        """So many processes share the floor of retries, and the limits while Redis is away."""
        self._processes = processes
        self._own.set_share(processes)
        for budget in self._retries.values():
            budget.set_share(processes)

    @property
    def lanes(self) -> list[Lane]:
        """Every lane that was asked for."""
        return [line.lane for line in self._lines.values()]

    async def aclose(self) -> None:
        """Report what is left, and let go of the calendar."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        if self._calendar is not None:
            await self._calendar.close()

    def _limits(self, lane: Lane) -> ModelSettings:
        return self._settings.model(lane.model)

    async def _wait(self, lane: Lane, limits: ModelSettings, *, tokens: int) -> Grant:
        number = next(self._numbers)
        if self._calendar is not None:
            return await self._line(lane, limits, self._calendar).enter(
                number=number, tokens=tokens
            )
        passed = await self._own.acquire(lane.model, tokens=tokens)
        return Grant(
            lane=lane,
            number=number,
            tokens=tokens,
            waited_us=passed.waited_us,
            start_s=asyncio.get_running_loop().time(),
            own=passed,
        )

    def _line(self, lane: Lane, limits: ModelSettings, calendar: Calendar) -> Line:
        line = self._lines.get(lane.id)
        if line is None:
            line = self._lines[lane.id] = Line(
                lane,
                limits,
                calendar=calendar,
                own=self._own,
                process=self._process,
                on_outage=self._on_outage,
            )
        return line

    def _budget(self, lane: Lane) -> RetryBudget:
        budget = self._retries.get(lane.id)
        if budget is None:
            budget = self._retries[lane.id] = RetryBudget()
            budget.set_share(self._processes)
        return budget
