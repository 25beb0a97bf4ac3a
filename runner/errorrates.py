"""The error rate of records, honestly: from what people judged, with its interval, or not at all.

Flagged records are reviewed nearly all, the others by a sample that was drawn at random, so each
kind counts by how many of it there are and not by how many of it were seen. A record is wrong when
a person corrected or rejected it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.evals.statistics import Interval, error_rate
from runner.evals.statistics import Stratum as Counted
from runner.ledger.strata import BatchStrata
from runner.model import Stratum

REVIEWS_MIN = 30  # with fewer, and none wrong, one record in ten may be wrong all the same
NEVER_DRAWN = 0.01  # a batch so unlikely to have no record in the sample was not sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumRate:
    """Records of one kind, and their error rate where enough of them were judged."""

    records: int
    reviewed: int
    wrong: int
    rate: Interval | None

    @property
    def missing(self) -> int:
        """How many more reviews it takes until something can be said."""
        return max(0, min(REVIEWS_MIN, self.records) - self.reviewed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRate:
    """What the reviews say of a batch's or a job's records as the runner made them."""

    flagged: StratumRate
    sampled: StratumRate
    waiting: int  # drawn for an audit and not judged yet
    overall: Interval | None
    left_out: tuple[str, ...]  # batches of which no record was drawn

    @property
    def records(self) -> int:
        """All records that this is about."""
        return self.flagged.records + self.sampled.records


def error_rates(batches: Sequence[BatchStrata]) -> ErrorRate:
    """The error rate of these batches together, drawn at one share as far as can be seen.

    A batch that had no part in the sample is left out: of its records nothing is known.
    """
    left_out = [one.name for one in _never_drawn(batches)]
    meant = [one for one in batches if one.name not in left_out]
    flagged, sampled = _rate(meant, Stratum.FLAGGED), _rate(meant, Stratum.SAMPLED)
    enough = not flagged.missing and not sampled.missing and flagged.records + sampled.records > 0
    return ErrorRate(
        flagged=flagged,
        sampled=sampled,
        waiting=sum(one.waiting for one in meant),
        overall=error_rate([_counted(flagged), _counted(sampled)]) if enough else None,
        left_out=tuple(left_out),
    )


def _never_drawn(batches: Sequence[BatchStrata]) -> list[BatchStrata]:
    drawn_from = [one for one in batches if one.drawn]
    records = sum(one.records[Stratum.SAMPLED] for one in drawn_from)
    share = sum(one.drawn for one in drawn_from) / records if records else 0.0
    return [
        one
        for one in batches
        if not one.drawn and (1 - share) ** one.records[Stratum.SAMPLED] < NEVER_DRAWN
    ]


def _rate(batches: Sequence[BatchStrata], stratum: Stratum) -> StratumRate:
    found = StratumRate(
        records=sum(one.records[stratum] for one in batches),
        reviewed=sum(one.reviewed[stratum] for one in batches),
        wrong=sum(one.wrong[stratum] for one in batches),
        rate=None,
    )
    if found.missing or not found.records:
        return found
    return replace(found, rate=error_rate([_counted(found)]))


def _counted(found: StratumRate) -> Counted:
    return Counted(name="", size=found.records, reviewed=found.reviewed, wrong=found.wrong)
