"""Starts the evaluations of the night: one a job in the whole fleet, one after the other.

The leading worker takes a night in the ledger and starts `runner eval` as a child, which submits
its gold documents at a small weight and lets the fleet work on them. A child that is cut off with
its worker leaves the night to the next one, which goes on where it stopped and pays nothing twice.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day

from sqlalchemy import Connection

from runner.config import EvalSettings
from runner.keys import alert_key
from runner.ledger import Ledger
from runner.ledger.nights import Night, end_night, nights_left, take_night
from runner.ledger.raising import NIGHTLY_FAILED, Raised, raise_alert
from runner.log import Level, log

LOOK_EVERY_S = 5.0
LATE = timedelta(hours=6)  # a fleet that was down begins a night so late, and no later
END_MAX_S = 20.0  # a child that is told to end leaves no call behind: it is quick
TAIL_BYTES = 1_000
INTERRUPTED = 130


class Nightly:
    """The nights of one ledger, as one worker keeps them while it leads."""

    def __init__(
        self,
        ledger: Ledger,
        settings: EvalSettings,
        *,
        env: Mapping[str, str],
        leads: Callable[[], bool],
        me: Callable[[], str],
        living: Callable[[], Collection[str]],
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._env = env
        self._leads = leads
        self._me = me
        self._living = living
        self._clock_s = clock_s
        self._child: asyncio.subprocess.Process | None = None
        self._night: Night | None = None
        self._tail = b""
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Keep the nights until cancelled; `finish` then ends what runs."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Start what is due, or hear how the child ended."""
        if self._child is not None:
            if self._child.returncode is not None:
                await self._conclude(self._child.returncode)
            return
        night = night_due(self._now_us(), self._settings.at)
        if night is None or not self._leads():
            return
        left = await self._ledger.read_one(
            lambda connection: nights_left(connection, night, self._settings.nightly)
        )
        for one in left:
            if await self._take(one):
                await self._start(one)
                return

    async def finish(self) -> None:
        """End the child, whose night is left to another worker."""
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._child.wait(), END_MAX_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()
        await self._conclude(self._child.returncode or 0)

    async def _take(self, night: Night) -> bool:
        me, living, now_us = self._me(), self._living(), self._now_us()
        return await self._ledger.write_one(
            lambda connection: take_night(connection, night, me=me, living=living, now_us=now_us)
        )

    async def _start(self, night: Night) -> None:
        words = f"evaluating {night.job}, the night of {night.night}"
        log("night", words, level=Level.INFO, job=night.job)
        self._night = night
        # its standard input ends when this process does, and so does the child
        self._child = await asyncio.create_subprocess_exec(
            *command_of(night, self._settings),
            env=dict(self._env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._tail = b""
        self._reading = asyncio.create_task(self._read(self._child))

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        """Keep the end of what the child says, and wait until it has ended."""
        assert child.stderr is not None
        while said := await child.stderr.read(TAIL_BYTES):
            self._tail = (self._tail + said)[-TAIL_BYTES:]
        await child.wait()

    async def _conclude(self, code: int) -> None:
        """A child that concluded its night has said so in the ledger; else say that it failed.

        Where a drain cuts this off, `finish` does it again.
        """
        assert self._reading is not None
        await asyncio.shield(self._reading)
        if code not in (INTERRUPTED, -signal.SIGTERM, -signal.SIGKILL):
            await self._tell_failure(code)
        self._night = self._child = None

    async def _tell_failure(self, code: int) -> None:
        night, now_us = self._night, self._now_us()
        assert night is not None
        raised = failed(night, code, self._tail.decode("utf-8", "replace"))

        def write(connection: Connection) -> None:
            if end_night(connection, night, now_us=now_us):
                raise_alert(connection, raised, now_us=now_us)

        await self._ledger.write_one(write)

    def _now_us(self) -> int:
        return round(self._clock_s() * 1e6)


def night_due(now_us: int, at: time_of_day) -> str | None:
    """The night, by the UTC day it begins on, whose evaluation is due now; None between nights."""
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    start = datetime.combine(now.date(), at, UTC)
    if start > now:
        start -= timedelta(days=1)
    return f"{start.date()}" if now - start < LATE else None


def command_of(night: Night, settings: EvalSettings) -> list[str]:
    """What evaluates a night."""
    command = [sys.executable, "-P", "-m", "runner.cli", "eval", night.job, "--night", night.night]
    if settings.budget_usd is not None:
        command += ["--budget-usd", f"{settings.budget_usd}"]
    return command


def failed(night: Night, code: int, said: str) -> Raised:
    """The alert of a night without an evaluation."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no word")
    return Raised(
        kind=NIGHTLY_FAILED,
        key=alert_key(NIGHTLY_FAILED, night.job, night.night),
        scope=f"job:{night.job}",
        message=f"nightly evaluation of {night.job}, {night.night}, gave no result (exit code "
        f"{code}): {last}: `runner eval {night.job}` shows why",
    )
