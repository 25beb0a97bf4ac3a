"""The interval of a benchmark's paired ratios: wide enough, however the noise is."""

import random
from statistics import median

import pytest

from scripts.benchmarks.pairs import Paired

TRIALS = 2_000


@pytest.mark.parametrize(("rounds", "left_out"), [(6, 0), (8, 0), (9, 1), (20, 5), (30, 9)])
def test_the_interval_is_that_of_the_sign_test(rounds: int, left_out: int) -> None:
    found = Paired.of([float(place) for place in range(rounds)])
    assert (found.low, found.high) == (left_out, rounds - 1 - left_out)


def test_five_rounds_tell_no_interval() -> None:
    found = Paired.of([1.1, 0.9, 1.0, 1.2, 1.3])
    assert (found.ratio, found.low, found.high) == (1.1, None, None)
    assert "too few" in f"{found}"


def test_nineteen_of_twenty_intervals_hold_the_true_median_of_skewed_noise() -> None:
    rng = random.Random(7)
    held = 0
    for _ in range(TRIALS):
        found = Paired.of([rng.lognormvariate(0.0, 0.3) for _ in range(25)])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.0 <= found.high
    assert held / TRIALS >= 0.94


def test_the_ratio_is_the_median() -> None:
    ratios = [1.5, 0.9, 1.0, 1.02, 1.01, 3.0]
    assert Paired.of(ratios).ratio == median(ratios)
