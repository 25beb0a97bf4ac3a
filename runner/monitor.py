"""Looks for what a person should hear of and nothing reports by itself: age, dead letters, drift.

The leader looks: every minute at the queue and at the day's dead letters, every hour at the rates
of quality. What it sees is decided by pure functions and raised under a key, so it is told once.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from runner.config import AlertSettings, Settings
from runner.drifts import RateDrift, find_drifts
from runner.keys import alert_key
from runner.ledger import Ledger
from runner.ledger.promptnames import prompt_versions
from runner.ledger.raising import DRIFT, MANY_DEAD, OLD_DOCUMENT, Raised, raise_alert
from runner.ledger.standing import oldest_in_line_us
from runner.ledger.tallies import TallyFilter, TallyRow, read_tallies
from runner.log import log
from runner.rates import Measure, rate_of

TICK_S = 1.0
LOOK_EVERY_S = 60.0
DRIFT_EVERY_S = 3_600.0
AGAIN_US = 86_400_000_000  # what lasts is told once a day
DEAD_OF = 20  # of fewer documents, a share says nothing


class Monitor:
    """What the leader looks at beside its other duties."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        *,
        leads: Callable[[], bool],
        clock_s: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._limits = settings.alerts
        self._leads = leads
        self._clock_s = clock_s
        self._monotonic = monotonic
        self._look_at_s = self._drift_at_s = monotonic()

    async def run(self) -> None:
        """Look at what it is time for, while this worker leads, until cancelled."""
        while True:
            if self._leads():
                await self.look()
            await asyncio.sleep(TICK_S)

    async def look(self) -> None:
        """Look at what it is time for, and raise what is seen."""
        now_s = self._monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            await self._raise(await self._read(self._see))
        if now_s >= self._drift_at_s:
            self._drift_at_s = now_s + DRIFT_EVERY_S
            await self._raise(await self._read(self._see_drift))

    async def _read(self, see: Callable[[], list[Raised]]) -> list[Raised]:
        """Read in a thread of its own: what takes a second keeps no document waiting."""
        try:
            return await asyncio.to_thread(see)
        except SQLAlchemyError as error:  # the next look reads again
            log("ledger_unread", f"the ledger could not be looked at: {type(error).__name__}")
            return []

    async def _raise(self, seen: list[Raised]) -> None:
        if not seen:
            return
        now_us = self._now_us()

        def write(connection: Connection) -> None:
            for one in seen:
                # a rise is told once; what has no end of its own, once a day
                quiet_us = None if one.kind == DRIFT else AGAIN_US
                raise_alert(connection, one, now_us=now_us, quiet_us=quiet_us)

        await self._ledger.write_one(write)

    def _see(self) -> list[Raised]:
        now_us = self._now_us()
        today = f"{_day(now_us)}"
        with self._ledger.snapshot() as connection:
            oldest_us = oldest_in_line_us(connection)
            wanted = TallyFilter(since=today, until=today, with_spans=False)
            rows = read_tallies(connection, wanted)
        age_s = None if oldest_us is None else (now_us - oldest_us) / 1e6
        return [*too_old(age_s, self._limits), *too_many_dead(rows, self._limits)]

    def _see_drift(self) -> list[Raised]:
        with self._ledger.snapshot() as connection:
            found = find_drifts(connection, today=_day(self._now_us()))
            versions = prompt_versions(connection)
        return [risen(one, versions.get(one.prompt_id)) for one in found if one.drift.has_risen]

    def _now_us(self) -> int:
        return round(self._clock_s() * 1e6)


def _day(at_us: int) -> date:
    return datetime.fromtimestamp(at_us / 1e6, UTC).date()


def too_old(age_s: float | None, limits: AlertSettings) -> Iterator[Raised]:
    """An alert where the oldest document that nothing holds has waited for too long."""
    if age_s is None or age_s <= limits.oldest_age_s:
        return
    yield Raised(
        kind=OLD_DOCUMENT,
        key=OLD_DOCUMENT,
        scope="queue",
        message=f"a document has waited for {age_s / 3600:.1f} h (alert after "
        f"{limits.oldest_age_s / 3600:g} h): `runner status` shows what the queue waits for",
    )


def too_many_dead(rows: Iterable[TallyRow], limits: AlertSettings) -> Iterator[Raised]:
    """An alert for each job of whose documents too many ended dead in these tallies, of one day."""
    by_job: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_job[row.job].update(row.tally.counts)
    for job, counts in sorted(by_job.items()):
        dead = rate_of(counts, Measure.DEAD)
        if dead.whole < DEAD_OF or 100 * dead.part < limits.dead_percent * dead.whole:
            continue
        yield Raised(
            kind=MANY_DEAD,
            key=alert_key(MANY_DEAD, job),
            scope=f"job:{job}",
            message=f"job {job}: {dead.part:,} of {dead.whole:,} documents ended dead today "
            f"({100 * dead.part / dead.whole:.1f} %, alert at {limits.dead_percent:g} %): "
            "`runner dead list --since 1d` groups them by cause",
        )


def risen(found: RateDrift, version: str | None) -> Raised:
    """The alert of a rate that has risen: the same one for as long as the rise goes on."""
    drift = found.drift
    prompt = f"{version} ({found.prompt_id})" if version else found.prompt_id
    then, now = drift.then, drift.now
    return Raised(
        kind=DRIFT,
        key=alert_key(
            *(DRIFT, found.job, found.prompt_id, found.model, found.measure),
            f"{drift.alarm_since}",
        ),
        scope=f"job:{found.job}",
        message=f"job {found.job}, prompt {prompt}, model {found.model}: the rate of "
        f"`{found.measure}` rose from {then.rate or 0:.1%} (of {then.documents:,}) to "
        f"{now.rate or 0:.1%} (of {now.documents:,}) since {drift.alarm_since}: "
        f"`runner report --job {found.job}` shows it, `runner eval {found.job} --fresh` measures",
    )
