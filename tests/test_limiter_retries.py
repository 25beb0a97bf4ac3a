"""The retry budget in virtual time: a tenth of first calls, and a floor."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.limiter.retries import (
    FLOOR_EVERY_S,
    MINUTE_S,
    POSTPONED_MAX_S,
    SHARE,
    RetryBudget,
)
from tests.virtual_time import in_virtual_time, now_s

moves = st.lists(
    st.tuples(st.floats(0, 20), st.integers(0, 40), st.integers(0, 20)), min_size=1, max_size=40
)


@settings(max_examples=80, deadline=None)
@given(moves=moves)
def test_retries_never_exceed_a_tenth_of_first_calls_and_the_floor(
    moves: list[tuple[float, int, int]],
) -> None:
    async def main() -> None:
        budget = RetryBudget()
        first_s: list[float] = []
        retries_s: list[float] = []
        for wait_s, first, wishes in moves:
            await asyncio.sleep(wait_s)
            for _ in range(first):
                budget.note_first()
                first_s.append(now_s())
            for _ in range(wishes):
                had_room = budget.has_room()
                if await budget.take():
                    assert had_room
                    retries_s.append(now_s())
        for at_s in retries_s:
            minute = [one for one in retries_s if at_s - MINUTE_S < one <= at_s]
            paying = [one for one in first_s if at_s - 2 * MINUTE_S < one <= at_s]
            assert len(minute) <= SHARE * len(paying) + MINUTE_S / FLOOR_EVERY_S + 1

    in_virtual_time(main())


def test_with_nothing_else_going_on_one_retry_in_five_seconds_is_allowed() -> None:
    async def main() -> None:
        budget = RetryBudget()
        taken = 0
        for _ in range(600):
            taken += await budget.take()
            await asyncio.sleep(0.1)
        assert 12 <= taken <= 13

    in_virtual_time(main())


def test_the_floor_is_shared_by_the_processes_of_the_fleet() -> None:
    async def main() -> None:
        budgets = [RetryBudget() for _ in range(4)]
        for budget in budgets:
            budget.set_share(4)
        taken = 0
        for _ in range(3_000):
            for budget in budgets:
                taken += await budget.take()
            await asyncio.sleep(0.1)
        assert taken <= 300 / FLOOR_EVERY_S + len(budgets)

    in_virtual_time(main())


def test_the_more_are_put_off_the_longer_they_wait_up_to_a_bound() -> None:
    async def main() -> None:
        budget = RetryBudget()
        waits_s = [budget.postpone() for _ in range(60)]
        assert waits_s == sorted(waits_s)
        assert waits_s[0] < waits_s[5] < waits_s[-1] == POSTPONED_MAX_S
        await asyncio.sleep(MINUTE_S + 1)
        assert budget.postpone() == waits_s[0]

    in_virtual_time(main())
