"""A server and a fleet that keeps it busy, as discrete events in virtual time, for the knee."""

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count

from runner.limiter.knee import Epoch, Knee, first, is_over, next_limit

REFUSAL_S = 0.02


@dataclass
class Server:
    """`places` calls are served at once (all of them without), the others wait in line.

    A call takes `service_s` at the median, times a lognormal of `sigma`, times its document's size
    (lognormal of `size_sigma`), times 1 + `slowdown` for each other call being served. From
    `refuses_above` calls on, a call is an error at once; so is every call until `down_until_s`.
    """

    places: int | None = None
    service_s: float = 0.3
    sigma: float = 0.5
    size_sigma: float = 0.0
    slowdown: float = 0.0
    refuses_above: float = math.inf
    down_until_s: float = 0.0

    def capacity(self, serving: int) -> float:
        """How many calls it does in the time that one takes alone."""
        return serving / (1 + self.slowdown * max(0, serving - 1))

    @property
    def best(self) -> float:
        """Capacity with every place taken."""
        assert self.places is not None
        return self.capacity(self.places)


@dataclass(order=True)
class _End:
    """A call's end, in the order of time."""

    at_s: float
    number: int
    size: float = field(compare=False)
    refused: bool = field(compare=False)


class Fleet:
    """Keeps as many calls in flight as the knee allows, or `demand`, and tells it what it did."""

    def __init__(self, server: Server, *, seed: int, max_limit: int = 1_000) -> None:
        self.server = server
        self.knee = first(max_limit)
        self.demand = math.inf
        self.now_s = 0.0
        self.limits: list[tuple[float, int]] = [(0.0, self.knee.limit)]  # since when, which
        self.refused_s: list[float] = []
        self._rng = random.Random(seed)
        self._numbers = count()
        self._ends: list[_End] = []
        self._line: deque[None] = deque()
        self._serving = 0
        self._in_flight = 0
        self._served: list[tuple[float, float, float]] = []  # from, to, capacity in use
        self._begin_epoch()

    def run(self, *, seconds: float) -> None:
        """Let that much time pass."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self._fill()
            end = heapq.heappop(self._ends)
            in_use = self.server.capacity(self._serving)
            self._served.append((self.now_s, end.at_s, in_use))
            self.now_s = end.at_s
            self._end(end)
            self._judge()

    def run_services(self, services: float) -> None:
        """Let as much time pass as that many calls take, one after another."""
        self.run(seconds=services * self.server.service_s)

    def capacity_used(self, *, since_s: float) -> float:
        """Mean capacity in use: throughput without the luck of single calls."""
        used = sum(
            in_use * (to - max(at, since_s)) for at, to, in_use in self._served if to > since_s
        )
        return used / (self.now_s - since_s)

    def mean_limit(self, *, since_s: float) -> float:
        """The limit, averaged over time."""
        ends = [at for at, _ in self.limits[1:]] + [self.now_s]
        held = [
            limit * max(0.0, end - max(at, since_s))
            for (at, limit), end in zip(self.limits, ends, strict=True)
        ]
        return sum(held) / (self.now_s - since_s)

    def _fill(self) -> None:
        while self._in_flight < min(self.knee.limit, self.demand):
            self._in_flight += 1
            server = self.server
            if self._in_flight > server.refuses_above or self.now_s < server.down_until_s:
                self._push(REFUSAL_S, size=0.0, refused=True)
            elif server.places is None or self._serving < server.places:
                self._serve()
            else:
                self._line.append(None)
        self._saturated |= self._in_flight >= self.knee.limit

    def _serve(self) -> None:
        server = self.server
        size = self._rng.lognormvariate(0, server.size_sigma)
        slower = 1 + server.slowdown * self._serving
        self._serving += 1
        took_s = server.service_s * size * slower * self._rng.lognormvariate(0, server.sigma)
        self._push(took_s, size=size, refused=False)

    def _push(self, took_s: float, *, size: float, refused: bool) -> None:
        end = _End(self.now_s + took_s, next(self._numbers), size, refused)
        heapq.heappush(self._ends, end)

    def _end(self, end: _End) -> None:
        self._in_flight -= 1
        if end.refused:
            self._errors += 1
            self.refused_s.append(end.at_s)
            return
        self._serving -= 1
        self._completed += 1
        self._work += end.size
        while self._line and (self.server.places is None or self._serving < self.server.places):
            self._line.popleft()
            self._serve()

    def _begin_epoch(self) -> None:
        self._since_s = self.now_s
        self._completed = self._errors = 0
        self._work = 0.0
        self._saturated = False

    def _judge(self) -> None:
        elapsed_s = self.now_s - self._since_s
        if not is_over(
            self.knee, completed=self._completed, errors=self._errors, elapsed_s=elapsed_s
        ):
            return
        before: Knee = self.knee
        self.knee = next_limit(
            before,
            Epoch(
                limit=before.limit,
                saturated=self._saturated,
                completed=self._completed,
                work=self._work,
                duration_s=elapsed_s,
                errors=self._errors,
            ),
        )
        if self.knee.limit != before.limit:
            self.limits.append((self.now_s, self.knee.limit))
        self._begin_epoch()
