"""One worker process: an arq worker, its heart and its feeder, from birth to a graceful end."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arq.worker import Worker

from runner.alerts import Alerts
from runner.config import Settings
from runner.crashpoints import Point, arm, reach
from runner.endpoints import Endpoints
from runner.errors import LedgerError, RoadError
from runner.feeder import Feeder
from runner.heartbeat import FORGETS, JOB, ROAD, Heart
from runner.keys import Ticket
from runner.lanes import Lanes
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.gate import Release, release
from runner.ledger.standing import has_open_documents
from runner.limiter import Calendar, Limiter
from runner.limitwatch import LimitWatch
from runner.log import detail, log
from runner.monitor import Monitor
from runner.nightly import Nightly
from runner.outages import Outages
from runner.pacing import Pacer
from runner.pinned import PinnedJobs
from runner.pipeline import Pipeline, Tools
from runner.prices import PriceList
from runner.pulse import beating
from runner.queue import ROAD_ERRORS, Road
from runner.search.keeper import SearchKeeper
from runner.suspect import Suspect
from runner.tracing import open_traces
from runner.turns.underway import Turns

ROAD_RETRY_FIRST_S = 0.1
ROAD_RETRY_MAX_S = 2.0
EMPTY_CHECK_S = 0.5
DRAIN_MARGIN_S = 5.0
CANCEL_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How one worker process works."""

    slots: int = 100  # documents at once
    until_empty: bool = False
    drain_s: float | None = None  # none: the longest deadline of a call
    stop_on_eof: bool = False  # drain when standard input ends: the parent is gone
    allow_unsafe_redis: bool = False
    pulse_fd: int | None = None  # where a supervisor listens to the event loop
    # of what it starts by night; none: it is no service, and starts nothing
    night_env: Mapping[str, str] | None = None


