"""How fast things go: calls that ended, failed and cost money, counted as they happen.

The past hour comes from the ledger, a point a minute; from then on a point a look. Each call is
counted once, at the look that finds it over.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from runner.ledger.depth import Depth, Moments, past_depth
from runner.ledger.flow import Flowing, calls_of, newest_calls
from runner.ledger.standing import QueueStanding
from runner.model import DocumentState

PAST_US = 3_600_000_000
MINUTE_US = 60_000_000
PAST_CALLS_MAX = 50_000  # that are read once, at the start; older minutes stay unknown
NEW_CALLS_MAX = 20_000  # of one look
UNDER_WAY_MAX = 20_000  # a call that never ends is let go when newer ones fill this
POINTS_MAX = 1_800
SMOOTH_US = 10_000_000
LATE_US = 2_000_000  # a call gets its id before others see it: as much later as a commit takes


@dataclass(frozen=True, slots=True)
class Point:
    """One moment; None where nobody looked."""

    at_s: float
    waiting: int | None  # documents: queued and ready
    running: int | None
    calls_per_s: float | None
    records_per_s: float | None
    failed_per_min: float | None
    usd_per_min: float | None


@dataclass(frozen=True, slots=True)
class _Total:
    """What had happened up to a moment."""

    at_us: int
    calls: int = 0
    failed: int = 0
    spent_nusd: int = 0

    def plus(self, calls: list[Flowing], *, at_us: int) -> "_Total":
        return _Total(
            at_us,
            self.calls + len(calls),
            self.failed + sum(one.fault is not None for one in calls),
            self.spent_nusd + sum(one.spent_nusd for one in calls),
        )


class Flow:
    """The points of the past hour, one more with each look; memory and time of a look bounded."""

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=POINTS_MAX)
        self._totals: deque[_Total] = deque()
        self._under_way: dict[str, None] = {}  # in the order of their birth
        self._seen: set[str] = set()

    def look(self, connection: Connection, queue: QueueStanding, *, now_us: int) -> Point:
        """What happened since the last look; the first one reads the past hour."""
        documents = sum(queue.states.values())
        ended = self._ended(connection, documents=documents, now_us=now_us)
        last = self._totals[-1] if self._totals else _Total(now_us)
        self._totals.append(last.plus(ended, at_us=now_us))
        while len(self._totals) > 2 and now_us - self._totals[1].at_us >= SMOOTH_US:  # noqa: PLR2004 - two ends
            self._totals.popleft()
        point = _point(self._totals[0], self._totals[-1], queue.states)
        self.points.append(point)
        return point

    def _ended(self, connection: Connection, *, documents: int, now_us: int) -> list[Flowing]:
        """Calls that are over and were not at the last look."""
        if not self._totals:
            past = newest_calls(connection, since_us=now_us - PAST_US, limit=PAST_CALLS_MAX)
            depths = past_depth(connection, _past(now_us), documents=documents)
            self.points.extend(_minutes(past, depths, now_us=now_us))
            self._note(past)
            return []
        since = calls_of(connection, list(self._under_way))
        from_us = self._totals[-1].at_us - LATE_US
        newest = newest_calls(connection, since_us=from_us, limit=NEW_CALLS_MAX)
        new = [one for one in newest if one.id not in self._seen]
        for one in since:
            if one.is_over:
                del self._under_way[one.id]
        self._note(new)
        self._seen = {one.id for one in newest}
        return [one for one in (*since, *new) if one.is_over]

    def _note(self, newest_first: list[Flowing]) -> None:
        """Remember which calls were seen, and which of them have still to end."""
        self._seen = {one.id for one in newest_first}
        for one in reversed(newest_first):
            if not one.is_over:
                self._under_way[one.id] = None
        for gone in list(self._under_way)[: max(0, len(self._under_way) - UNDER_WAY_MAX)]:
            del self._under_way[gone]


def _point(first: _Total, last: _Total, states: Mapping[DocumentState, int]) -> Point:
    at_s = round(last.at_us / 1e6, 1)
    waiting = states[DocumentState.QUEUED] + states[DocumentState.READY]
    running = states[DocumentState.RUNNING]
    if last is first:  # one look tells no speed
        return Point(at_s, waiting, running, None, None, None, None)
    span_s = max(1.0, (last.at_us - first.at_us) / 1e6)
    calls, failed = last.calls - first.calls, last.failed - first.failed
    return Point(
        at_s=at_s,
        waiting=waiting,
        running=running,
        calls_per_s=round(calls / span_s, 3),
        records_per_s=round((calls - failed) / span_s, 3),
        failed_per_min=round(60 * failed / span_s, 2),
        usd_per_min=round(60 * (last.spent_nusd - first.spent_nusd) / 1e9 / span_s, 6),
    )


def _past(now_us: int) -> Moments:
    """The middle of each minute of the past hour."""
    return Moments(
        first_us=now_us - PAST_US + MINUTE_US // 2, step_us=MINUTE_US, count=PAST_US // MINUTE_US
    )


def _minutes(
    newest_first: Sequence[Flowing], depths: Sequence[Depth], *, now_us: int
) -> list[Point]:
    """A point for each minute since something was there: what ran and waited, how calls ended."""
    by_minute: dict[int, list[Flowing]] = {}
    for one in newest_first:
        if one.is_over:
            by_minute.setdefault((now_us - one.began_us) // MINUTE_US, []).append(one)
    oldest, minutes = max(by_minute, default=-1), PAST_US // MINUTE_US
    # of the minute of the last call that may be read only a part was
    known = oldest - 1 if len(newest_first) == PAST_CALLS_MAX else minutes - 1
    depth_of = {minutes - 1 - number: one for number, one in enumerate(depths)}
    busy = max((ago for ago, one in depth_of.items() if one.open), default=-1)
    return [
        _minute(
            by_minute.get(ago, []) if ago <= known else None,
            depth_of.get(ago),
            at_us=now_us - ago * MINUTE_US - MINUTE_US // 2,
        )
        for ago in range(max(min(oldest, known), busy), -1, -1)
    ]


def _minute(calls: Sequence[Flowing] | None, depth: Depth | None, *, at_us: int) -> Point:
    point = Point(round(at_us / 1e6, 1), None, None, None, None, None, None)
    if depth is not None and depth.running is not None:
        waiting = max(0, depth.open - depth.running)
        point = replace(point, waiting=waiting, running=depth.running)
    if calls is None:
        return point
    failed = sum(one.fault is not None for one in calls)
    return replace(
        point,
        calls_per_s=round(len(calls) / 60, 3),
        records_per_s=round((len(calls) - failed) / 60, 3),
        failed_per_min=float(failed),
        usd_per_min=round(sum(one.spent_nusd for one in calls) / 1e9, 6),
    )
