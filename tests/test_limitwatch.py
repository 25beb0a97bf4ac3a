"""How limits are used, written down by the leader and shown by status, without Redis."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.limits import look_at_limits
from runner.config import ModelSettings, Settings
from runner.keys import new_id
from runner.lanes import Lane, Lanes
from runner.laneuse import LaneUse
from runner.ledger.lanes import all_lanes, note_lanes, write_use
from runner.limiter import Calendar, Ended, Ending, Limiter, Postponed
from runner.limitwatch import LimitWatch
from runner.servers.valkey import use_valkey
from tests.command_lines import Ended as Printed
from tests.command_lines import call
from tests.ledgers import World, open_world

QUIET = LaneUse(
    window_s=60.0,
    requests=30,
    requests_limit=500,
    tokens=9_000,
    tokens_limit=None,
    calls=3,
    calls_limit=None,
    waiting=0,
    cut=1.0,
    refused=0,
    refused_s=None,
    paused_s=0.0,
    breaker_open=False,
    probe_s=0.0,
    failed=0,
    answered=27,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def lane(model: str = "m") -> Lane:
    settings = Settings(home=Path("home"), models={model: ModelSettings(rpm=600)})
    return Lanes(settings, env={}).of(model)


def status_of(world: World, tmp_path: Path, use: LaneUse, *, seconds_ago: float = 0.0) -> Printed:
    """What status prints when the leader saw this so long ago."""
    at_us = round((time.time() - seconds_ago) * 1e6)
    with world.ledger.transaction() as connection:
        note_lanes(connection, [lane()], now_us=at_us)
        write_use(connection, {lane().id: use.model_dump_json()}, now_us=at_us)
    return call("status", home=tmp_path / "home", env={"COLUMNS": "200"})


def test_status_tells_the_use_of_each_limit(world: World, tmp_path: Path) -> None:
    printed = status_of(world, tmp_path, QUIET)
    assert "m at api.openai.com" in printed.out
    assert "30/500" in printed.out
    limit = call("status", "--json", home=tmp_path / "home").json()["limits"][0]
    assert limit["use"] == QUIET.model_dump()
    assert (limit["model"], limit["key"]) == ("m", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"breaker_open": True, "probe_s": 4.0}, "its calls fail: one is tried every 10 s"),
        ({"paused_s": 12.0, "refused": 3, "refused_s": 1.0}, "paused for 12 s after a refusal"),
        ({"cut": 0.69}, "limits cut to 69% after refusals, growing back"),
        ({"refused": 2, "refused_s": 9.0}, "2 refusals, the last 9.0 s ago"),
    ],
)
def test_status_says_why_calls_do_not_start_or_start_slowly(
    world: World, tmp_path: Path, changes: dict[str, float], words: str
) -> None:
    printed = status_of(world, tmp_path, QUIET.model_copy(update=changes))
    assert words in " ".join(printed.out.split())


def test_status_says_of_what_moment_it_speaks_when_nobody_works_any_more(
    world: World, tmp_path: Path
) -> None:
    assert "as of 5 min ago" in status_of(world, tmp_path, QUIET, seconds_ago=300).out


def test_a_lane_that_nobody_called_for_an_hour_is_not_shown(world: World, tmp_path: Path) -> None:
    assert "api.openai.com" not in status_of(world, tmp_path, QUIET, seconds_ago=4_000).out


@pytest.mark.parametrize("leads", [True, False])
async def test_every_worker_notes_its_lanes_and_the_leader_looks_at_them(
    world: World, tmp_path: Path, *, leads: bool
) -> None:
    settings = Settings(home=tmp_path, models={"m": ModelSettings(rpm=600)})
    with use_valkey(tmp_path / "redis-home") as server:
        calendar = Calendar(server.url, ledger_id=new_id("t"))
        limiter = Limiter(settings, calendar=calendar)
        watch = LimitWatch(world.ledger, limiter, calendar, leads=lambda: leads)
        granted = await limiter.acquire(lane(), tokens=10)
        assert not isinstance(granted, Postponed)
        await limiter.until_start(granted)
        await watch.look()
        await watch.look()
        limiter.end(granted, Ending(how=Ended.ANSWERED, used_tokens=10))
        await limiter.aclose()
    with world.ledger.snapshot() as connection:
        (row,) = all_lanes(connection, since_us=0)
        shown = look_at_limits(connection, now_us=row.updated_us)
    assert (row.lane_id, row.model) == (lane().id, "m")
    assert [one.use.requests for one in shown] == ([1] if leads else [])


async def test_a_lane_that_is_called_again_after_a_day_is_looked_at_again(
    world: World, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, models={"m": ModelSettings(rpm=600)})
    with use_valkey(tmp_path / "redis-home") as server:
        calendar = Calendar(server.url, ledger_id=new_id("t"))
        limiter = Limiter(settings, calendar=calendar)
        watch = LimitWatch(
            *(world.ledger, limiter, calendar),
            leads=lambda: True,
            clock_s=lambda: world.now_us / 1e6,
        )
        for _ in range(2):
            world.now_us += 86_400_000_000
            granted = await limiter.acquire(lane(), tokens=10)
            assert not isinstance(granted, Postponed)
            await limiter.until_start(granted)
            await watch.look()
            with world.ledger.snapshot() as connection:
                (row,) = all_lanes(connection, since_us=0)
            assert row.use_json
            assert row.updated_us == world.now_us
        await limiter.aclose()


async def test_a_redis_that_is_away_leaves_what_was_seen_and_stops_nobody(
    world: World, tmp_path: Path
) -> None:
    with world.ledger.transaction() as connection:
        note_lanes(connection, [lane()], now_us=round(time.time() * 1e6))
        write_use(connection, {lane().id: QUIET.model_dump_json()}, now_us=1)
    calendar = Calendar(f"unix://{tmp_path}/nobody.sock", ledger_id="t")
    limiter = Limiter(Settings(home=tmp_path), calendar=calendar)
    await LimitWatch(world.ledger, limiter, calendar, leads=lambda: True).look()
    with world.ledger.snapshot() as connection:
        (row,) = all_lanes(connection, since_us=0)
    assert LaneUse.model_validate_json(row.use_json) == QUIET
    await limiter.aclose()


async def test_while_redis_is_away_a_process_keeps_to_its_own_share(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, models={"m": ModelSettings(rpm=6_000)})
    calendar = Calendar(f"unix://{tmp_path}/nobody.sock", ledger_id="t")
    limiter = Limiter(settings, calendar=calendar)
    grants = await asyncio.gather(*(limiter.acquire(lane(), tokens=10) for _ in range(20)))
    assert len(grants) == 20
    for granted in grants:
        assert not isinstance(granted, Postponed)
        assert granted.own is not None, "by the process's own share"
        limiter.end(granted, Ending(how=Ended.FAILED))
    assert not await limiter.is_out(lane())
    await limiter.aclose()
