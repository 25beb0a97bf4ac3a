"""What something costs beside something else: ratios of turns on and off, on a machine with noise.

Two turns with it stand between two without (off, on, on, off), so that what drifts harms neither;
such a round gives one ratio. The answer is the median of all of them, with the interval that holds
it with 95 % whatever the noise is like: it rests on the ratios' order alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Self

CONFIDENCE = 0.95
ORDER = (False, True, True, False)


@dataclass(frozen=True, slots=True)
class Paired:
    """The median of paired ratios and the ends of its interval; none below six rounds."""

    rounds: int
    ratio: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Self:
        """Of at least one ratio."""
        ordered = sorted(ratios)
        left_out = _left_out(len(ordered))
        if left_out is None:
            return cls(len(ordered), median(ordered), None, None)
        return cls(
            len(ordered), median(ordered), ordered[left_out], ordered[len(ordered) - 1 - left_out]
        )

    def __str__(self) -> str:
        interval = (
            "too few for an interval"
            if self.low is None
            else f"95 % interval {self.low:.3f} to {self.high:.3f}"
        )
        return f"{self.ratio:.3f} ({interval}, {self.rounds} rounds)"


def _left_out(rounds: int) -> int | None:
    """How many ratios at each end lie outside: a sign test's bound; None when even none is."""
    missed, left_out = 0.0, None
    for place in range(rounds // 2):
        missed += 2 * comb(rounds, place) / 2**rounds
        if missed > 1 - CONFIDENCE:
            break
        left_out = place
    return left_out
