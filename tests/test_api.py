"""The Python face, and the scripts that stand on it, with real workers and the test provider."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner import Runner
from runner.api import PausedError
from runner.config import Settings
from runner.corrections import CorrectionError
from runner.errors import InputError, JobError, NotFoundError, UsageError
from runner.ledger.deadletters import DeadFilter
from runner.model import Decided
from runner.processes import WorkerProcesses
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents
from tests.roads import PATIENCE_S, Road

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def settings(road: Road, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The road's settings, which the workers that `wait` starts inherit through the environment."""
    for name, value in road.env.items():
        monkeypatch.setenv(name, value)
    return Settings.load(env=road.env)


def _texts(count: int) -> list[tuple[str, str]]:
    return list(generate_documents(count, seed=3, size="small"))


async def test_submit_wait_and_read_records(settings: Settings, provider: ProviderProcess) -> None:
    async with Runner.open(settings=settings) as runner:
        batch = await runner.submit("invoice", _texts(5), batch="five")
        summary = await batch.wait(timeout_s=PATIENCE_S)
        assert (summary.accepted, summary.done, summary.attempts) == (5, 5, 5)
        lines = [line async for line in batch.records()]
        assert [line.source for line in lines] == [name for name, _ in _texts(5)]
        assert all(line.data and line.cost_usd for line in lines)
        again = await runner.submit("invoice", _texts(6), batch="five")
        assert (await again.wait(timeout_s=PATIENCE_S)).accepted == 6
    assert len(provider.book()) == 6, "what was done is not asked again"


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Starting]":
    """Workers that start when told to."""
    starting = Starting()
    spawn = WorkerProcesses._spawn

    def when_told(workers: WorkerProcesses) -> Any:
        starting.begun.release()
        assert starting.may_go.wait(30)
        child = spawn(workers)
        starting.children.append(child.process)
        starting.made.release()
        return child

    monkeypatch.setattr(WorkerProcesses, "_spawn", when_told)
    yield starting
    starting.may_go.set()


@dataclass
class Starting:
    """Children that are being started."""

    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_go: threading.Event = field(default_factory=threading.Event)
    made: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)


async def test_a_worker_that_is_being_started_as_its_runner_closes_ends_with_it(
    settings: Settings, starting: Starting
) -> None:
    async with Runner.open(settings=settings) as runner:
        keeping = asyncio.create_task(runner.keep_workers())
        assert await asyncio.to_thread(starting.begun.acquire, timeout=30)
        keeping.cancel()
        asyncio.get_running_loop().call_later(0.5, starting.may_go.set)
        await asyncio.gather(keeping, return_exceptions=True)
        assert keeping.cancelled()
    assert await asyncio.to_thread(starting.made.acquire, timeout=30)
    assert [child.poll() is not None for child in starting.children] == [True]


async def test_batches_that_are_waited_for_together_share_their_workers(
    settings: Settings, starting: Starting
) -> None:
    async with Runner.open(settings=settings) as runner:
        waits = [asyncio.create_task(runner.keep_workers()) for _ in range(2)]
        assert await asyncio.to_thread(starting.begun.acquire, timeout=30)
        asyncio.get_running_loop().call_later(0.5, starting.may_go.set)
        await asyncio.gather(*waits)
    assert len(starting.children) == 1


async def test_a_batch_of_another_day_is_found_by_name(settings: Settings) -> None:
    async with Runner.open(settings=settings, processes=0) as runner:
        first = await runner.submit("invoice", _texts(2), batch="kept")
    async with Runner.open(settings=settings, processes=0) as runner:
        assert (await runner.batch("kept")).id == first.id
        with pytest.raises(NotFoundError, match="no batch 'lost'"):
            await runner.batch("lost")


async def test_what_cannot_be_submitted_is_refused_by_name(settings: Settings) -> None:
    async with Runner.open(settings=settings, processes=0) as runner:
        with pytest.raises(JobError, match="invoise"):
            await runner.submit("invoise", _texts(1))
        with pytest.raises(InputError, match="nowhere"):
            await runner.submit_files("invoice", ["nowhere.txt"])


async def test_a_paused_batch_says_why_instead_of_waiting_for_ever(
    settings: Settings, provider: ProviderProcess
) -> None:
    provider.control(revoked_keys=["*"])
    async with Runner.open(settings=settings) as runner:
        batch = await runner.submit("invoice", _texts(3), batch="paused")
        with pytest.raises(PausedError, match="runner batch resume paused"):
            await batch.wait(timeout_s=PATIENCE_S)


async def test_dead_letters_are_listed_and_retried_once(
    settings: Settings, provider: ProviderProcess
) -> None:
    provider.control(faults={"rules": [{"fault": "too_large_413", "match": "."}]})
    async with Runner.open(settings=settings) as runner:
        batch = await runner.submit("invoice", _texts(2), batch="dead")
        assert (await batch.wait(timeout_s=PATIENCE_S)).dead == 2
        assert {letter.reason for letter in await runner.dead()} == {"bad_request"}
        provider.control(heal=True)
        assert len(await runner.retry(DeadFilter(reason="bad_request"))) == 2
        assert await runner.retry(DeadFilter(reason="bad_request")) == []
        assert (await batch.wait(timeout_s=PATIENCE_S)).done == 2


async def test_what_waits_for_a_person_is_decided_on_once(road: Road, settings: Settings) -> None:
    road.configure("[review]\naudit_percent = 100\n")
    async with Runner.open(settings=Settings.load(env=road.env)) as runner:
        batch = await runner.submit("invoice", _texts(2), batch="audited")
        assert (await batch.wait(timeout_s=PATIENCE_S)).done == 2
        one, two = await runner.reviews()
        await runner.review(one, Decided.ACCEPTED, reviewer="ann")
        with pytest.raises(UsageError, match="it was accepted by ann"):
            await runner.review(one, Decided.REJECTED, reviewer="bob")
        with pytest.raises(CorrectionError, match="total"):
            await runner.review(two, Decided.CORRECTED, reviewer="bob", data={"total": "odd"})
        with pytest.raises(UsageError, match="brings data"):
            await runner.review(two, Decided.CORRECTED, reviewer="bob")
        assert await runner.reviews() == [two]
        await runner.review(two, Decided.REJECTED, reviewer="bob")
        assert [letter.reason for letter in await runner.dead()] == ["rejected_in_review"]


def _script(road: Road, name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        env=road.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_scripts_submit_from_a_cursor_count_and_retry(
    road: Road, provider: ProviderProcess, tmp_path: Path
) -> None:
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE mails (id, body)")
        connection.executemany("INSERT INTO mails VALUES (?, ?)", _texts(4))
    query = "SELECT id, body FROM mails"
    submitted = json.loads(_script(road, "submit_batch.py", str(database), query, "invoice", "m"))
    assert (submitted["accepted"], submitted["queued"]) == (4, 4)
    depth = json.loads(_script(road, "queue_depth.py"))
    assert (depth["queued"], depth["workers"], depth["wanted_workers"]) == (4, 0, 1)
    provider.control(faults={"rules": [{"fault": "too_large_413", "match": "."}]})
    road.call("work", "--until-empty")
    assert "bad_request" in _script(road, "retry_dead.py"), "without a reason they are listed"
    provider.control(heal=True)
    for batch in road.json("batch", "list")["batches"]:
        road.ask("batch", "resume", batch["batch"])
    _script(road, "retry_dead.py", "bad_request")
    road.call("work", "--until-empty")
    assert json.loads(_script(road, "queue_depth.py"))["queued"] == 0
    assert road.json("status")["queue"]["done"] == 4
