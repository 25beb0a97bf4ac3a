"""The limiter of a process over a real calendar, in virtual time."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.limiter import Ended, Ending, OverLimitError
from runner.servers.valkey import use_valkey
from tests.calendars import Fleet, play
from tests.virtual_time import now_s

ANSWERED = Ending(how=Ended.ANSWERED, used_tokens=10)
REFUSED = Ending(how=Ended.REFUSED, retry_after_s=5.0)
FAILED = Ending(how=Ended.FAILED)
TAKEN_BACK = Ending(how=Ended.TAKEN_BACK)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with use_valkey(tmp_path_factory.mktemp("limiter")) as server:
        yield server.url


def test_callers_start_in_the_order_of_their_coming_at_the_pace_of_the_limit(
    redis_url: str,
) -> None:
    async def scene(fleet: Fleet) -> None:
        starts: list[tuple[int, float]] = []

        async def one(number: int) -> None:
            grant = await fleet.grant()
            starts.append((number, now_s()))
            fleet.limiters[0].end(grant, ANSWERED)

        await asyncio.gather(*(one(number) for number in range(40)))
        assert [number for number, _ in starts] == list(range(40))
        gaps_s = [later - earlier for earlier, later in pairwise([at_s for _, at_s in starts])]
        assert all(gap_s == pytest.approx(60.1 / 600, abs=0.02) for gap_s in gaps_s[5:])

    play(redis_url, scene, rpm=600)


def test_two_processes_share_a_window_and_both_get_on(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        starts: dict[int, list[float]] = {0: [], 1: []}

        async def one(process: int) -> None:
            grant = await fleet.grant(process)
            starts[process].append(now_s())
            await asyncio.sleep(0.3)
            fleet.limiters[process].end(grant, ANSWERED)

        await asyncio.gather(*(one(number % 2) for number in range(120)))
        both = sorted(starts[0] + starts[1])
        for at_s in both:
            assert sum(at_s - 10 < one <= at_s for one in both) <= 50
        half = both[len(both) // 2]
        assert all(sum(at_s <= half for at_s in some) >= 15 for some in starts.values())

    play(redis_url, scene, processes=2, rpm=300, window_s=10)


def test_a_caller_that_gives_up_takes_nothing_and_leaves_its_place(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        first = await fleet.grant()
        gone = [asyncio.create_task(fleet.grant()) for _ in range(5)]
        last = asyncio.create_task(fleet.grant())
        await asyncio.sleep(0.3)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        grant = await last
        assert now_s() < 4, "one place behind the first, and not six"
        for ended in (first, grant):
            fleet.limiters[0].end(ended, ANSWERED)
        await asyncio.sleep(1)
        assert (await fleet.use()).requests == 2

    play(redis_url, scene, rpm=60)


@pytest.mark.parametrize("sent_late_s", [0.0, 3.0])
def test_a_call_that_a_busy_process_sent_late_fills_its_window_from_then_on(
    redis_url: str, *, sent_late_s: float
) -> None:
    async def scene(fleet: Fleet) -> None:
        first = await fleet.grant(tokens=90)
        sent_s = now_s() + sent_late_s
        await asyncio.sleep(4)
        fleet.limiters[0].end(
            first,
            Ending(how=Ended.ANSWERED, used_tokens=90, sent_s=sent_s if sent_late_s else None),
        )
        await fleet.grant(tokens=90)
        assert now_s() == pytest.approx(sent_s + 10.1, abs=0.1)

    play(redis_url, scene, tpm=600, window_s=10)


def test_a_refusal_takes_back_the_starts_that_have_not_come(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        first = await fleet.grant()
        starts: list[tuple[int, float]] = []

        async def one(number: int) -> None:
            grant = await fleet.grant()
            starts.append((number, now_s()))
            fleet.limiters[0].end(grant, ANSWERED)

        waiting = [asyncio.create_task(one(number)) for number in range(10)]
        await asyncio.sleep(0.01)
        refused_s = now_s()
        fleet.limiters[0].end(first, REFUSED)
        await asyncio.gather(*waiting)
        late = [(number, at_s) for number, at_s in starts if at_s > refused_s + 0.5]
        assert len(late) >= 8
        assert all(at_s >= refused_s + 5 for _, at_s in late), "nobody starts inside the pause"
        assert [number for number, _ in starts] == sorted(number for number, _ in starts)

    play(redis_url, scene, rpm=600)


def test_a_refusal_that_comes_while_the_calendar_is_asked_takes_back_what_it_answers(
    redis_url: str,
) -> None:
    async def scene(fleet: Fleet) -> None:
        first = await fleet.grant()
        fleet.calendars[0].far_s = 0.3
        waiting = [asyncio.create_task(fleet.grant()) for _ in range(5)]
        await asyncio.sleep(0.1)  # the question is on its way
        refused_s = now_s()
        fleet.limiters[0].end(first, REFUSED)
        for grant in await asyncio.gather(*waiting):
            assert grant.start_s >= refused_s + 5
            fleet.limiters[0].end(grant, ANSWERED)

    play(redis_url, scene, rpm=600)


@given(gone=st.sets(st.integers(0, 29)), at_s=st.floats(0, 3))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_callers_that_give_up_at_any_moment_change_nothing_in_the_order_of_the_others(
    redis_url: str, gone: set[int], at_s: float
) -> None:
    async def scene(fleet: Fleet) -> None:
        starts: list[tuple[float, int]] = []

        async def one(number: int) -> None:
            grant = await fleet.grant()
            starts.append((round(grant.start_s, 3), number))
            fleet.limiters[0].end(grant, ANSWERED)

        callers = [asyncio.create_task(one(number)) for number in range(30)]
        await asyncio.sleep(at_s)
        for number in gone:
            callers[number].cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        numbers = [number for _, number in sorted(starts)]
        assert numbers == sorted(numbers)
        assert set(range(30)) - gone <= set(numbers)
        assert (await fleet.use()).requests == len(numbers)

    play(redis_url, scene, rpm=600)


def test_what_was_not_sent_is_given_back_and_a_second_end_changes_nothing(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        large = await fleet.grant(tokens=900)
        for _ in range(2):
            fleet.limiters[0].end(large, TAKEN_BACK)
        await asyncio.sleep(0.5)
        assert (await fleet.use()).tokens == 0
        next_one = await fleet.grant(tokens=900)
        assert now_s() < 5, "the whole window is free again"
        fleet.limiters[0].end(next_one, Ending(how=Ended.ANSWERED, used_tokens=400))
        await asyncio.sleep(0.5)
        assert (await fleet.use()).tokens == 400

    play(redis_url, scene, tpm=1_000)


def test_concurrency_holds_for_two_processes_together(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        under_way = peak = 0

        async def one(process: int) -> None:
            nonlocal under_way, peak
            grant = await fleet.grant(process)
            under_way += 1
            peak = max(peak, under_way)
            await asyncio.sleep(1)
            under_way -= 1
            fleet.limiters[process].end(grant, ANSWERED)

        await asyncio.gather(*(one(number % 2) for number in range(20)))
        assert peak <= 3

    play(redis_url, scene, processes=2, max_concurrency=3)


@pytest.mark.parametrize("places", [1, 3])
def test_busy_processes_share_few_places_alike(redis_url: str, places: int) -> None:
    async def scene(fleet: Fleet) -> None:
        calls = {0: 0, 1: 0}
        under_way = 0

        async def slot(process: int) -> None:
            nonlocal under_way
            while now_s() < 60:
                grant = await fleet.grant(process)
                under_way += 1
                assert under_way <= places
                calls[process] += 1
                await asyncio.sleep(1)
                under_way -= 1
                fleet.limiters[process].end(grant, ANSWERED)

        await asyncio.gather(*(slot(number % 2) for number in range(12)))
        assert sum(calls.values()) >= 60 * places * 0.8, "places are not left empty"
        assert min(calls.values()) >= sum(calls.values()) / 3, calls

    play(redis_url, scene, processes=2, max_concurrency=places)


def test_a_document_that_no_window_has_room_for_is_refused_by_name(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        with pytest.raises(OverLimitError, match=r"model m: .* about 201 tokens, .* 200 in"):
            await fleet.limiters[0].acquire(fleet.lane, tokens=201)
        grant = await fleet.grant(tokens=200)
        fleet.limiters[0].end(grant, ANSWERED)

    play(redis_url, scene, tpm=1_200, window_s=10)


def test_calls_without_limits_do_not_ask_one_by_one(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        for _ in range(200):
            grant = await fleet.grant()
            await asyncio.sleep(0.001)
            fleet.limiters[0].end(grant, ANSWERED)
        assert fleet.calendars[0].questions < 40

    play(redis_url, scene)


@pytest.mark.parametrize("limits", [{"rpm": 6_000}, {}], ids=["limited", "without limits"])
def test_a_run_of_failures_is_told_once_and_a_probe_that_succeeds_ends_it(
    redis_url: str, limits: dict[str, Any]
) -> None:
    async def scene(fleet: Fleet) -> None:
        limiter = fleet.limiters[0]
        for _ in range(5):
            limiter.end(await fleet.grant(), FAILED)
        assert await limiter.is_out(fleet.lane)
        assert [outage.lane for outage in fleet.outages] == [fleet.lane]
        since_s = now_s()
        probe = await fleet.grant()
        assert now_s() - since_s >= 9.5
        limiter.end(probe, FAILED)
        assert await limiter.is_out(fleet.lane)
        limiter.end(await fleet.grant(), ANSWERED)
        assert not await limiter.is_out(fleet.lane)
        assert len(fleet.outages) == 1
        assert now_s() - since_s < 25

    play(redis_url, scene, **limits)


def test_limits_that_a_provider_tells_are_kept_where_none_were_configured(redis_url: str) -> None:
    async def scene(fleet: Fleet) -> None:
        told = {"x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "nonsense"}
        fleet.limiters[0].end(await fleet.grant(), Ending(how=Ended.ANSWERED, told=told))
        await asyncio.sleep(1)
        since_s = now_s()
        for _ in range(5):
            fleet.limiters[0].end(await fleet.grant(), ANSWERED)
        assert now_s() - since_s > 2.5
        assert (await fleet.use()).requests_limit == 60

    play(redis_url, scene)
