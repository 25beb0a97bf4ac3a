"""Tells a person what needs one: budgets mostly spent, pauses, outages, old documents, drift.

The leader takes alerts from the ledger, which gives each of them out once: a log line, and the
command and the webhook of `[alerts]` in runner.toml. What those do harms nothing: they run beside
the work, for a bounded time, and a failure is a line in the log.
"""

import asyncio
import json
import time
from collections.abc import Callable

from sqlalchemy import Connection

from runner.budget import day_budget_nusd, nusd_to_usd
from runner.config import Settings
from runner.ledger import Ledger
from runner.ledger.alerts import BATCH_PAUSED, Alert, alerts_due, take_alerts
from runner.ledger.raising import BREAKER_OPEN
from runner.log import Level, log
from runner.telling import host_of, post, run_command

COMMAND_TRIES = 2
POST_PAUSES_S = (1.0, 4.0, 16.0)  # between the tries of a webhook
AT_ONCE = 4
WAITING_MAX = 200  # of what is more, the log alone hears
FINISH_MAX_S = 30.0  # a drain does not wait longer for a webhook that is away
SAID_ELSEWHERE = (BATCH_PAUSED, BREAKER_OPEN)  # in the log, as it happens


class Alerts:
    """The alerts of one ledger, as one worker tells them while it leads."""

    def __init__(
        self, ledger: Ledger, settings: Settings, *, clock_s: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._command = settings.alerts.command
        self._webhook_url = settings.alerts.webhook_url
        self._day_limit_nusd = day_budget_nusd(settings)
        self._clock_s = clock_s
        self._places = asyncio.Semaphore(AT_ONCE)
        self._telling: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        self._one_takes = asyncio.Lock()

    async def look(self) -> None:
        """Take what is due and begin to tell it; waits for no command and no webhook.

        What is being taken when this is cancelled is told all the same: nobody is given it again.
        """
        self._taking = asyncio.create_task(self._take())
        await asyncio.shield(self._taking)

    async def _take(self) -> None:
        async with self._one_takes:
            now_us = round(self._clock_s() * 1e6)
            limit_nusd = self._day_limit_nusd
            if not await self._ledger.read_one(
                lambda connection: alerts_due(connection, day_limit_nusd=limit_nusd, now_us=now_us)
            ):
                return
            # a commit whose answer gets lost is tried again, and is given nothing then
            taken: dict[Alert, None] = {}

            def take(connection: Connection) -> None:
                alerts = take_alerts(connection, day_limit_nusd=limit_nusd, now_us=now_us)
                taken.update(dict.fromkeys(alerts))

            await self._ledger.write_one(take)
            for alert in taken:
                if alert.kind not in SAID_ELSEWHERE:
                    log(alert.kind, alert.message, scope=alert.scope, batch=alert.batch)
                self._begin_to_tell(alert)

    async def finish(self) -> None:
        """Wait a while until what was taken is told."""
        if self._taking is not None:
            await self._taking
        if not self._telling:
            return
        _, late = await asyncio.wait(self._telling, timeout=FINISH_MAX_S)
        for task in late:
            task.cancel()
        if late:
            log("alerts_untold", f"alerts that were not told before the end: {len(late)}")
            await asyncio.gather(*late, return_exceptions=True)

    def _begin_to_tell(self, alert: Alert) -> None:
        line = alert_line(alert)
        ways = []
        if self._command is not None:
            ways.append(self._tell_command(self._command, line))
        if self._webhook_url is not None:
            ways.append(self._tell_webhook(self._webhook_url, line))
        for way in ways:
            if len(self._telling) >= WAITING_MAX:
                way.close()
                log("alert_untold", "too many alerts wait to be told: this one is only here")
                continue
            task = asyncio.create_task(way)
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_command(self, command: str, line: bytes) -> None:
        async with self._places:
            for _ in range(COMMAND_TRIES):
                trouble = await run_command(command, line)
                if trouble is None:
                    return
                log("alert_command", f"alert command {command!r} {trouble}", level=Level.ERROR)

    async def _tell_webhook(self, url: str, line: bytes) -> None:
        async with self._places:
            for pause_s in (*POST_PAUSES_S, None):
                trouble, may_help = await post(url, line)
                if trouble is None:
                    return
                words = f"alert webhook at {host_of(url)} {trouble}"
                log("alert_webhook", words, level=Level.ERROR)
                if pause_s is None or not may_help:
                    return
                await asyncio.sleep(pause_s)


def alert_line(alert: Alert) -> bytes:
    """An alert as it is told: one line of JSON, money in US dollars, time in UTC."""
    told = {
        "kind": alert.kind,
        "scope": alert.scope,
        "batch": alert.batch,
        "spent_usd": _usd(alert.spent_nusd),
        "limit_usd": _usd(alert.limit_nusd),
        "message": alert.message,
        "at": iso_utc(alert.at_us),
    }
    return json.dumps(told).encode() + b"\n"


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else float(nusd_to_usd(nusd))


def iso_utc(at_us: int) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_us // 1_000_000))
