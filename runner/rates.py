"""The rates by which quality is watched: which share of what, read from the counts of tallies."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from runner.ledger.tallies import FAULT, NULL, Count
from runner.model import Fault


class Measure(StrEnum):
    """A rate of answers, or of documents that ended. Fields add `null:NAME`, of records read."""

    INVALID = "invalid"  # answers that were no JSON, or not valid by the schema
    REASKED = "reasked"
    NOT_GROUNDED = "not_grounded"
    CHECK_FAILED = "check_failed"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    REVIEW = "review"  # documents that ended before a person
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many."""

    part: int
    whole: int

    @property
    def share(self) -> float | None:
        """The rate of 0 to 1; None of nothing."""
        return self.part / self.whole if self.whole else None


Counts = Mapping[str, int]


def ended(counts: Counts) -> int:
    """Documents that came to an end of their own."""
    return sum(counts.get(one, 0) for one in (Count.DONE, Count.REVIEW, Count.DEAD))


def _answers(counts: Counts) -> int:
    return counts.get(Count.ANSWERS, 0)


def _faults(*faults: Fault) -> Callable[[Counts], int]:
    return lambda counts: sum(counts.get(FAULT + fault.value, 0) for fault in faults)


def _count(name: Count) -> Callable[[Counts], int]:
    return lambda counts: counts.get(name, 0)


_MEASURES: Mapping[Measure, tuple[Callable[[Counts], int], Callable[[Counts], int]]] = {
    Measure.INVALID: (_faults(Fault.INVALID_JSON, Fault.SCHEMA_INVALID), _answers),
    Measure.REASKED: (_count(Count.REASKED), _answers),
    Measure.NOT_GROUNDED: (_faults(Fault.NOT_GROUNDED), _answers),
    Measure.CHECK_FAILED: (_faults(Fault.CHECK_FAILED), _answers),
    Measure.REFUSED: (_faults(Fault.REFUSED, Fault.FILTERED), _answers),
    Measure.TRUNCATED: (_faults(Fault.TRUNCATED), _answers),
    Measure.REVIEW: (_count(Count.REVIEW), ended),
    Measure.DEAD: (_count(Count.DEAD), ended),
}


def rate_of(counts: Counts, measure: str) -> Rate:
    """One rate, by a member of `Measure` or by `null:NAME`."""
    if measure.startswith(NULL):
        return Rate(counts.get(measure, 0), counts.get(Count.SAMPLED, 0))
    part, whole = _MEASURES[Measure(measure)]
    return Rate(part(counts), whole(counts))


def measures_of(counts: Counts) -> Iterator[str]:
    """Every rate that such counts have, those of fields last."""
    yield from Measure
    yield from sorted(name for name in counts if name.startswith(NULL))
