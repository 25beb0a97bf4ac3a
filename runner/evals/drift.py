"""Whether a rate drifts: its first days say what is usual, and the days after them are watched.

Usual is the rate of the first days together and one standard error more, as they may have been good
ones by chance. Simulated with 20 rates watched together: of rates that stay as they are, at 50
documents a day 0.5 % of those of 10 % gave a false alarm within 90 days, 1.5 % of those of 2 %, and
5.5 % of those of 0.5 %; at 1,000 a day none of 10 % did. A rate of 10 % whose odds double was found
within 10 days at 50 documents a day, within one at 1,000 (the median).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from .cusum import DAYS_BETWEEN_FALSE_ALARMS, DayCount, Rule, Watched, rule_for, usual_rate, watch

USUAL_DOCUMENTS = 500  # of the first days, at least
USUAL_DAYS = 7  # a week has its weekdays
EPISODE_DAYS = 7  # an alarm so soon after another is of the same rise
RECENT_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Days together: how many documents, and how many of them have what is watched."""

    documents: int
    counted: int

    @property
    def rate(self) -> float | None:
        """The share; None without a document."""
        return self.counted / self.documents if self.documents else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One rate: then (its first days) and now (since the alarm, or the last days)."""

    then: Pooled
    now: Pooled
    is_watched: bool  # else its first days are not enough yet to say what is usual
    alarm_since: date | None  # the first alarm of the present rise

    @property
    def has_risen(self) -> bool:
        """Whether the alarm stands."""
        return self.alarm_since is not None


def drift_of(days: Sequence[DayCount], *, today: date, rates: int) -> Drift:
    """Judge one rate by its days; `rates` are watched together, and share their false alarms.

    All of them together give a false alarm in `DAYS_BETWEEN_FALSE_ALARMS` days. An alarm stands
    for `EPISODE_DAYS` after the last day on which the evidence was enough.
    """
    ordered = sorted((day for day in days if day.documents), key=lambda day: day.day)
    first = _first_days(ordered)
    rest = ordered[len(first) :]
    recent = [day for day in ordered if day.day > today - timedelta(days=RECENT_DAYS)]
    if not _is_enough(first):
        return Drift(then=_pooled(first), now=_pooled(recent), is_watched=False, alarm_since=None)
    rule = _rule(first, ordered, rates=rates)
    since = _alarm_since(watch(rest, rule), today=today)
    now = recent if since is None else [day for day in rest if day.day >= since]
    return Drift(then=_pooled(first), now=_pooled(now), is_watched=True, alarm_since=since)


def _first_days(ordered: Sequence[DayCount]) -> Sequence[DayCount]:
    for number in range(len(ordered) + 1):
        if _is_enough(ordered[:number]):
            return ordered[:number]
    return ordered


def _is_enough(days: Sequence[DayCount]) -> bool:
    return len(days) >= USUAL_DAYS and _pooled(days).documents >= USUAL_DOCUMENTS


def _pooled(days: Sequence[DayCount]) -> Pooled:
    return Pooled(
        documents=sum(day.documents for day in days), counted=sum(day.counted for day in days)
    )


def _rule(first: Sequence[DayCount], ordered: Sequence[DayCount], *, rates: int) -> Rule:
    rate = usual_rate(first)
    error = math.sqrt(rate * (1 - rate) / _pooled(first).documents)
    return rule_for(
        min(rate + error, (1 + rate) / 2),  # below 1, also where nearly all have it
        documents_per_day=_pooled(ordered).documents / len(ordered),
        days_between_false_alarms=DAYS_BETWEEN_FALSE_ALARMS * max(1, rates),
    )


def _alarm_since(watched: Sequence[Watched], *, today: date) -> date | None:
    """The first alarm of the last rise, if that stands."""
    alarms = [one.count.day for one in watched if one.alarm]
    if not alarms or today - alarms[-1] >= timedelta(days=EPISODE_DAYS):
        return None
    since = alarms[-1]
    for day in reversed(alarms):
        if since - day >= timedelta(days=EPISODE_DAYS):
            break
        since = day
    return since
