"""Intervals and tests, against published values, against scipy, and by simulation."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from runner.evals.statistics import (
    Interval,
    Stratum,
    clopper_pearson,
    error_rate,
    mcnemar,
    paired_bootstrap,
    sign_flips,
    smallest_difference,
)

# differences of crossed and self-fertilised maize, in eighths of an inch (Darwin 1876)
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 5
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
        # Conover 1999, Practical Nonparametric Statistics, table A4
        (5, 25, 0.068, 0.407),
    ],
)
def test_clopper_pearson_intervals_are_the_published_ones(
    k: int, n: int, low: float, high: float
) -> None:
    found = clopper_pearson(k, n)
    assert found.low == pytest.approx(low, abs=6e-4 if n == 25 else 6e-5)
    assert found.high == pytest.approx(high, abs=6e-4 if n == 25 else 6e-5)
    assert found.estimate == k / n


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    k, n = counts
    theirs = binomtest(k, n).proportion_ci(0.99, method="exact")
    found = clopper_pearson(k, n, alpha=0.01)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_an_interval_of_shares_is_that_of_the_whole_numbers_around_them() -> None:
    thirds = clopper_pearson(sum([1 / 3] * 4), 10)
    assert thirds.low == clopper_pearson(1, 10).low
    assert thirds.high == clopper_pearson(2, 10).high
    tenths = sum([0.1] * 10)
    assert tenths < 1
    assert clopper_pearson(tenths, 10) == clopper_pearson(1, 10)


def test_nothing_seen_says_nothing_and_more_than_all_is_refused() -> None:
    assert clopper_pearson(0, 0) == Interval(estimate=None, low=0, high=1)
    with pytest.raises(ValueError, match="4 of 3"):
        clopper_pearson(4, 3)


def test_mcnemar_gives_the_p_of_the_textbooks() -> None:
    # Bentur and others 2009, in Fagerland, Lydersen and Laake 2013, BMC Medical Research
    # Methodology 13: airways before and after a transplantation
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(0.0703, abs=5e-5)
    # Agresti 2002, Categorical Data Analysis, section 10.1: approval in two surveys (z = 4.2)
    assert mcnemar(86, 150) == pytest.approx(3.7e-5, abs=5e-7)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_scipy(one: int, other: int) -> None:
    theirs = binomtest(one, one + other, 0.5).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(theirs, rel=1e-9)


def test_sign_flips_give_fishers_count_of_darwins_maize() -> None:
    # Fisher 1935: 863 of 32,768 patterns have a sum of 314 or more
    assert sign_flips(MAIZE, seed=0) == 2 * 863 / 32_768
    assert sign_flips([-one for one in MAIZE], seed=0) == 2 * 863 / 32_768


@settings(max_examples=20)
@given(st.integers(0, 25), st.integers(0, 25), st.integers(0, 50))
def test_sign_flips_of_whole_documents_are_mcnemars_test(up: int, down: int, same: int) -> None:
    p = sign_flips([1.0] * up + [-1.0] * down + [0.0] * same, seed=3)
    assert p == pytest.approx(mcnemar(up, down), abs=0.02)


def test_a_bootstrap_interval_is_that_of_the_mean_and_repeats_with_its_seed() -> None:
    values = np.random.default_rng(5).normal(0.3, 1.0, size=400).tolist()
    found = paired_bootstrap(values, seed=1)
    half = 1.96 * np.std(values) / math.sqrt(400)
    assert found.estimate == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(np.mean(values) - half, abs=0.01)
    assert found.high == pytest.approx(np.mean(values) + half, abs=0.01)
    assert found == paired_bootstrap(values, seed=1)
    assert found != paired_bootstrap(values, seed=2)


def test_a_bootstrap_of_nothing_knows_nothing() -> None:
    assert paired_bootstrap([], seed=0) == Interval(estimate=None, low=-math.inf, high=math.inf)


def test_the_smallest_difference_is_that_of_connors_sample_size() -> None:
    # 23 pairs for shares of 0.45 and 0.05 either way (powersamplesize.com, after Connor 1987)
    found = {n: smallest_difference(n, discordance=0.5) for n in (22, 23)}
    assert found[23] is not None
    assert found[22] is not None
    assert found[23] <= 0.4 < found[22]


def test_a_difference_of_the_smallest_size_is_shown_four_times_in_five() -> None:
    n, discordance = 400, 0.2
    smallest = smallest_difference(n, discordance=discordance)
    assert smallest is not None
    rng = np.random.default_rng(7)
    lost, gained = (discordance + smallest) / 2, (discordance - smallest) / 2
    drawn = rng.multinomial(n, [lost, gained, 1 - discordance], size=2_000)
    shown = np.mean([(one - other) ** 2 / (one + other) > 1.96**2 for one, other, _ in drawn])
    assert shown == pytest.approx(0.8, abs=0.03)


def test_no_difference_is_smaller_than_the_pairs_that_show_it() -> None:
    # with no discordance seen, 8 documents of 50 must all fall one way
    smallest = smallest_difference(50, discordance=0.0)
    assert smallest == smallest_difference(50, discordance=0.1)
    assert smallest == pytest.approx(0.15, abs=0.01)
    assert smallest_difference(2, discordance=0.0) is None
    with pytest.raises(ValueError, match="0 documents"):
        smallest_difference(0, discordance=0.0)


# The error rate of reviewed strata


def stratum(size: int, reviewed: int, wrong: int, name: str = "any") -> Stratum:
    return Stratum(name=name, size=size, reviewed=reviewed, wrong=wrong)


def test_one_stratum_is_a_plain_proportion() -> None:
    found = error_rate([stratum(100_000, 200, 6)])
    assert found.estimate == 6 / 200
    assert (found.low, found.high) == pytest.approx(
        (clopper_pearson(6, 200).low, clopper_pearson(6, 200).high)
    )


def test_strata_count_by_their_size_and_not_by_their_reviews() -> None:
    found = error_rate([stratum(9_000, 100, 0), stratum(1_000, 500, 250)])
    assert found.estimate == pytest.approx(0.05)
    assert found.low == pytest.approx(0.1 * clopper_pearson(250, 500, alpha=0.025).low)
    assert 0.05 < found.high < 0.1


def test_what_was_reviewed_as_a_whole_is_known_exactly() -> None:
    assert error_rate([stratum(40, 40, 10), stratum(10, 10, 0)]) == Interval(
        estimate=0.2, low=0.2, high=0.2
    )
    # and leaves the whole of alpha to the others
    half = error_rate([stratum(50, 50, 0), stratum(50, 5, 1)])
    assert half.high == pytest.approx(0.5 * clopper_pearson(1, 5).high)


def test_a_stratum_without_reviews_may_be_all_wrong_or_all_right() -> None:
    found = error_rate([stratum(900, 900, 9), stratum(100, 0, 0)])
    assert found.estimate == pytest.approx(0.01)
    assert (found.low, found.high) == pytest.approx((0.009, 0.109))
    assert error_rate([stratum(7, 0, 0)]) == Interval(estimate=None, low=0, high=1)
    assert error_rate([stratum(0, 0, 0)]) == Interval(estimate=None, low=0, high=1)


def test_an_interval_never_leaves_out_what_its_reviews_prove() -> None:
    found = error_rate([stratum(20, 19, 19)])
    assert (found.low, found.high) == (0.95, 1.0)


def test_impossible_counts_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="stratum flagged: 3 wrong of 2"):
        stratum(9, 2, 3, name="flagged")


@pytest.mark.parametrize(
    "strata",
    [
        [(5_000, 0.01, 60), (400, 0.15, 100), (50, 0.4, 50)],
        [(300, 0.05, 30), (300, 0.05, 30), (300, 0.0, 10), (300, 0.5, 5)],
    ],
)
def test_the_interval_holds_the_true_rate_at_least_as_often_as_it_says(
    strata: list[tuple[int, float, int]],
) -> None:
    rng = np.random.default_rng(11)
    wrong = [round(size * rate) for size, rate, _ in strata]
    truth = sum(wrong) / sum(size for size, _, _ in strata)
    held = []
    for _ in range(400):
        found = error_rate(
            [
                stratum(size, n, int(rng.hypergeometric(k, size - k, n)))
                for (size, _, n), k in zip(strata, wrong, strict=True)
            ]
        )
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.95


def test_sampling_from_few_records_is_covered_too() -> None:
    for size, wrong, n in product((10, 23), (0, 1, 4, 7, 9), (1, 3, 5, 7, 9)):
        chances = {
            k: math.comb(wrong, k) * math.comb(size - wrong, n - k) / math.comb(size, n)
            for k in range(min(wrong, n) + 1)
        }
        covered = sum(
            chance
            for k, chance in chances.items()
            if (found := error_rate([stratum(size, n, k)])).low <= wrong / size <= found.high
        )
        assert covered >= 0.95, (size, wrong, n)