class WorkerProcess:
    """Takes documents from the road until told to stop; `run` returns when all is written down.

    The first SIGTERM or SIGINT drains: nothing new is called, waiting documents go back to the
    queue, calls in flight finish and are recorded. A second one aborts: calls in flight are listed
    as possibly paid.
    """

    def __init__(
        self,
        settings: Settings,
        options: WorkerOptions,
        *,
        clock_s: Callable[[], float] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._options = options
        self._wanted_clock_s = clock_s
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._stop = asyncio.Event()
        self._abort = asyncio.Event()
        self._arq: Worker | None = None

    async def run(self) -> None:
        """Work until drained. Raises RoadError or LedgerError when it cannot even begin.

        Also raises what kept it from writing down how a turn ended: it drains then, so that its
        successor takes over what it has leased.
        """
        self._ledger = Ledger(self._settings.ledger_url or sqlite_url(self._settings.ledger_path))
        self._clock_s = self._wanted_clock_s or self._ledger.clock.s
        self._endpoints = Endpoints(self._settings)
        try:
            await self._begin()
            async with beating(self._options.pulse_fd):
                try:
                    await self._work()
                finally:
                    await self._drain()  # also when a duty failed: calls in flight are paid for
            if self._turns.broken is not None:
                raise self._turns.broken
        finally:
            await self._endpoints.aclose()
            self._ledger.close()

    # ------------------------------------------------------------ birth

    async def _begin(self) -> None:
        redis_url = await self._endpoints.redis_url()
        jobs = PinnedJobs(self._settings.job_folders)
        calendar = Calendar(redis_url, ledger_id=self._ledger.id)
        self._heart = Heart(self._ledger, slots=self._options.slots, clock_s=self._clock_s)
        self._road = Road(redis_url, ledger_id=self._ledger.id)
        self._outages = Outages(self._ledger, clock_s=self._clock_s)
        self._limiter = Limiter(
            self._settings,
            calendar=calendar,
            process=lambda: self._heart.row.id,
            on_outage=self._outages.begin,
        )
        self._suspect = Suspect(self._settings.home)
        self._traces = open_traces(os.environ)
        self._pipeline = Pipeline(self._tools(jobs))
        self._turns = Turns(self._pipeline.run_turn, on_broken=self._stop.set)
        self._feeder = self._make_feeder(jobs)
        self._make_watches(calendar)
        self._listen()
        await self._heart.register()
        detail("worker_started", "a worker has started", slots=self._options.slots)

    def _tools(self, jobs: PinnedJobs) -> Tools:
        return Tools(
            ledger=self._ledger,
            jobs=jobs,
            settings=self._settings,
            lanes=Lanes(self._settings),
            pacer=Pacer(self._limiter),
            provider_for=self._endpoints.provider_for,
            prices=PriceList(self._settings),
            suspect=self._suspect,
            worker_id=lambda: self._heart.row.id,
            on_hindrance=self._note_hindrance,
            rng=self._rng,
            clock_s=self._clock_s,
            traces=self._traces,
        )

    def _make_feeder(self, jobs: PinnedJobs) -> Feeder:
        return Feeder(
            self._ledger,
            self._road,
            self._heart,
            home=self._settings.home,
            policy_of=jobs.policy,
            ceiling_of=lambda orphan: jobs.ceiling_nusd(
                orphan.job,
                version=orphan.prompt_version,
                models=orphan.models,
                settings=self._settings,
            ),
            alerts=Alerts(self._ledger, self._settings, clock_s=self._clock_s),
            limits_of=self._settings.model,
            clock_s=self._clock_s,
            rng=self._rng,
        )

    def _make_watches(self, calendar: Calendar) -> None:
        """What runs in every worker and acts in the one that leads, the feeder apart."""
        self._limit_watch = LimitWatch(
            self._ledger, self._limiter, calendar, leads=self._leads, clock_s=self._clock_s
        )
        self._monitor = Monitor(
            self._ledger, self._settings, leads=self._leads, clock_s=self._clock_s
        )
        self._nightly = Nightly(
            self._ledger,
            self._settings.eval,
            env=self._options.night_env or {},
            leads=self._leads,
            me=lambda: self._heart.row.id,
            living=lambda: {one.id for one in self._feeder.fleet.workers},
            clock_s=self._clock_s,
        )
        self._search_keeper = SearchKeeper(
            self._ledger,
            self._settings.home,
            leads=self._leads,
            is_quiet=lambda: not any(one.in_flight for one in self._feeder.fleet.workers),
        )

    def _leads(self) -> bool:
        return self._feeder.fleet.leads

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self.stop)

    def stop(self) -> None:
        """Drain; asked a second time, abort."""
        if self._stop.is_set():
            self._abort.set()
        self._stop.set()

    def _note_hindrance(self, why: str) -> None:
        if self._heart.hinder(JOB, why):
            log("hindered", why)

    # ------------------------------------------------------------ work

    async def _work(self) -> None:
        duties = [
            asyncio.create_task(self._heart.beat_forever()),
            asyncio.create_task(self._feeder.run()),
            asyncio.create_task(self._take_from_road()),
            asyncio.create_task(self._keep_share()),
            asyncio.create_task(self._limit_watch.run()),
            asyncio.create_task(self._search_keeper.run()),
            asyncio.create_task(self._monitor.run()),
        ]
        if self._options.night_env is not None and self._settings.eval.nightly:
            duties.append(asyncio.create_task(self._nightly.run()))
        if self._options.until_empty:
            duties.append(asyncio.create_task(self._stop_when_empty()))
        if self._options.stop_on_eof:
            duties.append(asyncio.create_task(self._stop_on_eof()))
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*duties, stopped], return_when=asyncio.FIRST_COMPLETED)
        await self._leave_duties([*duties, stopped])
        for duty in done - {stopped}:
            duty.result()  # a duty that ended by itself ended by an exception: show it

    async def _leave_duties(self, duties: "list[asyncio.Task[None] | asyncio.Task[bool]]") -> None:
        self._heart.state = "draining"
        await _end(duties)

    async def _take_from_road(self) -> None:
        """Run an arq worker, and another one whenever Redis has ended it."""
        wait_s = ROAD_RETRY_FIRST_S
        while not self._stop.is_set():
            self._arq = self._road.make_worker(
                self._extract, slots=self._options.slots, place=self._place
            )
            began_s = time.monotonic()
            try:
                await self._look_at_redis()
                await self._arq.async_run()
            except ROAD_ERRORS as error:
                self._heart.hinder(ROAD, f"Redis away: {error}")
            finally:
                # arq's tasks only wait for the turns, which go on without them
                await _end(self._arq.tasks.values())
            if time.monotonic() - began_s > ROAD_RETRY_MAX_S:
                wait_s = ROAD_RETRY_FIRST_S
            back = False
            while not back:
                await asyncio.sleep(wait_s)
                wait_s = min(ROAD_RETRY_MAX_S, 2 * wait_s)
                back = await self._return_to_road()

    async def _look_at_redis(self) -> None:
        if self._options.allow_unsafe_redis or self._settings.redis_url is None:
            return
        warning = await self._road.refuse_unsafe()
        if warning is not None and self._heart.hinder(FORGETS, warning):
            log("unsafe_redis", warning)

    def _place(self) -> tuple[int, int]:
        """Which one of the working workers this is, and of how many."""
        working = [one.id for one in self._feeder.fleet.workers if one.state == "working"]
        me = self._heart.row.id
        return (working.index(me), len(working)) if me in working else (0, 1)

    async def _return_to_road(self) -> bool:
        """After Redis was away: be sure it runs, and clear what it says this worker holds.

        False while it does not answer. What it still holds then would never be started again.
        """
        try:
            await self._endpoints.redis_url()
            held = (await self._road.held()).get(self._heart.row.number, [])
            await self._road.forget(ticket for ticket in held if ticket not in self._turns)
        except (RoadError, *ROAD_ERRORS) as error:
            self._heart.hinder(ROAD, f"Redis away: {error}")
            return False
        self._heart.hinder(ROAD, None)
        return True

    async def _extract(self, ticket: Ticket) -> None:
        """Begin a ticket's turn and wait for it; it outlives the arq worker."""
        if self._stop.is_set():
            due_us = round(self._clock_s() * 1e6)
            await self._ledger.write(release, Release(ticket, due_us))
            return
        self._road.hold(ticket, number=self._heart.row.number)
        turn = self._turns.begin(ticket)
        self._heart.in_flight = len(self._turns)
        await asyncio.shield(turn)
        reach(Point.BEFORE_ACK)

    async def _keep_share(self) -> None:
        while True:
            working = sum(worker.state == "working" for worker in self._feeder.fleet.workers)
            self._limiter.set_share(max(1, working))
            self._heart.in_flight = len(self._turns)
            await asyncio.sleep(1.0)

    async def _stop_when_empty(self) -> None:
        while await self._ledger.read_one(  # noqa: ASYNC110 - a database gives no signal
            lambda connection: has_open_documents(connection, now_us=round(self._clock_s() * 1e6))
        ):
            await asyncio.sleep(EMPTY_CHECK_S)
        self._stop.set()

    async def _stop_on_eof(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        self._stop.set()

    # ------------------------------------------------------------ the end

    async def _drain(self) -> None:
        beating = asyncio.create_task(self._heart.beat_forever())
        try:
            await self._end_turns()
            with suppress(LedgerError):
                await self._limit_watch.look()
        finally:
            try:
                await self._limiter.aclose()
                await self._outages.finish()  # also of one that the last report has told of
            finally:
                if self._traces is not None:
                    await asyncio.to_thread(self._traces.close)
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
                await self._part()

    async def _end_turns(self) -> None:
        ending_night = asyncio.create_task(self._nightly.finish())
        await self._turns.cancel(but=self._pipeline.calling)
        try:
            await self._feeder.retire()
        finally:  # what is called is paid for, whatever becomes of the lead
            await self._turns.finish(within_s=self._drain_s(), cut_off=self._abort)
            await ending_night

    async def _part(self) -> None:
        """Say in the ledger and on the road that this worker is no more."""
        self._heart.state = "stopped"
        self._heart.in_flight = 0
        await self._heart.beat()
        with suppress(*ROAD_ERRORS):
            await self._road.forget((await self._road.held()).get(self._heart.row.number, []))
        await self._road.close()
        self._suspect.close()
        detail("worker_stopped", "a worker has stopped")

    def _drain_s(self) -> float:
        if self._options.drain_s is not None:
            return self._options.drain_s
        deadlines = [model.timeout_s for model in self._settings.models.values()]
        return max([*deadlines, self._settings.model("").timeout_s]) + DRAIN_MARGIN_S


async def _end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended, whatever they end with.

    Once is not enough: a cancellation that meets a timeout inside redis-py is swallowed there
    (seen: a worker that polled on for ever after its drain had begun).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # seen, so that asyncio does not report it as lost


def run_worker(settings: Settings, options: WorkerOptions) -> None:
    """Run one worker in this process until it is drained; RUNNER_CRASH_POINT arms its traps."""
    arm(os.environ)

    async def work() -> None:
        await WorkerProcess(settings, options).run()

    asyncio.run(work())


def runner_home(settings: Settings) -> Path:
    """The home folder, made when missing, readable by its owner only."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return settings.home
