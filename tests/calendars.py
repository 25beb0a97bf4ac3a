"""A real calendar in virtual time, and the limiters of several processes that share it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from runner.config import ModelSettings, Settings
from runner.keys import new_id
from runner.lanes import Lane, Lanes
from runner.laneuse import LaneUse
from runner.limiter import Calendar, Ended, Ending, Grant, Limiter, Outage, Postponed, use_of
from runner.limiter.calendar import Question, Reply, Written
from tests.ledgers import START_US
from tests.virtual_time import in_patient_time, now_s, outside


class OutsideCalendar(Calendar):
    """A calendar that time waits for, and that believes it; its answers take `far_s`."""

    far_s = 0.0
    questions = 0

    async def ask(self, lane: str, limits: ModelSettings, question: Question) -> Reply:
        """See `Calendar.ask`."""
        self.questions += 1
        with outside():
            reply = await super().ask(lane, limits, question)
        await asyncio.sleep(self.far_s)
        return reply

    async def tune(self, lane: str, *, epoch: int, limit: int, knee: str) -> bool:
        """See `Calendar.tune`."""
        with outside():
            return await super().tune(lane, epoch=epoch, limit=limit, knee=knee)

    async def read(self, lane: str) -> Written:
        """See `Calendar.read`."""
        with outside():
            return await super().read(lane)


class Fleet:
    """Limiters of several processes over one calendar of their own."""

    def __init__(self, redis_url: str, *, processes: int = 1, **limits: Any) -> None:
        self.settings = Settings(home=Path("home"), models={"m": ModelSettings(**limits)})
        self.lane: Lane = Lanes(self.settings, env={}).of("m")
        self.outages: list[Outage] = []
        ledger_id = new_id("t")
        self.calendars = [
            OutsideCalendar(
                redis_url,
                ledger_id=ledger_id,
                clock_us=lambda: START_US + round(now_s() * 1e6),
            )
            for _ in range(processes)
        ]
        self.limiters = [
            Limiter(
                self.settings,
                calendar=calendar,
                process=lambda number=number: f"p{number}",  # type: ignore[misc]  # its own number
                on_outage=self.outages.append,
            )
            for number, calendar in enumerate(self.calendars)
        ]

    async def grant(self, process: int = 0, *, tokens: int = 10) -> Grant:
        """A call that has come to its start."""
        granted = await self.limiters[process].acquire(self.lane, tokens=tokens)
        assert not isinstance(granted, Postponed)
        try:
            await self.limiters[process].until_start(granted)
        except asyncio.CancelledError:
            self.limiters[process].end(granted, Ending(how=Ended.TAKEN_BACK))
            raise
        return granted

    async def call(
        self,
        process: int = 0,
        *,
        tokens: int = 1,
        lasts_s: float = 0.0,
        how: Ended = Ended.ANSWERED,
        retry_after_s: float | None = None,
    ) -> None:
        """One call from the line to its end."""
        grant = await self.grant(process, tokens=tokens)
        await asyncio.sleep(lasts_s)
        self.limiters[process].end(grant, Ending(how=how, retry_after_s=retry_after_s))

    async def read_use(self) -> LaneUse | None:
        """What the calendar says of the lane."""
        return use_of(await self.calendars[0].read(self.lane.id))

    async def use(self) -> LaneUse:
        """The lane's use, once everybody's reports are in."""
        for limiter in self.limiters:
            await limiter.is_out(self.lane)
        found = await self.read_use()
        assert found is not None
        return found


def play(redis_url: str, scene: Callable[[Fleet], Awaitable[None]], **fleet: Any) -> None:
    """A scene in virtual time; afterwards nothing of the limiters goes on."""

    async def main() -> None:
        made = Fleet(redis_url, **fleet)
        try:
            await scene(made)
        finally:
            await asyncio.gather(*(limiter.aclose() for limiter in made.limiters))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_patient_time(main())
