"""Writes down how the limits of each lane are used, so that `status` needs no Redis."""

import asyncio
import time
from collections.abc import Callable

from runner.ledger import Ledger
from runner.ledger.lanes import all_lanes, note_lanes, write_use
from runner.limiter import CALENDAR_ERRORS, Calendar, Limiter, use_of

LOOK_EVERY_S = 2.0


class LimitWatch:
    """Runs in every worker: each notes its own lanes, the one that leads looks at all."""

    def __init__(
        self,
        ledger: Ledger,
        limiter: Limiter,
        calendar: Calendar,
        *,
        leads: Callable[[], bool],
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._limiter = limiter
        self._calendar = calendar
        self._leads = leads
        self._clock_s = clock_s
        self._noted: set[str] = set()

    async def run(self) -> None:
        """Look every two seconds until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Note new lanes, and look at all of them if this worker leads."""
        now_us = round(self._clock_s() * 1e6)
        new = [lane for lane in self._limiter.lanes if lane.id not in self._noted]
        if new:
            await self._ledger.write_one(
                lambda connection: note_lanes(connection, new, now_us=now_us)
            )
            self._noted.update(lane.id for lane in new)
        if self._leads():
            await self._look_at_all(now_us)

    async def _look_at_all(self, now_us: int) -> None:
        # those that rested for days too: only their calendars know that they are called again
        rows = await self._ledger.read_one(lambda connection: all_lanes(connection, since_us=0))
        seen: dict[str, str] = {}
        for row in rows:
            try:
                use = use_of(await self._calendar.read(row.lane_id))
            except CALENDAR_ERRORS:
                return  # what stands there grows old, and says so
            if use is not None and use.is_in_use:
                seen[row.lane_id] = use.model_dump_json()
        if seen:
            await self._ledger.write_one(
                lambda connection: write_use(connection, seen, now_us=now_us)
            )
