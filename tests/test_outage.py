"""A provider that goes down or fails by chance, in virtual time: real ledger, real calendar."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from runner.config import ModelSettings, Settings
from runner.keys import Ticket
from runner.lanes import Lanes
from runner.ledger import Ledger
from runner.ledger.tables import attempt, document
from runner.ledger.workers import WorkerRow
from runner.limiter import Limiter
from runner.limiter.retries import FLOOR_EVERY_S, MINUTE_S, SHARE
from runner.model import (
    PROVIDER_FAULTS,
    TERMINAL_STATES,
    Call,
    DocumentState,
    RawAnswer,
    Unanswered,
)
from runner.outages import Outages
from runner.pacing import Pacer
from runner.pinned import PinnedJobs
from runner.pipeline import Pipeline, Tools
from runner.prices import PriceList
from runner.provider import Provider
from runner.servers.valkey import use_valkey
from runner.suspect import Suspect
from runner.turns.turn import Ended
from tests.calendars import OutsideCalendar
from tests.jobfolders import make_job
from tests.ledgers import START_US, World, made_ledger_url
from tests.virtual_time import in_patient_time, now_s, outside

pytestmark = pytest.mark.slow
LATENCY_S = 0.3
TICK_S = 0.5
GOOD = json.dumps(
    {
        "choices": [{"message": {"content": '{"total": 5}'}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "model": "served",
    }
).encode()
BROKEN = json.dumps({"error": {"message": "down", "type": "server_error"}}).encode()


class OutsideLedger(Ledger):
    """A ledger whose threads time waits for."""

    async def write(self, operation: Any, argument: Any) -> Any:
        """See `Ledger.write`."""
        with outside():
            return await super().write(operation, argument)

    async def read(self, operation: Any, argument: Any) -> Any:
        """See `Ledger.read`."""
        with outside():
            return await super().read(operation, argument)


@dataclass
class Weather:
    """A provider that works or not, as `works` says at each call's beginning."""

    works: Callable[[], bool]
    calls_s: list[float] = field(default_factory=list)

    async def call(self, call: Call) -> RawAnswer | Unanswered:
        """See `Provider.call`."""
        assert call.body
        self.calls_s.append(now_s())
        good = self.works()
        await asyncio.sleep(LATENCY_S)
        return RawAnswer(200, GOOD) if good else RawAnswer(500, BROKEN)


