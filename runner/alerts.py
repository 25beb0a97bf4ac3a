"""Tells a person of budgets that are mostly spent and of batches that pause, once each.

The leader takes alerts from the ledger, which gives each of them out once: a log line for a budget,
and for everything the command of `[alerts]` in runner.toml. What the command does harms nothing:
it runs beside the work, for a bounded time, and a failure is a line in the log.
"""

import asyncio
import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from runner.budget import day_budget_nusd, nusd_to_usd
from runner.config import Settings
from runner.ledger import Ledger
from runner.ledger.alerts import BUDGET_ALERT, Alert, alerts_due, take_alerts
from runner.log import Level, log

COMMAND_MAX_S = 10.0
TRIES = 2
AT_ONCE = 4


class Alerts:
    """The alerts of one ledger, as one worker tells them while it leads."""

    def __init__(
        self, ledger: Ledger, settings: Settings, *, clock_s: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._command = settings.alerts.command
        self._day_limit_nusd = day_budget_nusd(settings)
        self._clock_s = clock_s
        self._places = asyncio.Semaphore(AT_ONCE)
        self._telling: set[asyncio.Task[None]] = set()

    async def look(self) -> None:
        """Take what is due and begin to tell it; waits for no command."""
        now_us = round(self._clock_s() * 1e6)
        limit_nusd = self._day_limit_nusd
        if not await self._ledger.read_one(
            lambda connection: alerts_due(connection, day_limit_nusd=limit_nusd, now_us=now_us)
        ):
            return
        taken = await self._ledger.write_one(
            lambda connection: take_alerts(connection, day_limit_nusd=limit_nusd, now_us=now_us)
        )
        for alert in taken:
            if alert.kind == BUDGET_ALERT:
                log(alert.kind, alert.message, scope=alert.scope, batch=alert.batch)
            if self._command is not None:
                task = asyncio.create_task(self._tell(self._command, alert))
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)

    async def finish(self) -> None:
        """Tell what is left, and wait until the commands have ended."""
        await self.look()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _tell(self, command: str, alert: Alert) -> None:
        line = alert_line(alert)
        async with self._places:
            for _ in range(TRIES):
                trouble = await _run(command, line)
                if trouble is None:
                    return
                log("alert_command", f"alert command {command!r} {trouble}", level=Level.ERROR)


def alert_line(alert: Alert) -> bytes:
    """An alert as the command reads it: one line of JSON, money in US dollars, time in UTC."""
    limit_nusd = alert.limit_nusd
    told = {
        "kind": alert.kind,
        "scope": alert.scope,
        "batch": alert.batch,
        "spent_usd": float(nusd_to_usd(alert.spent_nusd)),
        "limit_usd": None if limit_nusd is None else float(nusd_to_usd(limit_nusd)),
        "message": alert.message,
        "at": iso_utc(alert.at_us),
    }
    return json.dumps(told).encode() + b"\n"


def iso_utc(at_us: int) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_us // 1_000_000))


async def _run(command: str, line: bytes) -> str | None:
    """Start the command and let it read the line; what went wrong, if anything did."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the runner, and what it started ends with it
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    try:
        await asyncio.wait_for(process.communicate(line), COMMAND_MAX_S)
    except TimeoutError:
        return f"took longer than {COMMAND_MAX_S:g} s and was stopped"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return None if process.returncode == 0 else f"ended with exit code {process.returncode}"
