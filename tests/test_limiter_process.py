"""The per-process limiter in virtual time: rolling windows, order, refunds, cancellation."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config import ModelSettings
from runner.limiter.limits import OverLimitError
from runner.limiter.process import Pass, ProcessLimiter
from tests.virtual_time import VirtualLoop, in_virtual_time, now_s

WINDOW_S = 60.0


def limiter_of(**limits: int) -> ProcessLimiter:
    return ProcessLimiter({"m": ModelSettings(**limits)})  # type: ignore[arg-type]  # ints only


Start = tuple[float, int]  # when a call was granted, and its tokens


async def start_all(limiter: ProcessLimiter, sizes: list[int]) -> list[Start]:
    """Ask for all at once, in order; returns the grants in the order in which they came."""
    starts: list[Start] = []

    async def one(tokens: int) -> None:
        grant = await limiter.acquire("m", tokens=tokens)
        starts.append((now_s(), tokens))
        limiter.release(grant)

    await asyncio.gather(*(one(tokens) for tokens in sizes))
    return starts


def busiest_minute(starts: list[Start]) -> tuple[int, int]:
    """The most requests and the most tokens that any rolling minute holds."""
    minutes = [
        [tokens for at_s, tokens in starts if since_s <= at_s <= since_s + WINDOW_S]
        for since_s, _ in starts
    ]
    return max(map(len, minutes), default=0), max(map(sum, minutes), default=0)


@settings(max_examples=150, deadline=None)
@given(
    rpm=st.integers(1, 400),
    tpm=st.integers(10, 5000),
    sizes=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    processes=st.integers(1, 3),
)
def test_no_rolling_minute_holds_more_than_the_limits_and_the_order_is_kept(
    rpm: int, tpm: int, sizes: list[float], processes: int
) -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=rpm, tpm=tpm)
        limiter.set_share(processes)
        wanted = [int(size * (tpm // processes)) for size in sizes]
        starts = await start_all(limiter, wanted)
        requests, tokens = busiest_minute(starts)
        assert requests <= max(1, rpm // processes)
        assert tokens <= tpm // processes
        assert [size for _, size in starts] == wanted

    in_virtual_time(main())


def test_two_documents_of_most_of_the_bucket_never_start_within_one_minute() -> None:
    async def main() -> None:
        starts = await start_all(limiter_of(tpm=1000), [900, 900, 900])
        gaps_s = [later[0] - earlier[0] for earlier, later in pairwise(starts)]
        assert all(WINDOW_S < gap_s < 70 for gap_s in gaps_s)

    in_virtual_time(main())


def test_most_of_the_limit_is_used() -> None:
    async def main() -> None:
        starts = await start_all(limiter_of(rpm=600, tpm=60_000), [100] * 3000)
        minutes = starts[-1][0] / 60
        assert 3000 / minutes > 0.95 * 600

    in_virtual_time(main())


def test_starts_are_paced_instead_of_a_whole_minute_at_once() -> None:
    async def main() -> None:
        starts = await start_all(limiter_of(rpm=600), [1] * 600)
        assert sum(1 for at_s, _ in starts if at_s < 1) <= 22

    in_virtual_time(main())


def test_a_large_document_is_not_starved_by_small_ones_that_came_later() -> None:
    async def main() -> None:
        limiter = limiter_of(tpm=6000)
        starts = await start_all(limiter, [100] * 5 + [5000] + [100] * 50)
        assert [tokens for _, tokens in starts].index(5000) == 5

    in_virtual_time(main())


def test_a_document_larger_than_the_bucket_is_refused_at_once_by_name() -> None:
    async def main() -> None:
        limiter = limiter_of(tpm=1000)
        with pytest.raises(OverLimitError, match=r"model m: .*1001 tokens.*at most 1000"):
            await limiter.acquire("m", tokens=1001)
        assert now_s() < 0.01
        assert (await limiter.acquire("m", tokens=1000)).tokens == 1000

    in_virtual_time(main())


def test_a_document_larger_than_this_process_share_still_gets_through() -> None:
    async def main() -> None:
        limiter = limiter_of(tpm=1000)
        limiter.set_share(4)
        starts = await start_all(limiter, [1000, 1000])
        assert starts[1][0] - starts[0][0] == pytest.approx(4 * 61, rel=0.05)

    in_virtual_time(main())


def test_without_limits_a_call_starts_at_once() -> None:
    async def main() -> None:
        limiter = ProcessLimiter({})
        asked_s = now_s()
        grants = [await limiter.acquire("anything", tokens=10**9) for _ in range(1000)]
        assert now_s() == asked_s  # not even a turn of the event loop
        assert {grant.waited_us for grant in grants} == {0}
        assert limiter.snapshot()["anything"].in_flight == 1000

    in_virtual_time(main())


def test_the_wait_is_told_in_microseconds() -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=1)
        assert (await limiter.acquire("m", tokens=1)).waited_us < 100
        assert (await limiter.acquire("m", tokens=1)).waited_us == pytest.approx(61e6, rel=0.01)

    in_virtual_time(main())


async def _first_wait_after(
    between: Callable[[ProcessLimiter, Pass], Awaitable[None]], **limits: int
) -> float:
    """Use up all of the limits with one call, do `between`, and return how long the next waits."""
    limiter = limiter_of(**limits)
    grant = await limiter.acquire("m", tokens=limits.get("tpm", 1))
    await between(limiter, grant)
    since_s = now_s()
    await limiter.acquire("m", tokens=limits.get("tpm", 1))
    return now_s() - since_s


def test_a_call_that_was_never_sent_gives_all_of_its_capacity_back() -> None:
    async def refund(limiter: ProcessLimiter, grant: Pass) -> None:
        limiter.refund(grant)

    async def nothing(limiter: ProcessLimiter, grant: Pass) -> None:
        limiter.release(grant)

    async def main() -> None:
        limits = {"rpm": 1, "tpm": 1000, "max_concurrency": 1}
        assert await _first_wait_after(nothing, **limits) > 59
        assert await _first_wait_after(refund, **limits) < 0.01

    in_virtual_time(main())


def test_unused_tokens_come_back_and_the_request_does_not() -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=60, tpm=1000)
        grant = await limiter.acquire("m", tokens=1000)
        limiter.refund(grant, used_tokens=100)
        use = limiter.snapshot()["m"]
        assert (use.window_requests, use.window_tokens) == (1, 100)
        since_s = now_s()
        await limiter.acquire("m", tokens=900)
        assert now_s() - since_s < 1.1
        assert limiter.snapshot()["m"].window_tokens == 1000

    in_virtual_time(main())


def test_a_refund_counts_once() -> None:
    async def main() -> None:
        limiter = limiter_of(tpm=1000)
        first = await limiter.acquire("m", tokens=500)
        await limiter.acquire("m", tokens=500)
        limiter.refund(first, used_tokens=400)
        limiter.refund(first, used_tokens=0)
        assert limiter.snapshot()["m"].window_tokens == 900

    in_virtual_time(main())


def test_a_refund_wakes_a_waiter_that_waits_for_the_window() -> None:
    async def main() -> None:
        limiter = limiter_of(tpm=1000)
        grant = await limiter.acquire("m", tokens=1000)
        waiter = asyncio.create_task(limiter.acquire("m", tokens=10))
        await asyncio.sleep(2)
        assert not waiter.done()
        limiter.refund(grant, used_tokens=10)
        await asyncio.sleep(0.01)
        assert waiter.done()

    in_virtual_time(main())


def test_after_a_429_nobody_starts_before_the_pause_is_over() -> None:
    async def main() -> None:
        for limits in ({}, {"rpm": 6000, "tpm": 10**6}):
            limiter = limiter_of(**limits)
            since_s = now_s()
            waiting = asyncio.create_task(start_all(limiter, [5] * 20))
            limiter.pause("m", seconds=30)
            limiter.pause("m", seconds=1)  # does not shorten the first
            starts = await waiting
            assert min(at_s for at_s, _ in starts) - since_s >= 30
            assert max(at_s for at_s, _ in starts) - since_s < 31

    in_virtual_time(main())


def test_a_newcomer_without_limits_does_not_overtake_those_that_a_pause_holds() -> None:
    async def main() -> None:
        limiter = limiter_of()
        limiter.pause("m", seconds=5)
        order: list[int] = []

        async def one(place: int) -> None:
            await limiter.acquire("m", tokens=1)
            order.append(place)

        early = [asyncio.create_task(one(place)) for place in range(50)]
        await asyncio.sleep(5)
        await asyncio.gather(*early, one(50))
        assert order == list(range(51))

    in_virtual_time(main())


def test_concurrency_is_bounded_and_slots_go_in_order() -> None:
    async def main() -> None:
        limiter = limiter_of(max_concurrency=3)
        running, most, order = 0, 0, []

        async def call(place: int) -> None:
            nonlocal running, most
            grant = await limiter.acquire("m", tokens=1)
            order.append(place)
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            limiter.release(grant)
            limiter.release(grant)  # repeatable

        await asyncio.gather(*(call(place) for place in range(12)))
        assert most == 3
        assert order == list(range(12))
        assert now_s() == pytest.approx(4, abs=0.01)
        assert limiter.snapshot()["m"].in_flight == 0

    in_virtual_time(main())


@settings(max_examples=80, deadline=None)
@given(cancelled=st.sets(st.integers(0, 19)), after_s=st.floats(0, 40))
def test_cancelled_waiters_leave_no_hole_and_no_slot_behind(
    cancelled: set[int], after_s: float
) -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=60, tpm=1000, max_concurrency=2)
        starts: list[Start] = []

        async def one() -> None:
            grant = await limiter.acquire("m", tokens=100)
            starts.append((now_s(), 100))
            limiter.release(grant)

        tasks = [asyncio.create_task(one()) for _ in range(20)]
        await asyncio.sleep(after_s)
        for place in cancelled:
            tasks[place].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        requests, tokens = busiest_minute(starts)
        assert requests <= 60
        assert tokens <= 1000
        # every survivor got through, and as fast as if the cancelled had never asked
        assert len(starts) == results.count(None)
        undisturbed_s = 61 / 0.98 * len(starts) / 10 + 1
        assert not starts or starts[-1][0] <= after_s + undisturbed_s
        use = limiter.snapshot()["m"]
        assert (use.waiting, use.in_flight) == (0, 0)

    in_virtual_time(main())


def test_a_share_that_shrinks_holds_for_those_already_waiting() -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=60)
        waiting = asyncio.create_task(start_all(limiter, [1] * 40))
        await asyncio.sleep(10)
        limiter.set_share(6)
        starts = await waiting
        after = [start for start in starts if start[0] > 10.5]
        assert busiest_minute(after)[0] <= 10

    in_virtual_time(main())


def test_thousands_of_waiters_wake_one_at_a_time() -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=6000, tpm=10**9)
        waiting = asyncio.create_task(start_all(limiter, [10] * 3000))
        await asyncio.sleep(1)
        assert limiter.snapshot()["m"].waiting > 2700
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        turns_before = loop.virtual.turns
        assert len(await waiting) == 3000
        assert loop.virtual.turns - turns_before < 10 * 3000

    in_virtual_time(main())


def test_a_waiter_cancelled_while_it_gathers_tokens_hands_them_on() -> None:
    async def main() -> None:
        limiter = limiter_of(tpm=6000)
        waiter = asyncio.create_task(limiter.acquire("m", tokens=6000))
        await asyncio.sleep(50)  # of the 61 that it needs
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert (await limiter.acquire("m", tokens=6000)).waited_us < 13e6

    in_virtual_time(main())


def test_a_waiter_cancelled_while_it_waits_for_a_slot_hands_its_turn_on() -> None:
    async def main() -> None:
        limiter = limiter_of(rpm=2, tpm=6000, max_concurrency=1)
        running = await limiter.acquire("m", tokens=1000)
        waiter = asyncio.create_task(limiter.acquire("m", tokens=3000))
        await asyncio.sleep(58)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        limiter.release(running)
        assert (await limiter.acquire("m", tokens=3000)).waited_us < 1000

    in_virtual_time(main())
