"""Nightly evaluations: one a job and night in the whole fleet, and an alert where one fell."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import runner.nightly
from runner.config import EvalSettings, Settings
from runner.errors import ConfigError
from runner.evals.comparing import FieldOutcome
from runner.ledger.alerts import take_alerts
from runner.ledger.evaluations import CaseRow, Dearest, RunRow, write_run
from runner.ledger.nights import Night, end_night, nights_left, take_night
from runner.nightly import Nightly, command_of, night_due
from runner.nights import conclude_night
from scripts.benchmarks.goldjobs import make_gold_job
from tests.ledgers import World, open_world
from tests.roads import Road, wait_until

NIGHT = Night(job="bill", night="2026-11-25")
AT = time_of_day(3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        world.now_us = us("2026-11-25T03:00")
        yield world


def us(at: str) -> int:
    return round(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("now", "at", "night"),
    [
        ("2026-11-25T02:59", "03:00", None),
        ("2026-11-25T03:00", "03:00", "2026-11-25"),
        ("2026-11-25T08:59", "03:00", "2026-11-25"),
        ("2026-11-25T09:00", "03:00", None),
        ("2026-11-25T01:00", "22:30", "2026-11-24"),
        ("2026-11-25T22:30", "22:30", "2026-11-25"),
    ],
)
def test_a_night_is_due_from_its_hour_until_it_is_too_late(
    now: str, at: str, night: str | None
) -> None:
    assert night_due(us(now), time_of_day.fromisoformat(at)) == night


@pytest.mark.parametrize("line", ['at = "25:00"', 'at = "03:00Z"', "budget_usd = 0", "job = 1"])
def test_settings_that_cannot_be_are_refused_with_their_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runner.toml"
    path.write_text(f"[eval]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"runner\.toml: eval\."):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


# ------------------------------------------------------------ who does it


def take(world: World, me: str, *, living: tuple[str, ...]) -> bool:
    with world.ledger.transaction() as connection:
        return take_night(connection, NIGHT, me=me, living=living, now_us=world.tick())


def test_of_several_workers_that_think_they_lead_one_takes_the_night(world: World) -> None:
    names = [f"w{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(lambda me: take(world, me, living=tuple(names)), names))
    assert sum(taken) == 1


def test_a_night_that_a_dead_worker_began_is_taken_over_and_an_ended_one_is_not(
    world: World,
) -> None:
    assert take(world, "w1", living=("w1",))
    assert not take(world, "w2", living=("w1", "w2"))
    assert take(world, "w2", living=("w2",))
    assert not take(world, "w1", living=("w1", "w2")), "it was taken for dead: it lost the night"
    with world.ledger.transaction() as connection:
        assert nights_left(connection, NIGHT.night, ["bill", "other", "bill"]) == [
            NIGHT,
            Night(job="other", night=NIGHT.night),
        ]
        assert end_night(connection, NIGHT, now_us=world.tick())
        assert not end_night(connection, NIGHT, now_us=world.tick())
        assert nights_left(connection, NIGHT.night, ["bill"]) == []
        assert nights_left(connection, "2026-11-26", ["bill"]) != []
    assert not take(world, "w3", living=("w3",))


# ------------------------------------------------------------ the child


def keeper(
    world: World, me: str = "w1", *, leads: bool = True, living: tuple[str, ...] = ()
) -> Nightly:
    return Nightly(
        world.ledger,
        EvalSettings(nightly=("bill",), at=AT),
        env={},
        leads=lambda: leads,
        me=lambda: me,
        living=lambda: living or (me,),
        clock_s=lambda: world.now_us / 1e6,
    )


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Callable[[str], Path]":
    """Have a child run this code instead of an evaluation; where it notes its starts."""

    def arrange(code: str) -> Path:
        told = tmp_path / "told"

        def command(night: Night, _: EvalSettings) -> list[str]:
            note = f"import sys, time; open({str(told)!r}, 'a').write({night.job!r} + '\\n')"
            return [sys.executable, "-c", f"{note}\n{code}"]

        monkeypatch.setattr(runner.nightly, "command_of", command)
        return told

    return arrange


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110 - another process gives no event
            await asyncio.sleep(0.02)


def alerts(world: World) -> list[tuple[str, str]]:
    with world.ledger.transaction() as connection:
        taken = take_alerts(connection, day_limit_nusd=None, now_us=world.tick())
    return [(one.kind, one.message) for one in taken]


async def test_a_child_without_a_result_ends_the_night_with_its_last_words(
    world: World, starts: Callable[[str], Path]
) -> None:
    told = starts(
        "sys.stderr.write('much\\n' * 9_000 + 'error: no job named bill\\n'); sys.exit(2)"
    )
    nightly = keeper(world)
    await nightly.look()
    await until(lambda: nightly._child is not None and nightly._child.returncode is not None)
    for _ in range(3):
        await nightly.look()
    assert told.read_text() == "bill\n"
    ((kind, message),) = alerts(world)
    assert kind == "nightly_failed"
    assert "gave no result (exit code 2): error: no job named bill" in message
    assert not take(world, "w2", living=())


async def test_a_worker_that_drains_ends_its_child_and_leaves_the_night_to_another(
    world: World, starts: Callable[[str], Path]
) -> None:
    told = starts("time.sleep(60)")
    first, other = keeper(world), keeper(world, "w2", living=("w1", "w2"))
    await first.look()
    await until(told.exists)
    await other.look()
    assert other._child is None, "the first one lives"
    async with asyncio.timeout(100):
        await first.finish()
        await first.finish()
    assert alerts(world) == []
    successor = keeper(world, "w2")
    await successor.look()
    await until(lambda: told.read_text() == "bill\nbill\n")
    await successor.finish()


async def test_a_night_that_failed_as_the_drain_began_is_ended_and_told(
    world: World, starts: Callable[[str], Path], tmp_path: Path
) -> None:
    may_go = tmp_path / "may-go"
    holds_on = f"import os, time\nwhile not os.path.exists({str(may_go)!r}): time.sleep(0.02)"
    starts(  # what the child has started itself keeps its standard error open
        f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {holds_on!r}])\nsys.exit(2)"
    )
    nightly = keeper(world)
    await nightly.look()
    await until(lambda: nightly._child is not None and nightly._child.returncode is not None)
    looking = asyncio.create_task(nightly.look())
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert looking.cancelled()
    may_go.touch()
    async with asyncio.timeout(100):
        await nightly.finish()
    assert [kind for kind, _ in alerts(world)] == ["nightly_failed"]
    assert not take(world, "w2", living=())


async def test_who_does_not_lead_and_who_comes_too_late_starts_nothing(
    world: World, starts: Callable[[str], Path]
) -> None:
    told = starts("")
    await keeper(world, leads=False).look()
    world.now_us += 7 * 3_600_000_000
    await keeper(world).look()
    assert not told.exists()


def test_an_evaluation_whose_worker_was_killed_is_told_to_stop() -> None:
    code = (
        "import time; from runner.cli.interrupts import stop_on_eof; stop_on_eof(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=100) == -signal.SIGTERM


def test_an_evaluation_by_night_keeps_its_budget() -> None:
    command = command_of(NIGHT, EvalSettings(nightly=("bill",), budget_usd=0.5))
    assert command[-6:] == ["eval", "bill", "--night", "2026-11-25", "--budget-usd", "0.5"]


# ------------------------------------------------------------ against the nights before


def write_night(world: World, night: str, *, wrong: int, **changes: Any) -> None:
    """An evaluation of 40 gold documents of one field, of which so many are wrong."""
    values: dict[str, Any] = {
        "id": f"e-{night}",
        "job": "bill",
        "prompt_version": "v1",
        "prompt_id": "p1",
        "models": ("small",),
        "gold_digest": "g",
        "against_prompt_id": None,
        "verdict": "pass",
        "summary": {"reason": "no baseline", "night": night, "simulated": False},
        "dearest": Dearest(document_nusd=1, call_nusd=1),
        "created_us": world.tick(),
    }
    cases = [
        CaseRow(
            prompt_id="p1",
            case_id=f"c{number}",
            repeat=0,
            document_id="d",
            state="done",
            leaves=[("total", "total", _outcome(number, wrong), "1", "1")],
            cost_nusd=1,
            latency_us=1,
        )
        for number in range(40)
    ]
    with world.ledger.transaction() as connection:
        write_run(connection, RunRow(**(values | changes)), cases)


def _outcome(number: int, wrong: int) -> str:
    return FieldOutcome.WRONG if number < wrong else FieldOutcome.MATCH


@pytest.mark.parametrize(
    ("wrong", "changes", "told"),
    [
        (3, {}, None),
        (20, {}, "against the last 3 nights, field accuracy went from 95.0% to 50.0%"),
        (20, {"gold_digest": "other"}, None),
        (20, {"prompt_id": "p2"}, None),
        (2, {"verdict": "block"}, "no baseline"),
    ],
    ids=["a little worse", "much worse", "other gold", "other prompt", "blocked"],
)
def test_a_night_that_fell_is_told_of_once(
    world: World, wrong: int, changes: Mapping[str, Any], told: str | None
) -> None:
    for night in ("2026-11-22", "2026-11-23", "2026-11-24"):
        write_night(world, night, wrong=2)
    assert not conclude_night(world.ledger, NIGHT)
    assert take(world, "w1", living=())
    write_night(world, NIGHT.night, wrong=wrong, **changes)
    assert conclude_night(world.ledger, NIGHT)
    assert conclude_night(world.ledger, NIGHT)
    messages = [message for kind, message in alerts(world) if kind == "nightly_fall"]
    assert len(messages) == (told is not None)
    assert all(told in message for message in messages if told)
    assert not take(world, "w2", living=())


# ------------------------------------------------------------ the road


@pytest.mark.slow
def test_a_service_evaluates_the_night_once_beside_its_work_whoever_leads(
    road: Road, provider: Any
) -> None:
    make_gold_job(road.jobs, documents=12)
    at = datetime.now(UTC) - timedelta(minutes=1)
    road.configure(f'\n[eval]\nnightly = ["bill"]\nat = {at:%H:%M}:00\nbudget_usd = 1\n')
    road.json("status")  # a ledger is made by work alone
    workers = [road.start("work", "--concurrency", "4") for _ in range(2)]

    def ended() -> bool:
        with road.ledger() as ledger, ledger.snapshot() as connection:
            return bool(
                connection.execute(text("SELECT ended_us FROM nightly")).scalar_one_or_none()
            )

    wait_until(ended, what="the night")
    for worker in workers:
        worker.terminate()
        assert worker.wait(timeout=100) == 0
    later = road.start("work", "--until-empty")
    assert later.wait(timeout=100) == 0
    with road.ledger() as ledger, ledger.snapshot() as connection:
        runs = connection.execute(text("SELECT verdict, summary_json FROM eval_run")).all()
        weights = connection.execute(text("SELECT weight FROM batch")).scalars().all()
    assert [run.verdict for run in runs] == ["pass"]
    assert f'"night": "{at:%Y-%m-%d}"' in runs[0].summary_json
    assert weights == [0]
    assert len(provider.book()) == 12
    assert road.ask("audit").code == 0
