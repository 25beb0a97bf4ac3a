"""The rolling window lets in exactly as much as any window may hold, and says when to come back."""

from hypothesis import given
from hypothesis import strategies as st

from runner.testing.limits import Limits, RollingWindow

# Times are multiples of 1/1024 s, which floats add and subtract exactly.
TICKS_PER_S = 1024
ARRIVALS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 60)), max_size=120)


@given(ARRIVALS, st.integers(1, 8), st.integers(20, 120))
def test_a_call_comes_in_exactly_when_the_window_that_ends_with_it_has_room(
    steps: list[tuple[int, int]], requests: int, tokens: int
) -> None:
    window = RollingWindow(Limits(requests=requests, tokens=tokens, window_s=1.0))
    admitted: list[tuple[int, int]] = []
    now = 0
    for step, amount in steps:
        now += step
        recent = [used for at, used in admitted if at > now - TICKS_PER_S]
        fits = len(recent) + 1 <= requests and sum(recent) + amount <= tokens
        grant = window.ask(now_s=now / TICKS_PER_S, tokens=amount)
        assert (grant.dimension is None) == fits
        if fits:
            admitted.append((now, amount))


@given(ARRIVALS, st.integers(1, 8), st.integers(60, 120))
def test_who_waits_as_long_as_told_is_let_in(
    steps: list[tuple[int, int]], requests: int, tokens: int
) -> None:
    window = RollingWindow(Limits(requests=requests, tokens=tokens, window_s=1.0))
    now_s = 0.0
    for step, amount in steps:
        now_s += step / TICKS_PER_S
        grant = window.ask(now_s=now_s, tokens=amount)
        tries = 0
        while grant.dimension is not None:
            assert 0 < grant.retry_after_s <= 1.0
            now_s += grant.retry_after_s
            grant = window.ask(now_s=now_s, tokens=amount)
            tries += 1
            assert tries <= 2  # once for the requests, once for the tokens


def test_a_request_above_the_limit_can_never_come_in() -> None:
    window = RollingWindow(Limits(tokens=100))
    assert window.ask(now_s=0, tokens=101).retry_after_s == float("inf")
    assert window.ask(now_s=0, tokens=100).dimension is None


def test_what_is_left_and_when_it_is_empty_are_told() -> None:
    window = RollingWindow(Limits(requests=3, tokens=100, window_s=60))
    window.ask(now_s=10, tokens=40)
    grant = window.ask(now_s=20, tokens=25)
    assert (grant.requests_left, grant.tokens_left, grant.reset_s) == (1, 35, 60)
    refused = window.ask(now_s=30, tokens=50)
    assert (refused.dimension, refused.retry_after_s, refused.tokens_left) == ("tokens", 40, 35)
