"""Heartbeats: the dead are told from the living by change alone; no foreign clock is trusted."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from runner.heartbeat import (
    BEAT_EVERY_S,
    DEAD_AFTER_S,
    HINDERED_S,
    Heart,
    Judge,
    host_key,
    process_started_s,
)
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.tables import worker as worker_table
from runner.ledger.workers import WorkerRow, bury, living

ME = os.getpid()


class Clock:
    """Monotonic time that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now_s


def row(**changes: object) -> WorkerRow:
    values: dict[str, object] = {
        "id": "w1",
        "number": 1,
        "host": "elsewhere",
        "pid": 1,
        "process_started_s": 0,
        "state": "working",
        "beats": 5,
        "beat_us": 0,
        "slots": 1,
        "in_flight": 0,
        "note": None,
    }
    return WorkerRow(**(values | changes))  # type: ignore[arg-type] # a row of a test


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def judge(clock: Clock) -> Judge:
    return Judge(host=host_key(), monotonic=clock)


def test_a_worker_that_shows_no_beat_for_ten_seconds_is_dead_and_not_before(
    judge: Judge, clock: Clock
) -> None:
    assert judge.dead([row()]) == []
    clock.now_s = DEAD_AFTER_S
    assert judge.dead([row()]) == []
    clock.now_s = DEAD_AFTER_S + 0.1
    assert judge.dead([row()]) == [row()]


def test_a_worker_whose_beats_change_lives_for_ever_whatever_its_clock_says(
    judge: Judge, clock: Clock
) -> None:
    for beats in range(50):
        clock.now_s += DEAD_AFTER_S
        hour_us = 3_600_000_000 * (beats % 3 - 1)
        assert judge.dead([row(beats=beats, beat_us=hour_us)]) == []


def test_a_worker_first_seen_late_has_its_full_time(judge: Judge, clock: Clock) -> None:
    judge.dead([])
    clock.now_s = 1_000.0
    assert judge.dead([row(beat_us=0)]) == []


def test_a_process_of_this_host_that_is_gone_is_dead_at_once(judge: Judge) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started_s = process_started_s(child.pid)
        assert started_s is not None
        seen = row(host=host_key(), pid=child.pid, process_started_s=started_s)
        assert judge.dead([seen]) == []
        child.kill()
    assert judge.dead([seen]) == [seen]


def test_a_pid_that_another_process_has_now_is_no_sign_of_life(judge: Judge) -> None:
    reused = row(host=host_key(), pid=ME, process_started_s=(process_started_s(ME) or 0) - 100)
    assert judge.dead([reused]) == [reused]


def test_a_pid_of_another_host_is_not_looked_up(judge: Judge) -> None:
    assert judge.dead([row(host="elsewhere", pid=2**30)]) == []


def test_an_observer_that_could_not_write_forgives_silence_but_not_a_process_that_is_gone(
    judge: Judge, clock: Clock
) -> None:
    gone = row(id="w2", host=host_key(), pid=2**22 + 1)
    judge.dead([row()])
    clock.now_s = 100.0
    assert judge.dead([row(), gone], trust_silence=False) == [gone]
    clock.now_s = 100.0 + DEAD_AFTER_S
    assert judge.dead([row()]) == []
    clock.now_s += 1.0
    assert judge.dead([row()]) == [row()]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.db"))
    yield ledger
    ledger.close()


def heart_of(ledger: Ledger, clock_s: Callable[[], float] = lambda: 1_000.0) -> Heart:
    return Heart(ledger, slots=7, clock_s=clock_s)


def rows(ledger: Ledger) -> list[WorkerRow]:
    with ledger.snapshot() as connection:
        return living(connection)


async def test_a_beat_shows_that_state_load_and_hindrance_of_a_worker(ledger: Ledger) -> None:
    heart = heart_of(ledger)
    await heart.register()
    heart.state, heart.in_flight = "draining", 3
    heart.hinder("job", "no such job")
    await heart.beat()
    (found,) = rows(ledger)
    assert found == replace(
        heart.row, beats=1, state="draining", in_flight=3, note="no such job", beat_us=10**9
    )
    assert (found.pid, found.slots, found.host) == (ME, 7, host_key())


async def test_a_worker_taken_for_dead_goes_on_as_a_new_one(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    heart = heart_of(ledger)
    await heart.register()
    first = heart.row
    with ledger.transaction() as connection:
        bury(connection, first)
    await heart.beat()
    assert heart.row.id != first.id
    assert heart.row.number == first.number + 1
    assert [found.id for found in rows(ledger)] == [heart.row.id]
    assert "taken for dead" in capsys.readouterr().err


async def test_a_worker_that_gave_a_sign_of_life_meanwhile_is_not_buried(ledger: Ledger) -> None:
    heart = heart_of(ledger)
    await heart.register()
    (seen,) = rows(ledger)
    await heart.beat()
    with ledger.transaction() as connection:
        assert not bury(connection, seen)
        (seen_again,) = living(connection)
        assert bury(connection, seen_again)
    assert rows(ledger) == []


async def test_a_draining_worker_taken_for_dead_does_not_begin_anew(ledger: Ledger) -> None:
    heart = heart_of(ledger)
    await heart.register()
    with ledger.transaction() as connection:
        bury(connection, heart.row)
    heart.state = "stopped"
    await heart.beat()
    with ledger.snapshot() as connection:
        assert list(connection.execute(select(worker_table.c.state)).scalars()) == ["dead"]


async def test_hindrances_stand_beside_each_other_and_pass(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr("runner.heartbeat.time.monotonic", clock)
    heart = heart_of(ledger)
    assert heart.hinder("job", "no such job")
    assert heart.hinder("road", "Redis away")
    assert not heart.hinder("job", "no such job"), "no news"
    assert heart.note == "Redis away; no such job"
    assert not heart.hinder("road", None)
    assert heart.note == "no such job"
    clock.now_s = HINDERED_S + 1
    assert heart.note is None


async def test_a_heart_knows_whether_its_own_beats_get_through(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    heart = heart_of(ledger)
    await heart.register()
    assert not heart.beats_freely
    monkeypatch.setattr("runner.heartbeat.time.monotonic", clock)
    await heart.beat()
    assert heart.beats_freely
    clock.now_s = 2 * BEAT_EVERY_S
    assert not heart.beats_freely
