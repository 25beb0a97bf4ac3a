"""Tells day by day whether a rate, such as that of wrong or of flagged records, has risen.

A one-sided cumulative sum of log-likelihood ratios of binomial counts: the evidence for a risen
rate p1 over the usual p0, never below 0 (Page 1954, "Continuous inspection schemes", Biometrika 41;
Steiner and others 2000, "Monitoring surgical performance using risk-adjusted cumulative sum
charts", Biostatistics 1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

ODDS_TIMES = 2.0  # the rise that is found soonest
DAYS_BETWEEN_FALSE_ALARMS = 365
MORE_THAN_ONE = 1.5  # times the evidence of one document: what an alarm takes at least


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCount:
    """Of a day's documents, how many have what is watched."""

    day: date
    documents: int
    counted: int

    def __post_init__(self) -> None:
        if not 0 <= self.counted <= self.documents:
            raise ValueError(f"{self.day}: {self.counted} of {self.documents} cannot be")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The usual rate, the risen one that is looked for, and the evidence at which to alarm."""

    usual: float
    risen: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A day, the evidence for a risen rate at its end, and whether that is an alarm."""

    count: DayCount
    evidence: float
    alarm: bool


def usual_rate(days: Iterable[DayCount]) -> float:
    """The rate of a period that was in order, never 0 or 1: half a document more of either kind.

    The half is Haldane and Anscombe's correction (Anscombe 1956, "On estimating binomial response
    relations", Biometrika 43). Raises ValueError without a document. Of few documents it is a
    guess, and the promise of the rule holds for the true rate only as far as the guess does.
    """
    counts = list(days)
    documents, counted = sum(day.documents for day in counts), sum(day.counted for day in counts)
    if not documents:
        raise ValueError("a usual rate needs at least one document")
    return (counted + 0.5) / (documents + 1)


def rule_for(
    usual: float,
    *,
    documents_per_day: float,
    odds_times: float = ODDS_TIMES,
    days_between_false_alarms: float = DAYS_BETWEEN_FALSE_ALARMS,
) -> Rule:
    """The rule for a usual rate that looks for odds so many times as high.

    While the rate is the usual one or less, the mean time to a false alarm is at least
    `days_between_false_alarms`; simulated, 1.1 to 8 times that. The threshold h is the lesser of
    two that promise it for D days of n documents: ln D (Lorden 1971, "Procedures for reacting to a
    change in distribution", Annals of Mathematical Statistics 42), which does with many documents
    a day, and Wald's approximation e^h - h - 1 = D n KL(p0, p1) without overshoot (as in Reynolds
    and Stoumbos 1999, "A CUSUM chart for monitoring a proportion when inspecting continuously",
    Journal of Quality Technology 31), which does with few. A single document never alarms. For many
    more documents a day than these, make a new rule.
    """
    if not (0 < usual < 1 and documents_per_day > 0):
        raise ValueError(f"no rule for a rate of {usual} in {documents_per_day} documents a day")
    if not (odds_times > 1 and days_between_false_alarms > 1):
        raise ValueError(
            f"no rule for odds {odds_times} times as high and a false alarm in "
            f"{days_between_false_alarms} days: both must be more than 1"
        )
    odds = odds_times * usual / (1 - usual)
    risen = odds / (1 + odds)
    more, less = _evidence(usual, risen)
    divergence = -usual * more - (1 - usual) * less
    documents = days_between_false_alarms * documents_per_day
    threshold = min(math.log(days_between_false_alarms), _wald(documents * divergence))
    return Rule(usual=usual, risen=risen, threshold=max(threshold, MORE_THAN_ONE * more))


def _wald(wanted: float) -> float:
    """The h of which e^h - h - 1 is `wanted`."""
    low, high = 0.0, 2 + math.log1p(wanted) * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.expm1(middle) - middle < wanted else (low, middle)
    return high


def _evidence(usual: float, risen: float) -> tuple[float, float]:
    """What one document that is counted, and one that is not, says for the risen rate."""
    return math.log(risen / usual), math.log((1 - risen) / (1 - usual))


def watch(days: Iterable[DayCount], rule: Rule) -> tuple[Watched, ...]:
    """Every day in its order. After an alarm the evidence is gathered anew.

    A day without documents, and a day that is left out, tells nothing and changes nothing.
    """
    more, less = _evidence(rule.usual, rule.risen)
    watched: list[Watched] = []
    evidence = 0.0
    for count in sorted(days, key=lambda count: count.day):
        others = count.documents - count.counted
        evidence = max(0.0, evidence + count.counted * more + others * less)
        alarm = evidence >= rule.threshold
        watched.append(Watched(count=count, evidence=evidence, alarm=alarm))
        if alarm:
            evidence = 0.0
    return tuple(watched)
