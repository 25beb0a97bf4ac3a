"""One worker process from birth to end, in this process, with scripted turns on a real road."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.config import Settings
from runner.feeder import Feeder
from runner.keys import Ticket
from runner.ledger.outages import RunOfFailures
from runner.limiter import Limiter, Outage
from runner.worker import WorkerOptions, WorkerProcess
from tests.ledgers import World, lane_of, open_world

SOON_S = 30.0


@dataclass
class Turns:
    """Stands where the pipeline stands: `steps` are the turns, in the order of their begin."""

    steps: list[Callable[["Turns"], Awaitable[None]]]
    calling: set[Ticket] = field(default_factory=set)
    all_begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    async def run_turn(self, ticket: Ticket) -> None:
        """Past the gate from the first moment on."""
        step = self.steps.pop(0)
        self.calling.add(ticket)
        if not self.steps:
            self.all_begun.set()
        await self.all_begun.wait()
        await step(self)


async def breaks(_: Turns) -> None:
    raise OSError("its end cannot be written down")


async def calls(turns: Turns) -> None:
    try:
        await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        turns.ended.append("cut off")
    else:
        turns.ended.append("answered")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        world.now_us = 1_000
        world.add(world.batch(), "one", "two", "three")
        yield world


async def work(folder: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.worker.Pipeline", lambda _: turns)
    settings = Settings.load(env={"RUNNER_HOME": str(folder / "home")})
    async with asyncio.timeout(SOON_S):
        await WorkerProcess(settings, WorkerOptions(slots=3)).run()


@pytest.mark.usefixtures("world")
async def test_turns_that_break_at_once_end_the_worker_but_cut_no_call_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns([breaks, breaks, calls])
    with pytest.raises(OSError, match="cannot be written down"):
        await work(tmp_path, turns, monkeypatch)
    assert turns.ended == ["answered"]


@pytest.mark.usefixtures("world")
async def test_a_lead_that_cannot_be_left_keeps_no_call_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(_: Feeder) -> None:
        raise OSError("it cannot be left")

    monkeypatch.setattr(Feeder, "retire", cannot)
    turns = Turns([breaks, calls, calls])
    with pytest.raises(OSError, match="it cannot be left"):
        await work(tmp_path, turns, monkeypatch)
    assert turns.ended == ["answered"] * 2


@pytest.fixture
def forgiven(monkeypatch: pytest.MonkeyPatch) -> list[RunOfFailures]:
    """The runs of failures that were forgiven."""
    runs: list[RunOfFailures] = []
    monkeypatch.setattr("runner.outages.forgive", lambda _, run: runs.append(run))
    return runs


@pytest.mark.usefixtures("world")
async def test_an_outage_that_the_last_report_tells_of_is_forgiven_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgiven: list[RunOfFailures]
) -> None:
    class Last(Limiter):
        async def aclose(self) -> None:
            self._on_outage(Outage(lane=lane_of(), since_s=1.0))
            await super().aclose()

    monkeypatch.setattr("runner.worker.Limiter", Last)
    with pytest.raises(OSError, match="cannot be written down"):
        await work(tmp_path, Turns([breaks, calls, calls]), monkeypatch)
    assert [run.lane for run in forgiven] == [lane_of()]


@pytest.mark.usefixtures("world")
async def test_a_lead_that_cannot_be_left_keeps_no_outage_from_being_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgiven: list[RunOfFailures]
) -> None:
    async def cannot(_: Feeder) -> None:
        process._outages.begin(Outage(lane=lane_of(), since_s=1.0))
        raise OSError("it cannot be left")

    monkeypatch.setattr(Feeder, "retire", cannot)
    turns = Turns([breaks, calls, calls])
    monkeypatch.setattr("runner.worker.Pipeline", lambda _: turns)
    process = WorkerProcess(
        Settings.load(env={"RUNNER_HOME": str(tmp_path / "home")}), WorkerOptions(slots=3)
    )
    async with asyncio.timeout(SOON_S):
        with pytest.raises(OSError, match="it cannot be left"):
            await process.run()
    assert [run.lane for run in forgiven] == [lane_of()]
