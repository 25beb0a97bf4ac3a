"""What the live screen of status has seen: the queue of the last hour, drawn evenly in time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile, groupby

from runner.cli.shapes.status import StatusShape
from runner.ledger.depth import Depth, Moments

HISTORY_S = 3_600
STEP_S = 15  # of what the ledger tells
CELLS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
SPEED_OVER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The queue as it was."""

    at_s: float  # monotonic
    waiting: float
    running: float
    per_s: float  # documents that ended


class Past:
    """The queue of the last hour: what the ledger tells of it, and each look since."""

    def __init__(self, depths: Sequence[Depth] = (), *, now_us: int = 0, now_s: float = 0) -> None:
        """What the ledger tells, up to now; steps before the first document are left out."""
        self._looks: deque[tuple[float, float]] = deque()  # when, and how many had ended
        self._moments: deque[Moment] = deque(
            Moment(
                at_s=now_s - (now_us - one.at_us) / 1e6,
                waiting=max(0, one.open - (one.running or 0)),
                running=one.running or 0,
                per_s=one.ended / STEP_S,
            )
            for one in dropwhile(lambda one: not one.open and not one.ended, depths)
        )

    def note(self, status: StatusShape, *, now_s: float) -> None:
        """Remember a look, and nothing older than an hour."""
        queue = status.queue
        ended = queue.done + queue.review + queue.dead + queue.cancelled
        self._looks.append((now_s, ended))
        while self._looks[0][0] < now_s - SPEED_OVER_S:
            self._looks.popleft()
        self._moments.append(
            Moment(
                at_s=now_s,
                waiting=queue.queued + queue.ready,
                running=queue.running,
                per_s=self._speed(),
            )
        )
        while self._moments[0].at_s < now_s - HISTORY_S:
            self._moments.popleft()

    def _speed(self) -> float:
        """Documents ended a second over the last seconds; 0 until there are two looks."""
        (since_s, before), (now_s, ended) = self._looks[0], self._looks[-1]
        return max(0.0, ended - before) / (now_s - since_s) if now_s > since_s else 0.0

    @property
    def newest(self) -> Moment:
        """The last look."""
        return self._moments[-1]

    def cells(self, width: int) -> tuple[list[Moment], float]:
        """At most so many moments, each the last one of its cell, and how long a cell is.

        All cells are equally long, as short as the past lets them be; one in which nobody looked is
        as the one before.
        """
        span_s = self.newest.at_s - self._moments[0].at_s
        long_s = next((one for one in CELLS_S if one * (width - 1) >= span_s), CELLS_S[-1])
        found: list[Moment] = []
        for cell, some in groupby(self._moments, lambda one: int(one.at_s // long_s)):
            *_, last = some
            if found:
                found += [found[-1]] * (cell - int(found[-1].at_s // long_s) - 1)
            found.append(last)
        return found[-width:], long_s


def past_moments(now_us: int) -> Moments:
    """Of the last hour, those that the ledger is asked about."""
    step_us = STEP_S * 1_000_000
    count = HISTORY_S // STEP_S
    return Moments(first_us=now_us - count * step_us, step_us=step_us, count=count)
