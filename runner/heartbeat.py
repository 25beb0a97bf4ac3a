"""A worker's signs of life in the ledger, and how it judges whether others still live.

No clock of another machine is trusted: a worker is dead when its beat has not changed for
`DEAD_AFTER_S` of the observer's own monotonic time, or at once when it ran on this very host and
its process is gone.
"""

import asyncio
import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from runner.keys import new_id
from runner.ledger import Ledger
from runner.ledger.workers import Beat, WorkerRow, beat, register
from runner.log import log, of_worker

BEAT_EVERY_S = 3.0
DEAD_AFTER_S = 10.0
# causes of a hindrance
ROAD = "road"
JOB = "job"
FORGETS = "forgets"
HINDERED_S = 60.0  # a hindrance that lasts is told again before


def host_key() -> str:
    """What two processes share exactly when they can see each other's pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}:{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()}:{int(psutil.boot_time())}"


def process_started_s(pid: int) -> int | None:
    """When this process began (seconds since the epoch); None when there is no such process."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(process.create_time())
    except psutil.Error:
        return None


class Judge:
    """Tells the dead from the living by watching their beats change."""

    def __init__(self, *, host: str, monotonic: Callable[[], float]) -> None:
        self._host = host
        self._monotonic = monotonic
        self._changed: dict[str, tuple[int, float]] = {}

    def dead(self, rows: Iterable[WorkerRow], *, trust_silence: bool = True) -> list[WorkerRow]:
        """Those of the rows that have shown no life for too long.

        Without `trust_silence` (the observer itself could not write, or was stopped) silence is
        forgiven and counted anew; only a process that is gone from this host is dead.
        """
        now_s = self._monotonic()
        rows = list(rows)
        last = self._changed if trust_silence else {}
        self._changed = {
            row.id: last[row.id]
            if row.id in last and last[row.id][0] == row.beats
            else (row.beats, now_s)
            for row in rows
        }
        return [row for row in rows if self._is_dead(row, now_s)]

    def _is_dead(self, row: WorkerRow, now_s: float) -> bool:
        if now_s - self._changed[row.id][1] > DEAD_AFTER_S:
            return True
        if row.host != self._host:
            return False
        started = process_started_s(row.pid)
        # one second of tolerance: the start is derived from clock ticks since boot
        return started is None or abs(started - row.process_started_s) > 1


class Heart:
    """One worker's place among the living. `self.row` is its present identity."""

    def __init__(self, ledger: Ledger, *, slots: int, clock_s: Callable[[], float]) -> None:
        self._ledger = ledger
        self._slots = slots
        self._clock_s = clock_s
        self.host = host_key()
        self.row: WorkerRow
        self.state = "working"
        self.in_flight = 0
        self._hindrances: dict[str, tuple[str, float]] = {}
        self._beaten_s = -math.inf

    def hinder(self, cause: str, why: str | None) -> bool:
        """Show why this worker cannot do all it should, until told None or `HINDERED_S` later.

        True when that is news. Each `cause` has its own place.
        """
        known, _ = self._hindrances.pop(cause, (None, 0.0))
        if why is not None:
            self._hindrances[cause] = (why, time.monotonic() + HINDERED_S)
        return why is not None and why != known

    @property
    def note(self) -> str | None:
        """What hinders this worker now, for `status`."""
        now_s = time.monotonic()
        present = [why for why, until_s in self._hindrances.values() if until_s > now_s]
        if self._ledger.trouble is not None:
            present.append(self._ledger.trouble)
        return "; ".join(present) or None

    @property
    def beats_freely(self) -> bool:
        """Whether this worker's own signs of life reach the ledger."""
        return time.monotonic() - self._beaten_s < 2 * BEAT_EVERY_S

    async def register(self) -> None:
        """Be born, or born again after having been taken for dead."""
        newcomer = WorkerRow(
            id=new_id("w", clock_s=self._clock_s),
            number=0,
            host=self.host,
            pid=os.getpid(),
            process_started_s=process_started_s(os.getpid()) or 0,
            state=self.state,
            beats=0,
            beat_us=self._now_us(),
            slots=self._slots,
            in_flight=0,
            note=None,
        )
        self.row = await self._ledger.write_one(lambda connection: register(connection, newcomer))
        of_worker(self.row.id)

    async def beat(self) -> None:
        """Give one sign of life."""
        alive = await self._ledger.write(
            beat,
            Beat(
                worker_id=self.row.id,
                state=self.state,
                in_flight=self.in_flight,
                note=self.note,
                now_us=self._now_us(),
            ),
        )
        self._beaten_s = time.monotonic()
        if not alive and self.state == "working":
            log("taken_for_dead", "this worker was taken for dead; it goes on as a new one")
            await self.register()

    async def beat_forever(self) -> None:
        """Give signs of life until cancelled."""
        while True:
            await self._ledger.read_one(self._ledger.clock.look)
            await self.beat()
            await asyncio.sleep(BEAT_EVERY_S)

    def _now_us(self) -> int:
        return round(self._clock_s() * 1e6)