@dataclass
class Sky:
    """One worker's pipeline over a real ledger and a real calendar, in virtual time."""

    world: World
    worker: WorkerRow
    pipeline: Pipeline
    limiter: Limiter
    outages: Outages
    slots: int
    running: set["asyncio.Task[Ended]"] = field(default_factory=set)

    async def live(self, until: Callable[[], bool]) -> None:
        """Feed and run turns until it is time to stop; turns under way finish."""
        while not until():
            self.world.now_us = START_US + round(now_s() * 1e6)
            room = self.slots - len(self.running)
            for ticket in self.world.feed(self.worker, window=self.slots) if room > 0 else []:
                self._begin(ticket)
            await asyncio.sleep(TICK_S)
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        await self.outages.finish()
        await self.limiter.aclose()

    def _begin(self, ticket: Ticket) -> None:
        task = asyncio.create_task(self.pipeline.run_turn(ticket))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    def documents(self) -> list[Any]:
        """Every document's row."""
        with self.world.ledger.snapshot() as connection:
            return list(connection.execute(select(document)).all())

    def attempts(self) -> list[Any]:
        """Every attempt's row in order."""
        with self.world.ledger.snapshot() as connection:
            return list(connection.execute(select(attempt).order_by(attempt.c.id)).all())


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real waiting for company would be most of the time that these tests take."""
    monkeypatch.setattr("runner.ledger.writer.GATHER_S", 0.0002)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with use_valkey(tmp_path / "redis-home") as server:
        yield server.url


def sky_of(
    folder: Path, url: str, redis_url: str, weather: Weather, *, documents: int, rpm: int
) -> Sky:
    """A worker with 50 slots and this many documents."""
    world = World(OutsideLedger(url))
    job = make_job(folder / "jobs")
    jobs = PinnedJobs([job.parent])
    pinned = jobs.live("tiny", version=None, models=("small",))
    batch = world.batch("tiny", job="tiny", prompt_id=pinned.prompt_id, models=("small",))
    world.add(batch, *(f"Total: {number}" for number in range(documents)))
    settings = Settings(home=folder, models={"small": ModelSettings(rpm=rpm)})
    worker = world.worker()
    loop = asyncio.get_running_loop()

    def clock_s() -> float:
        return START_US / 1e6 + loop.time()

    outages = Outages(world.ledger, clock_s=clock_s)
    limiter = Limiter(
        settings,
        calendar=OutsideCalendar(
            redis_url, ledger_id="sky", clock_us=lambda: round(clock_s() * 1e6)
        ),
        process=lambda: worker.id,
        on_outage=outages.begin,
    )

    async def provider_for(model: str, *, simulated: bool) -> Provider:
        return weather

    tools = Tools(
        ledger=world.ledger,
        jobs=jobs,
        settings=settings,
        lanes=Lanes(settings, env={}),
        pacer=Pacer(limiter),
        provider_for=provider_for,
        prices=PriceList(settings),
        suspect=Suspect(folder),
        worker_id=lambda: worker.id,
        on_hindrance=lambda _: None,
        rng=random.Random(1),
        clock_s=clock_s,
    )
    return Sky(world, worker, Pipeline(tools), limiter, outages, slots=50)


def test_a_provider_that_is_down_for_ten_minutes_costs_no_document_anything(
    tmp_path: Path, redis_url: str
) -> None:
    down_s, up_s, per_s = 60.0, 660.0, 2.0
    weather = Weather(works=lambda: not down_s <= now_s() < up_s)

    async def main() -> None:
        with made_ledger_url(tmp_path) as url:
            sky = sky_of(tmp_path, url, redis_url, weather, documents=320, rpm=120)

            def all_done() -> bool:
                return all(row.state in TERMINAL_STATES for row in sky.documents())

            await sky.live(all_done)
            rows = sky.documents()
            assert {row.state for row in rows} == {DocumentState.DONE}
            assert {row.attempts for row in rows} == {1}, "no failed call was charged"
            sky.world.ledger.close()

    in_patient_time(main())
    during = [at_s for at_s in weather.calls_s if down_s <= at_s < up_s]
    assert len(during) <= 20 + (up_s - down_s) / 10 + per_s * LATENCY_S + 1
    probes = during[-40:]
    gaps_s = [later - earlier for earlier, later in pairwise(probes)]
    assert min(gaps_s) >= 9.9, "one probe every ten seconds"
    soon = [at_s for at_s in weather.calls_s if up_s + 30 <= at_s < up_s + 60]
    assert len(soon) >= 0.9 * per_s * 30, "90 % of the rate 30 s after it is back"


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_retries_stay_within_their_budget_under_any_error_rate_and_work_goes_on(
    tmp_path: Path, redis_url: str, rate: float
) -> None:
    rng = random.Random(round(rate * 10))
    weather = Weather(works=lambda: rng.random() >= rate)

    async def main() -> None:
        with made_ledger_url(tmp_path) as url:
            sky = sky_of(tmp_path, url, redis_url, weather, documents=250, rpm=300)

            def five_minutes() -> bool:
                return now_s() > 300

            await sky.live(five_minutes)
            rows = sky.attempts()
            first_s, retries_s = _calls(rows)
            for at_s in retries_s:
                minute = [one for one in retries_s if at_s - MINUTE_S < one <= at_s]
                # each is paid for by ten first calls of the minute before it, or by the floor
                paying = [one for one in first_s if at_s - 2 * MINUTE_S < one <= at_s + 1]
                assert len(minute) <= SHARE * len(paying) + MINUTE_S / FLOOR_EVERY_S + 1
            done = sum(row.state == DocumentState.DONE for row in sky.documents())
            assert done >= 250 * (1 - rate) * (0.2 if rate > 0.8 else 0.95)
            sky.world.ledger.close()

    in_patient_time(main())


def _calls(rows: list[Any]) -> tuple[list[float], list[float]]:
    """When first calls were made, and when charged ones were repeated that the provider failed."""
    last: dict[str, Any] = {}
    first_s: list[float] = []
    retries_s: list[float] = []
    for row in rows:
        at_s = (row.created_us - START_US) / 1e6
        before = last.get(row.document_id)
        if before is None:
            first_s.append(at_s)
        elif before.charged and before.fault in PROVIDER_FAULTS:
            retries_s.append(at_s)
        last[row.document_id] = row
    return first_s, retries_s
