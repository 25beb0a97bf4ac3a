"""Job code that never comes back or eats all memory, and loops that hang: no neighbour pays."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from runner import processes
from runner.cli.crew import Crew
from runner.crashpoints import VARIABLE, Point
from runner.ledger.tables import document
from runner.model import DocumentState
from runner.testing.control import ProviderProcess
from tests.jobfolders import make_job
from tests.roads import Road, assert_three_histories_agree, wait_until

SLOTS = 4
NEIGHBOURS = 9
DOCUMENTS = 24
STUCK_AFTER_S = 2.5
KILLED = "showed no life for 2.5 s and was killed"


@pytest.fixture(autouse=True)
def _quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(processes, "RESTART_MAX_S", 0.01)


@pytest.mark.slow
def test_an_endless_check_is_killed_twice_and_then_dead_as_poison_alone(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=300)
    _submit_totals(road, "Total: 77 ENDLESS")
    with _crew(road) as (crew, said):
        _tend_until(crew, lambda: _ended(road) == NEIGHBOURS + 1, "all ended")
    assert sum(KILLED in line for line in said) == 2
    assert _states_and_crashes(road) == [("dead", 2), *NEIGHBOURS * [("done", 0)]]
    assert [group["reason"] for group in road.json("dead", "list")["groups"]] == ["poison"]
    assert road.ask("audit").code == 0


def test_a_check_that_eats_memory_up_to_a_limit_ends_its_own_turn_and_no_worker(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=50)
    _submit_totals(road, "Total: 77 GREEDY")
    with _crew(road) as (crew, said):
        _tend_until(crew, lambda: _ended(road) == NEIGHBOURS and _settled(road), "all others ended")
    assert any("internal error" in line and "MemoryError" in line for line in said), said
    assert not any("a worker ended" in line for line in said), said
    assert _states_and_crashes(road) == [*NEIGHBOURS * [("done", 0)], ("queued", 0)]
    assert len(provider.book()) == NEIGHBOURS + 1, "its paid answer waits for a mended check"
    assert road.ask("audit").code == 0


@pytest.mark.slow
def test_loops_that_hang_at_points_of_a_turn_are_killed_and_nothing_is_lost(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=50)
    points = (Point.BEFORE_INTENT, Point.AFTER_RAW_STORED)
    road.more_env[VARIABLE] = ",".join(
        f"{point}:hang:2:once={road.folder / point}" for point in points
    )
    inputs = road.write_documents(DOCUMENTS)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    with _crew(road) as (crew, said):
        _tend_until(crew, lambda: _ended(road) == DOCUMENTS, "all ended")
    assert sum(KILLED in line for line in said) == len(points)
    assert road.counts()[DocumentState.DONE] == DOCUMENTS
    assert {crashes for _, crashes in _states_and_crashes(road)} == {0}, "no job code was running"
    assert_three_histories_agree(road, provider, submitted=DOCUMENTS)


def test_a_worker_that_is_stopped_is_not_taken_for_stuck(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=50)
    _submit_totals(road, "Total: 77")
    with _crew(road) as (crew, said):
        _tend_until(crew, lambda: _ended(road) == NEIGHBOURS + 1, "all ended")
        (pid,) = crew.pids()
        os.kill(pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        _tend_until(crew, lambda: time.monotonic() - stopped_s > STUCK_AFTER_S + 1, "time")
        os.kill(pid, signal.SIGCONT)
        continued_s = time.monotonic()
        _tend_until(crew, lambda: time.monotonic() - continued_s > 1, "time")
        assert crew.pids() == [pid]
    assert not any(KILLED in line for line in said), said


# ------------------------------------------------------------ steps


def _submit_totals(road: Road, last: str) -> None:
    make_job(road.jobs)
    inputs = road.folder / "totals.jsonl"
    texts = [last, *(f"Total: {number}" for number in range(1, NEIGHBOURS + 1))]
    inputs.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    assert road.ask("submit", "tiny", str(inputs)).code == 0


@contextmanager
def _crew(road: Road) -> Iterator[tuple[Crew, list[str]]]:
    """One worker under a supervisor in this process, and what it says."""
    said: list[str] = []
    arguments = ["--concurrency", str(SLOTS)]
    with Crew(
        count=1,
        arguments=arguments,
        env=road.env,
        on_line=said.append,
        stuck_after_s=STUCK_AFTER_S,
    ) as crew:
        crew.start()
        yield crew, said


def _tend_until(crew: Crew, what: Callable[[], bool], words: str) -> None:
    def tended() -> bool:
        crew.tend()
        return what()

    wait_until(tended, what=words)


def _ended(road: Road) -> int:
    counts = road.counts()
    return counts[DocumentState.DONE] + counts[DocumentState.DEAD]


def _settled(road: Road) -> bool:
    counts = road.counts()
    return not counts[DocumentState.RUNNING] and not counts[DocumentState.READY]


def _states_and_crashes(road: Road) -> list[tuple[str, int]]:
    with road.ledger() as ledger, ledger.snapshot() as connection:
        rows = connection.execute(select(document.c.state, document.c.crashes))
        return sorted((str(row.state), row.crashes) for row in rows)
