"""One clock for all who use a ledger: a wrong or changing one hides and doubles nothing."""

import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from runner.ledger.clock import LedgerClock
from runner.ledger.feeding import bring_forward
from runner.ledger.tables import document
from runner.model import DocumentState
from runner.testing.control import ProviderProcess
from tests.ledgers import TRANSIENT, World, open_world
from tests.roads import Road, assert_three_histories_agree, wait_until

HOUR_S = 3_600


def test_it_is_the_time_of_the_database_whatever_this_process_believes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_s = time.time
    monkeypatch.setattr(time, "time", lambda: true_s() + HOUR_S)
    with open_world(tmp_path) as world:
        assert world.ledger.clock.s() == pytest.approx(true_s(), abs=1)
        assert world.ledger.clock.us() == pytest.approx(true_s() * 1e6, abs=1e6)


def test_between_two_looks_it_is_carried_on_by_a_clock_that_nobody_sets(tmp_path: Path) -> None:
    moved_s = 0.0
    clock = LedgerClock(monotonic=lambda: moved_s)
    with open_world(tmp_path) as world, world.ledger.snapshot() as connection:
        clock.look(connection)
    before_s = clock.s()
    moved_s = 50.0
    assert clock.s() == before_s + 50


def test_that_the_database_s_clock_was_set_back_is_told_once(tmp_path: Path) -> None:
    moved_s = 0.0
    clock = LedgerClock(monotonic=lambda: moved_s)
    with open_world(tmp_path) as world:
        for passed_s in (0.0, 2.0, HOUR_S):  # an hour passes here, and none in the database
            moved_s = passed_s
            with world.ledger.snapshot() as connection:
                clock.look(connection)
    assert clock.take_set_back_us() == pytest.approx(HOUR_S * 1e6, abs=5e6)
    assert clock.take_set_back_us() == 0


def test_a_clock_that_is_set_back_lets_nobody_wait_longer(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        me = world.worker()
        world.add(world.batch("june"), "one")
        world.turn(me, TRANSIENT)
        due_us = _due_us(world)
        with world.ledger.transaction() as connection:
            bring_forward(connection, by_us=HOUR_S * 1_000_000)
        assert _due_us(world) == due_us - HOUR_S * 1_000_000


def _due_us(world: World) -> int:
    with world.ledger.snapshot() as connection:
        return int(connection.execute(select(document.c.due_us)).scalar_one())


@pytest.mark.parametrize("shift_s", [-HOUR_S, HOUR_S])
def test_a_worker_and_a_submitter_an_hour_off_hide_no_document(
    road: Road, provider: ProviderProcess, shift_s: int
) -> None:
    shifted = (sys.executable, "-m", "scripts.campaign.shifted", str(shift_s))
    provider.control(latency_ms=300)
    inputs = road.write_documents(10)
    assert road.call("submit", "invoice", str(inputs), command=shifted).returncode == 0
    worker = road.start("work", "--concurrency", "2", command=shifted)
    wait_until(lambda: len(provider.book()) >= 2, what="calls of that worker")
    worker.terminate()
    assert worker.wait(timeout=100) == 0
    assert road.call("work", "--until-empty").returncode == 0
    assert road.counts()[DocumentState.DONE] == len(provider.book()) == 10
    assert_three_histories_agree(road, provider, submitted=10)
