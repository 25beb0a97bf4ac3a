"""Spans of time counted by size, so that sums and percentiles of many need none of them kept.

A span of v microseconds counts in class k, the whole number nearest to log v / log 1.04, and stands
for 1.04^k: 2 % from the truth at most. A day of calls is some hundred classes, and days add up.
"""

import math
from collections.abc import Mapping
from enum import StrEnum

GROWTH = 1.04
ERROR = math.sqrt(GROWTH) - 1  # the most that a percentile differs from the true one
_LOG = math.log(GROWTH)


class Step(StrEnum):
    """What a call spends its time on."""

    QUEUE_WAIT = "queue_wait"
    LIMITER_WAIT = "limiter_wait"
    RESPONSE = "response"
    PARSE = "parse"
    TOTAL = "total"


def class_of(span_us: int) -> int:
    """The class in which a span counts; no time at all has its own, below the others."""
    return round(math.log(span_us) / _LOG) if span_us > 0 else -1


def span_of(place: int) -> float:
    """The span in microseconds that a class stands for."""
    return GROWTH**place if place >= 0 else 0.0


def percentile_us(counts: Mapping[int, int], share: float) -> float | None:
    """The span that this share of all does not exceed (nearest rank); None of nothing."""
    rank = math.ceil(share * sum(counts.values()))
    for place in sorted(counts):
        rank -= counts[place]
        if rank <= 0:
            return span_of(place)
    return None
