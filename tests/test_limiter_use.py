"""What a lane's calendar tells of its use: never called, busy, paused, cut, and out."""

import asyncio
from collections.abc import Iterator

import pytest

from runner.laneuse import LaneUse
from runner.limiter import CUT_OFF, Ended, Ending
from runner.limiter.calendar import PROBE_US
from runner.servers.valkey import use_valkey
from tests.calendars import Fleet, play


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with use_valkey(tmp_path_factory.mktemp("use")) as server:
        yield server.url


def test_a_lane_that_nobody_called_has_no_use_and_a_fresh_one_is_whole(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        assert await fleet.read_use() is None
        await fleet.call(tokens=40)
        assert await fleet.use() == LaneUse(
            window_s=10,
            requests=1,
            requests_limit=100,
            tokens=40,
            tokens_limit=10_000,
            calls=0,
            calls_limit=None,
            waiting=0,
            cut=1,
            refused=0,
            refused_s=None,
            paused_s=0,
            breaker_open=False,
            probe_s=0,
            failed=0,
            answered=1,
        )
        assert (await fleet.use()).is_in_use
        await asyncio.sleep(11)
        assert not (await fleet.use()).is_in_use, "what was started has left the window"

    play(redis_url, scene, rpm=600, tpm=60_000, window_s=10)


def test_a_busy_lane_tells_what_starts_what_waits_and_what_is_under_way(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        tasks = [
            asyncio.create_task(fleet.call(process, tokens=3, lasts_s=30))
            for process in range(2)
            for _ in range(10)
        ]
        await asyncio.sleep(20)
        use = await fleet.use()
        assert (use.calls, use.calls_limit, use.waiting) == (5, 5, 15)
        assert (use.requests, use.tokens, use.tokens_limit) == (5, 15, None)
        assert use.is_in_use
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    play(redis_url, scene, processes=2, rpm=600, max_concurrency=5)


def test_processes_that_are_gone_count_no_longer(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        grant = await fleet.grant()
        assert (await fleet.use()).calls == 1
        await fleet.limiters[0].aclose()
        await asyncio.sleep(6)
        use = await fleet.read_use()
        assert use is not None
        assert use.calls == 0
        fleet.limiters[0].end(grant, CUT_OFF)

    play(redis_url, scene, rpm=600)


def test_a_refusal_pauses_and_cuts_a_lane_until_it_has_grown_back(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        await fleet.call(lasts_s=2, how=Ended.REFUSED, retry_after_s=30)
        use = await fleet.use()
        assert use.paused_s == pytest.approx(30, abs=0.1)
        assert (use.refused, use.cut) == (1, 0.5)
        assert (use.requests_limit, use.tokens_limit) == (50, 5_000)
        assert use.requests == 0, "the refused call counts as none"
        await asyncio.sleep(20)
        use = await fleet.use()
        assert use.paused_s == pytest.approx(10, abs=0.1)
        assert use.refused_s == pytest.approx(20, abs=0.1)
        await asyncio.sleep(600)
        use = await fleet.use()
        assert (use.paused_s, use.cut, use.requests_limit) == (0, 1, 100)
        assert use.refused == 1

    play(redis_url, scene, rpm=600, tpm=60_000, window_s=10)


def test_a_lane_whose_breaker_is_open_tells_when_it_is_tried_again(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        for _ in range(5):
            await fleet.call(how=Ended.FAILED)
        use = await fleet.use()
        assert (use.breaker_open, use.failed, use.cut) == (True, 5, 1)
        assert use.probe_s == pytest.approx(PROBE_US / 1e6, abs=0.5)
        await asyncio.sleep(4)
        assert (await fleet.use()).probe_s == pytest.approx(PROBE_US / 1e6 - 4, abs=0.5)
        await fleet.call()
        use = await fleet.use()
        assert (use.breaker_open, use.probe_s, use.answered) == (False, 0, 1)

    play(redis_url, scene, rpm=600)


def test_a_lane_s_limit_of_calls_is_what_was_found_out_and_what_headers_said(
    redis_url: str,
) -> None:
    async def scene(fleet: Fleet) -> None:
        grant = await fleet.grant()
        use = await fleet.use()
        assert use.calls_limit is not None
        assert use.calls_limit >= 1
        assert use.requests_limit is None
        told = {"x-ratelimit-limit-requests": "90"}
        fleet.limiters[0].end(grant, Ending(how=Ended.ANSWERED, told=told))
        assert (await fleet.use()).requests_limit == 90

    play(redis_url, scene)
