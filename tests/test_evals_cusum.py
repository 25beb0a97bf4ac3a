"""The alarm on a rate by day: as rare as promised while all is well, and soon when it is not."""

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.evals.cusum import DayCount, Rule, rule_for, usual_rate, watch

FIRST = date(2026, 3, 1)


def days(*counts: tuple[int, int]) -> list[DayCount]:
    """Days in succession, each by its documents and those counted."""
    return [
        DayCount(day=FIRST + timedelta(days=number), documents=n, counted=k)
        for number, (n, k) in enumerate(counts)
    ]


def drawn(rate: float, documents: int, length: int, *, seed: int) -> list[DayCount]:
    rng = np.random.default_rng(seed)
    return days(*[(documents, int(k)) for k in rng.binomial(documents, rate, size=length)])


def alarms(found: list[DayCount], rule: Rule) -> int:
    return sum(one.alarm for one in watch(found, rule))


def test_the_evidence_is_the_sum_of_log_likelihood_ratios_and_never_negative() -> None:
    rule = Rule(usual=0.1, risen=0.2, threshold=100.0)
    found = watch(days((10, 3), (10, 0), (10, 0), (5, 5)), rule)
    first = 3 * math.log(2) + 7 * math.log(0.8 / 0.9)
    quiet = 10 * math.log(0.8 / 0.9)
    assert [one.evidence for one in found] == pytest.approx(
        [first, first + quiet, 0.0, 5 * math.log(2)]
    )
    assert not any(one.alarm for one in found)


def test_the_rule_doubles_the_odds_and_asks_for_the_lesser_of_two_thresholds() -> None:
    many = rule_for(0.2, documents_per_day=1_000, days_between_false_alarms=365)
    assert many.risen == pytest.approx(1 / 3)  # odds of 1/4 become 1/2
    assert many.threshold == pytest.approx(math.log(365))
    few = rule_for(0.2, documents_per_day=2, days_between_false_alarms=365)
    divergence = 0.2 * math.log(0.2 * 3) + 0.8 * math.log(0.8 * 1.5)
    wald = math.exp(few.threshold) - few.threshold - 1
    assert wald == pytest.approx(730 * divergence)


@pytest.mark.parametrize(
    ("rate", "documents"), [(0.002, 30), (0.02, 5), (0.02, 300), (0.1, 1), (0.1, 40), (0.3, 10)]
)
def test_false_alarms_are_as_rare_as_promised(rate: float, documents: int) -> None:
    rule = rule_for(rate, documents_per_day=documents, days_between_false_alarms=60)
    length = 30_000
    found = alarms(drawn(rate, documents, length, seed=3), rule)
    assert 0 < found <= length / 60


@pytest.mark.parametrize(("documents", "within"), [(5, 60), (50, 15), (1_000, 3)])
def test_a_doubled_rate_is_noticed_the_sooner_the_more_documents_there_are(
    documents: int, within: int
) -> None:
    rule = rule_for(0.05, documents_per_day=documents, days_between_false_alarms=365)
    delays = []
    for seed in range(40):
        found = watch(drawn(0.1, documents, 400, seed=seed), rule)
        delays.append(next(number for number, one in enumerate(found, start=1) if one.alarm))
    assert np.mean(delays) <= within


def test_after_an_alarm_evidence_is_gathered_anew() -> None:
    rule = rule_for(0.01, documents_per_day=100)
    found = watch(days((100, 20), (100, 1), (100, 20)), rule)
    assert [one.alarm for one in found] == [True, False, True]
    assert found[1].evidence < rule.threshold


def test_one_document_alone_never_alarms() -> None:
    rule = rule_for(0.001, documents_per_day=0.1, days_between_false_alarms=10)
    assert alarms(days(*[(1, 1)]), rule) == 0
    assert alarms(days((1, 1), (0, 0), (1, 1)), rule) == 1


def test_a_baseline_without_a_single_case_has_a_rate_above_zero() -> None:
    assert usual_rate(days((49, 0), (0, 0))) == 0.5 / 50
    assert usual_rate(days((3, 3))) == 3.5 / 4
    rule = rule_for(usual_rate(days((20, 0))), documents_per_day=20)
    assert alarms(days(*[(20, 0)] * 100), rule) == 0
    assert alarms(days((20, 10)), rule) == 1


def test_days_without_documents_change_nothing() -> None:
    rule = rule_for(0.05, documents_per_day=10)
    dense = watch(days((10, 2), (10, 3)), rule)
    sparse = watch(days((0, 0), (10, 2), (0, 0), (10, 3), (0, 0)), rule)
    assert [one.evidence for one in sparse] == [
        0.0,
        *[dense[0].evidence] * 2,
        *[dense[1].evidence] * 2,
    ]
    assert watch([], rule) == ()


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="4 of 3"):
        days((3, 4))
    with pytest.raises(ValueError, match="at least one document"):
        usual_rate(days((0, 0)))
    for usual in (0.0, 1.0):
        with pytest.raises(ValueError, match="no rule for a rate"):
            rule_for(usual, documents_per_day=5)
    with pytest.raises(ValueError, match="no rule for odds"):
        rule_for(0.1, documents_per_day=5, odds_times=1.0)


@given(
    st.lists(st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))),
    st.floats(0.001, 0.9),
)
def test_days_are_watched_in_their_order_however_they_come(
    counts: list[tuple[int, int]], usual: float
) -> None:
    rule = rule_for(usual, documents_per_day=30)
    found = days(*counts)
    watched = watch(found, rule)
    assert watch(reversed(found), rule) == watched
    assert [one.count for one in watched] == found
    assert all(one.evidence >= 0 for one in watched)
    assert all(one.alarm == (one.evidence >= rule.threshold) for one in watched)
