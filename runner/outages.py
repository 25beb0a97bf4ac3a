"""What happens when a breaker opens: a line for the person, and charges that are given back."""

import asyncio
import time
from collections.abc import Callable

from sqlalchemy import Connection

from runner.ledger import Ledger
from runner.ledger.outages import RunOfFailures, forgive
from runner.ledger.raising import BREAKER_OPEN, Raised, raise_alert
from runner.limiter import Outage
from runner.log import log
from runner.retry import FREE_IN_OUTAGE

QUIET_US = 1_800_000_000  # a provider that comes and goes is told of twice an hour
FORGIVE_AFTER_S = 0.5  # outcomes of these very failures are still being written


class Outages:
    """Hears of outages from the limiter; `finish` waits until all they ask for is written."""

    def __init__(self, ledger: Ledger, *, clock_s: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock_s = clock_s
        self._forgiving: set[asyncio.Task[None]] = set()

    def begin(self, outage: Outage) -> None:
        """A provider is out: what its failures in succession were charged is given back."""
        lane = outage.lane
        log(
            "breaker_opened",
            f"{lane.model} at {lane.server} fails again and again; one call every 10 s "
            "tries whether it is back",
            model=lane.model,
            server=lane.server,
        )
        since_us = self._now_us() - round(outage.since_s * 1e6)
        task = asyncio.create_task(self._forgive(outage, since_us=since_us))
        self._forgiving.add(task)
        task.add_done_callback(self._forgiving.discard)

    async def finish(self) -> None:
        """Wait for all that has begun; raises what kept one of them from being written."""
        for ended in await asyncio.gather(*self._forgiving, return_exceptions=True):
            if ended is not None:
                raise ended

    async def _forgive(self, outage: Outage, *, since_us: int) -> None:
        await self._ledger.write_one(lambda connection: self._raise(connection, outage))
        await asyncio.sleep(FORGIVE_AFTER_S)
        run = RunOfFailures(
            lane=outage.lane,
            since_us=since_us,
            faults=FREE_IN_OUTAGE,
            now_us=self._now_us(),
        )
        await self._ledger.write_one(lambda connection: forgive(connection, run))

    def _raise(self, connection: Connection, outage: Outage) -> None:
        """Every process of the fleet hears of an outage; one of them is enough to tell it."""
        lane = outage.lane
        told = Raised(
            kind=BREAKER_OPEN,
            key=f"{BREAKER_OPEN}:{lane.id}",
            scope=f"lane:{lane.id}",
            message=f"{lane.model} at {lane.server} fails again and again; one call every 10 s "
            "tries whether it is back",
        )
        raise_alert(connection, told, now_us=self._now_us(), quiet_us=QUIET_US)

    def _now_us(self) -> int:
        return round(self._clock_s() * 1e6)
