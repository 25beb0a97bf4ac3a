"""Intervals, exact tests and estimates, with the source of each formula.

Alpha is two-sided: 0.05 gives intervals of 95 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 10_000
FLIPS = 20_000
FLIPPED_ALL_MAX = 15  # up to so many differences, every pattern of signs is tried: 32,768

_CELLS_MAX = 2_000_000  # numbers drawn at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the ends of its interval; no estimate where nothing was observed."""

    estimate: float | None
    low: float
    high: float


def clopper_pearson(k: float, n: int, *, alpha: float = ALPHA) -> Interval:
    """The exact interval of a proportion of which `k` of `n` were seen; [0, 1] when n is 0.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of
    the binomial", Biometrika 26, by quantiles of the beta distribution. It covers the truth at
    least as often as it says. `k` may be a sum of n shares of 0 to 1, each of which varies less
    than a coin of its mean: the ends are then those of the whole numbers around it.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no proportion")
    if n == 0:
        return Interval(estimate=None, low=0.0, high=1.0)
    from scipy.special import betaincinv  # noqa: PLC0415 - takes 0.4 s; an evaluation needs it

    k = round(k, 9)  # a sum of thirds
    below, above = math.floor(k), math.ceil(k)
    low = 0.0 if below == 0 else float(betaincinv(below, n - below + 1, alpha / 2))
    high = 1.0 if above == n else float(betaincinv(above + 1, n - above, 1 - alpha / 2))
    return Interval(estimate=k / n, low=low, high=high)


def mcnemar(only_first: int, only_second: int) -> float:
    """The p of "both are right equally often", of the pairs of which only one is right.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, in its exact form: discordant pairs fall either way like a fair
    coin. Two-sided.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    from scipy.special import bdtr  # noqa: PLC0415 - as above

    return min(1.0, 2 * float(bdtr(fewer, n, 0.5)))


def paired_bootstrap(
    differences: Sequence[float],
    *,
    seed: int,
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of differences, one a document, with its percentile interval.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13: documents are drawn
    with replacement, so what belongs to one document stays together. The same seed gives the same
    interval. Of few documents the interval is too narrow, and of equal differences it is a point.
    """
    if not differences:
        return Interval(estimate=None, low=-math.inf, high=math.inf)
    import numpy as np  # noqa: PLC0415 - takes 0.2 s; an evaluation needs it

    values = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS_MAX // len(values))
    means = [
        values[rng.integers(len(values), size=(min(chunk, resamples - done), len(values)))].mean(
            axis=1
        )
        for done in range(0, resamples, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), [alpha / 2, 1 - alpha / 2])
    return Interval(estimate=float(values.mean()), low=float(low), high=float(high))


def sign_flips(differences: Sequence[float], *, seed: int, flips: int = FLIPS) -> float:
    """The p of "which of the two it is makes no difference", of differences, one a document.

    Fisher's randomisation test of matched pairs (Fisher 1935, "The Design of Experiments", section
    21): without an effect each difference could as well have had the other sign. Exact for any
    number of documents; up to 15 of them by all patterns, else by `flips` drawn ones, the
    observed one counted (Phipson and Smyth 2010). Of differences of 1, 0 and -1 it is McNemar's
    test. Two-sided.
    """
    moved = [difference for difference in differences if difference]
    if not moved:
        return 1.0
    import numpy as np  # noqa: PLC0415 - as above

    values = np.asarray(moved)
    extreme = abs(values.sum()) * (1 - 1e-9)
    if len(moved) <= FLIPPED_ALL_MAX:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float((np.abs((2 * patterns - 1) @ values) >= extreme).mean())
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS_MAX // len(values))
    count = 0
    for done in range(0, flips, chunk):
        patterns = rng.integers(2, size=(min(chunk, flips - done), len(values)))
        count += int((np.abs((2 * patterns - 1) @ values) >= extreme).sum())
    return (1 + count) / (1 + flips)


def smallest_difference(
    n: int, *, discordance: float, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The smallest difference of two paired proportions that n documents can be hoped to show.

    The sample size of McNemar's test, n d² = (z(1 - alpha/2) √psi + z(power) √(psi - d²))² of a
    difference d and a share psi of discordant pairs (Connor 1987, "Sample size for testing
    differences in proportions for the paired-sample design", Biometrics 43), solved for d. No
    difference comes with fewer discordant pairs than itself: where `discordance`, as observed, is
    less, all of them are taken to fall one way. None when even a difference of all could not be
    shown.
    """
    if n < 1 or not 0 <= discordance <= 1:
        raise ValueError(f"{n} documents of which {discordance} differ cannot be")
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)

    def shows(difference: float) -> bool:
        psi = max(discordance, difference)
        spread = z_alpha * math.sqrt(psi) + z_power * math.sqrt(psi - difference**2)
        return n * difference**2 >= spread**2

    if not shows(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Records of one kind: how many there are, how many were reviewed, how many of those wrong."""

    name: str
    size: int
    reviewed: int
    wrong: int

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= self.reviewed <= self.size:
            raise ValueError(
                f"stratum {self.name}: {self.wrong} wrong of {self.reviewed} reviewed of "
                f"{self.size} cannot be"
            )


def error_rate(strata: Sequence[Stratum], *, alpha: float = ALPHA) -> Interval:
    """The share of wrong records among all of the strata.

    The estimate is the stratified mean, sum of N_h/N k_h/n_h (Cochran 1977, "Sampling Techniques",
    section 5.3), of the strata with reviews: the others are taken to be like those. The interval
    makes no such guess: it is the weighted sum of Clopper-Pearson intervals, each at alpha divided
    by their number (Bonferroni), so that all hold at once; a stratum reviewed as a whole is known,
    and one without a review is anything from 0 to 1. So it is wide rather than wrong: of every
    population of up to 44 records, counted out, it held the truth at 95 % or more. It presumes that
    within a stratum what was reviewed was drawn by chance.
    """
    filled = [stratum for stratum in strata if stratum.size]
    if not filled:
        return Interval(estimate=None, low=0.0, high=1.0)
    total = sum(stratum.size for stratum in filled)
    sampled = sum(0 < stratum.reviewed < stratum.size for stratum in filled)
    ends = [_ends(stratum, alpha=alpha / max(1, sampled)) for stratum in filled]
    weights = [stratum.size / total for stratum in filled]
    return Interval(
        estimate=_stratified_mean(filled),
        low=sum(weight * low for weight, (low, _) in zip(weights, ends, strict=True)),
        high=min(1.0, sum(weight * high for weight, (_, high) in zip(weights, ends, strict=True))),
    )


def _stratified_mean(strata: Sequence[Stratum]) -> float | None:
    seen = [stratum for stratum in strata if stratum.reviewed]
    if not seen:
        return None
    wrong = math.fsum(stratum.size * stratum.wrong / stratum.reviewed for stratum in seen)
    return wrong / sum(stratum.size for stratum in seen)


def _ends(stratum: Stratum, *, alpha: float) -> tuple[float, float]:
    """The interval of one stratum, and never beyond what its reviews already prove."""
    sure = stratum.wrong / stratum.size
    possible = (stratum.size - stratum.reviewed + stratum.wrong) / stratum.size
    chance = clopper_pearson(stratum.wrong, stratum.reviewed, alpha=alpha)
    return max(sure, chance.low), min(possible, chance.high)
