"""What a run made of a limit, from the provider's own book; pure.

- use: admitted amount / (limit rate x time from the first to the last admitted arrival)
- later use: the same, of what arrived after the first window, which a burst can fill at once; for
  runs of two windows or more
- time: first arrival to last answer / ideal; ideal = amount / limit rate + median latency (+ the
  gap that a very large document forces, where a scenario names one)
- refusals over the limit: in the first window, and after it, also as a share of all requests then
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from runner.testing.book import Entry

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What the provider let through at best.

    `places`: it has no limits but so many places, and the rate is what they served.
    """

    unit: Unit = "requests"
    rate_per_s: float = 0.0
    window_s: float
    gap_s: float = 0.0
    places: int | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run; None where there is nothing to measure."""

    done: float
    use: float | None
    use_later: float | None
    times_ideal: float | None
    refused_first: float
    refused_after: float
    refused_after_share: float
    peak_line: float  # requests waiting for a place at the provider
    wait_largest_s: float | None = None
    wait_median_s: float | None = None
    redis_calls: float | None = None  # a document

    @classmethod
    def median(cls, runs: Sequence[Self]) -> Self:
        """Each figure's median."""
        medians: dict[str, Any] = {
            part.name: _median([getattr(run, part.name) for run in runs]) for part in fields(cls)
        }
        return cls(**medians)


def figures(entries: Sequence[Entry], by: Yardstick, *, done: int, peak_line: int) -> Figures:
    """The figures of a run whose every request is in `entries`, and no other."""
    first_s = min((entry.received_s for entry in entries), default=0.0)
    late = [entry for entry in entries if entry.received_s > first_s + by.window_s]
    refused = sum(entry.over_limit for entry in entries)
    refused_after = sum(entry.over_limit for entry in late)
    admitted = [entry for entry in entries if entry.admitted]
    rate_per_s = _served_per_s(admitted, by.places) if by.places else by.rate_per_s
    return Figures(
        done=done,
        use=_use(admitted, by, rate_per_s, since_s=first_s),
        use_later=_use_later(admitted, by, rate_per_s, since_s=first_s + by.window_s),
        times_ideal=_times_ideal(admitted, by, rate_per_s),
        refused_first=refused - refused_after,
        refused_after=refused_after,
        refused_after_share=refused_after / len(late) if late else 0.0,
        peak_line=peak_line,
    )


def tokens(entry: Entry) -> int:
    """What a call counts against a limit of tokens."""
    return entry.prompt_tokens + entry.completion_tokens


def _amount(entries: Sequence[Entry], unit: Unit) -> int:
    return len(entries) if unit == "requests" else sum(map(tokens, entries))


def _served_per_s(admitted: Sequence[Entry], places: int) -> float:
    """What that many places serve when none is ever empty."""
    served_s = [
        entry.finished_s - entry.begun_s
        for entry in admitted
        if entry.begun_s is not None and entry.finished_s is not None
    ]
    return places / statistics.mean(served_s) if served_s else 0.0


def _last_answer_s(admitted: Sequence[Entry]) -> float:
    return max(entry.finished_s or entry.received_s for entry in admitted)


def _use(
    admitted: Sequence[Entry], by: Yardstick, rate_per_s: float, *, since_s: float
) -> float | None:
    """Arrivals fill a window, answers fill places: then the time goes to the last answer."""
    if not admitted or not rate_per_s:
        return None
    last_s = max(entry.received_s for entry in admitted)
    end_s = _last_answer_s(admitted) if by.places else last_s
    took_s = end_s - since_s
    return _amount(admitted, by.unit) / (rate_per_s * took_s) if took_s else None


def _use_later(
    admitted: Sequence[Entry], by: Yardstick, rate_per_s: float, *, since_s: float
) -> float | None:
    late = [entry for entry in admitted if entry.received_s > since_s]
    if not late or late[-1].received_s < since_s + by.window_s:
        return None
    return _use(late, by, rate_per_s, since_s=since_s)


def _times_ideal(admitted: Sequence[Entry], by: Yardstick, rate_per_s: float) -> float | None:
    if not admitted or not rate_per_s:
        return None
    latency_s = statistics.median(
        (entry.finished_s or entry.received_s) - (entry.begun_s or entry.received_s)
        for entry in admitted
    )
    took_s = _last_answer_s(admitted) - min(entry.received_s for entry in admitted)
    return took_s / (_amount(admitted, by.unit) / rate_per_s + latency_s + by.gap_s)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
