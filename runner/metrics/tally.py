"""Calls, tokens, money and times added up from the ledger, caught up at each look.

Nothing is counted in workers: the ledger's attempts are the only book. Each is counted once, when
it has ended, so every sum only grows, whoever looks and however often; a second reader of the same
ledger has the same sums.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from runner.keys import first_id
from runner.ledger.metering import (
    UNENDED,
    attempt_count,
    attempts_after,
    attempts_of,
    simulated_batches,
)
from runner.model import AttemptState

GOOD = "good"  # the outcome of a call that gave a record
STEPS = ("queue_wait", "limiter_wait", "response", "parse", "total")
TOKENS = ("input", "cached", "cache_write", "output", "reasoning")
BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0),
)
_BOUNDS_US = [round(bound * 1e6) for bound in BUCKETS_S]
# Ids are given out a little before their rows are committed, by clocks that hardly differ. What
# comes later still is found by the count of all rows.
LATE_US = 10_000_000


@dataclass(slots=True)
class Times:
    """How long one step took, by bucket; the last one has no bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_us: int = 0

    def add(self, took_us: int) -> None:
        """Count one time."""
        self.counts[bisect_left(_BOUNDS_US, took_us)] += 1
        self.sum_us += took_us


@dataclass(slots=True)
class Tally:
    """Sums over all attempts that have ended.

    Keys begin with the model, and end with whether the batch is simulated.
    """

    calls: Counter[tuple[str, str, bool]] = field(default_factory=Counter)  # by outcome
    unsent: Counter[tuple[str, bool]] = field(default_factory=Counter)  # surely never left
    tokens: Counter[tuple[str, str, bool]] = field(default_factory=Counter)  # by kind
    settled_nusd: Counter[tuple[str, bool]] = field(default_factory=Counter)
    ambiguous_nusd: Counter[tuple[str, bool]] = field(default_factory=Counter)
    times: dict[str, Times] = field(default_factory=lambda: {step: Times() for step in STEPS})
    _rows: int = 0
    _newest_us: int = 0
    _recent: set[str] = field(default_factory=set)  # ids that may be read a second time
    _open: set[str] = field(default_factory=set)  # attempts that had not ended
    _simulated: frozenset[str] = frozenset()

    def catch_up(self, connection: Connection) -> bool:
        """Count what has ended since the last time.

        False, and the sums are of no use, when rows came where nobody looks any more, as after a
        clock was set back: a new tally counts everything.
        """
        self._simulated = simulated_batches(connection)
        unended, self._open = self._open, set()
        self._count(attempts_of(connection, unended))
        floor = first_id("a", at_us=self._newest_us - LATE_US) if self._rows else ""
        self._recent = {one for one in self._recent if one > floor}
        self._count(self._new(attempts_after(connection, floor)))
        return self._rows == attempt_count(connection)

    def _new(self, rows: Iterable[Any]) -> Iterable[Any]:
        before = frozenset(self._recent)
        for row in rows:
            if row.id not in before:
                self._rows += 1
                self._newest_us = max(self._newest_us, row.created_us)
                self._recent.add(row.id)
                yield row

    def _count(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if row.state in UNENDED:
                self._open.add(row.id)
            else:
                self._add(row)

    def _add(self, row: Any) -> None:
        whose = row.model, row.batch_id in self._simulated
        self.settled_nusd[whose] += row.cost_nusd or 0
        self.ambiguous_nusd[whose] += row.ambiguous_nusd
        if row.state == AttemptState.NOT_SENT:
            self.unsent[whose] += 1
            return
        model, simulated = whose
        self.calls[model, row.fault or GOOD, simulated] += 1
        for kind in TOKENS:
            self.tokens[model, kind, simulated] += getattr(row, f"{kind}_tokens") or 0
        for step, times in self.times.items():
            if (took_us := getattr(row, f"{step}_us")) is not None:
                times.add(took_us)


def caught_up(tally: Tally, connection: Connection) -> Tally:
    """This tally with what has ended since, or a new one where it cannot catch up."""
    if tally.catch_up(connection):
        return tally
    anew = Tally()
    anew.catch_up(connection)
    return anew
