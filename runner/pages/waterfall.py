"""A document's calls along one line of time: when each waited for its rate, was answered, was read.

Long waits between two calls are cut short, so that a night in the queue does not hide the calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.ledger.calls import AttemptRow

WIDTH = 1000.0
GAP_SHARE_MAX = 0.1  # of the time that calls took: what is shown at most of a wait between two


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar, in thousandths of the whole."""

    kind: str  # limiter, answer, reading
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One call."""

    call: AttemptRow
    parts: tuple[Part, ...]
    after_us: int  # since the end of the call before


def waterfall(calls: Sequence[AttemptRow]) -> list[Bar]:
    """A bar for each call, all on one scale."""
    spans = [_spans_us(call) for call in calls]
    busy_us = max(1, sum(sum(one) for one in spans))
    gaps_us = _gaps_us(calls, spans)
    shown_us = [min(gap, GAP_SHARE_MAX * busy_us) for gap in gaps_us]
    scale = WIDTH / (busy_us + sum(shown_us))
    bars, at = [], 0.0
    for call, span, gap_us, shown in zip(calls, spans, gaps_us, shown_us, strict=True):
        at += shown * scale
        parts = []
        for kind, part_us in zip(("limiter", "answer", "reading"), span, strict=True):
            parts.append(Part(kind, round(at, 1), round(part_us * scale, 1)))
            at += part_us * scale
        bars.append(Bar(call, tuple(part for part in parts if part.width), gap_us))
    return bars


def _spans_us(call: AttemptRow) -> tuple[int, int, int]:
    return (call.limiter_wait_us, call.response_us or 0, call.parse_us or 0)


def _gaps_us(calls: Sequence[AttemptRow], spans: Sequence[tuple[int, int, int]]) -> list[int]:
    gaps, ended_us = [], None
    for call, (limiter_us, answer_us, reading_us) in zip(calls, spans, strict=True):
        began_us = call.created_us - limiter_us
        gaps.append(0 if ended_us is None else max(0, began_us - ended_us))
        ended_us = call.created_us + answer_us + reading_us
    return gaps
