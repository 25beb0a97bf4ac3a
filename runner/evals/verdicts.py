"""Judges a prompt by its evaluation: against a baseline on the same documents, or by itself.

Three measures, each a mean over documents: field accuracy, documents exact, and the share of empty
places that were given a value. BLOCK needs three things of one measure at once: a loss beyond its
margin, a 95 % interval wholly on the wrong side, and an exact test at p < 0.0005, of which half
lies on that side. So a prompt that changes nothing is blocked at most once in 1,300 evaluations,
whatever the noise and the number of documents; simulated on 50 documents (each of 10 fields wrong
by a chance of 1 to 5 %, alike or unlike documents, 2 % of them dead, 1 or 3 repeats) in 3 of
20,000. Where the chance rose from 2 to 10 %, 95 of 100 evaluations of one repeat blocked; to 15 %,
all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum
from statistics import fmean

from .scoring import DocumentScore
from .statistics import (
    Interval,
    clopper_pearson,
    mcnemar,
    paired_bootstrap,
    sign_flips,
    smallest_difference,
)

BLOCK_P = 0.0005
FEWER_P = 0.05
DOCUMENTS_MIN = 10  # of fewer, a bootstrap interval means nothing


class Verdict(StrEnum):
    """What an evaluation says of a candidate."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    BLOCK = "block"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """What a candidate may lose of each measure; shares of 0 to 1."""

    accuracy: float = 0.02
    exact: float = 0.02
    invented: float = 0.05  # empty places are few, so their share varies more


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What a first version must reach, as the job's owner says; shares of 0 to 1."""

    accuracy: float | None = None
    exact: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One measure of candidate and baseline; `gain` is less than 0 when the candidate is worse.

    That holds for invented values too, of which fewer are better. `low` and `high` are the 95 %
    interval of the gain, and `p` is that of no difference.
    """

    measure: str
    candidate: float
    baseline: float
    gain: float
    low: float
    high: float
    p: float
    margin: float

    @property
    def is_lost(self) -> bool:
        """Whether the candidate is worse: by more than the margin, and surely."""
        return self.gain < -self.margin and self.high < 0 and self.p < BLOCK_P


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One measure of a candidate without a baseline, its 95 % interval, and what it must reach."""

    measure: str
    candidate: float
    low: float
    high: float
    floor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, why in one sentence, and the numbers behind it.

    `smallest_difference` is that of documents exact which so many documents can be hoped to show;
    None without a baseline, or when they can show none.
    """

    verdict: Verdict
    reason: str
    documents: int
    differences: tuple[Difference, ...] = ()
    levels: tuple[Level, ...] = ()
    smallest_difference: float | None = None


def judge(
    candidate: Mapping[str, DocumentScore],
    baseline: Mapping[str, DocumentScore] | None,
    *,
    margins: Margins | None = None,
    floor: Floor | None = None,
    seed: int = 0,
) -> Judgement:
    """Judge a candidate by its documents, as `scoring.by_document` gives them.

    With a baseline: BLOCK as above. PASS when the intervals of field accuracy and of invented
    values lie above a loss of their margins, and documents exact are not fewer at p < 0.05. Else
    INCONCLUSIVE, as are fewer than 10 documents. Raises ValueError unless both were evaluated on
    the same documents.

    Without one, by the floor: PASS when the whole interval reaches it, BLOCK when all of it lies
    below, of 10 documents at least. With no floor either, PASS when any document was answered.

    The same seed gives the same judgement.
    """
    if baseline is not None and candidate.keys() != baseline.keys():
        raise ValueError("candidate and baseline were not evaluated on the same documents")
    documents = list(candidate.values())
    if not any(one.answered for one in (*documents, *(baseline or {}).values())):
        return Judgement(
            verdict=Verdict.INCONCLUSIVE,
            reason="no document was answered",
            documents=len(documents),
        )
    if baseline is None:
        return _by_itself(documents, floor or Floor(), seed=seed)
    pairs = [(document, baseline[case_id]) for case_id, document in candidate.items()]
    return _against(pairs, margins or Margins(), seed=seed)


# Against a baseline

Pairs = Sequence[tuple[DocumentScore, DocumentScore]]


def _against(pairs: Pairs, margins: Margins, *, seed: int) -> Judgement:
    gained = sum(_is_exact(one) and not _is_exact(other) for one, other in pairs)
    lost = sum(_is_exact(other) and not _is_exact(one) for one, other in pairs)
    accuracy = _difference(
        "field accuracy",
        [(one.accuracy, other.accuracy) for one, other in pairs],
        margin=margins.accuracy,
        seed=seed,
    )
    exact = _difference(
        "documents exact",
        [(one.exact, other.exact) for one, other in pairs],
        margin=margins.exact,
        seed=seed,
        p=mcnemar(gained, lost),
    )
    invented = _difference(
        "invented values",
        [(one.invented, other.invented) for one, other in pairs],
        margin=margins.invented,
        seed=seed,
        fewer_is_better=True,
    )
    verdict, reason = _weighed(accuracy, exact, invented, documents=len(pairs))
    return Judgement(
        verdict=verdict,
        reason=reason,
        documents=len(pairs),
        differences=(accuracy, exact, invented),
        smallest_difference=smallest_difference(
            len(pairs), discordance=(gained + lost) / len(pairs)
        ),
    )


def _is_exact(score: DocumentScore) -> bool:
    """Whether most repeats of a document are exact."""
    return score.exact > 0.5  # noqa: PLR2004 - most


def _difference(
    measure: str,
    pairs: Sequence[tuple[float, float]],
    *,
    margin: float,
    seed: int,
    p: float | None = None,
    fewer_is_better: bool = False,
) -> Difference:
    sign = -1 if fewer_is_better else 1
    gains = [sign * (one - other) for one, other in pairs]
    interval = paired_bootstrap(gains, seed=seed)
    return Difference(
        measure=measure,
        candidate=fmean(one for one, _ in pairs),
        baseline=fmean(other for _, other in pairs),
        gain=fmean(gains),
        low=interval.low,
        high=interval.high,
        p=sign_flips(gains, seed=seed) if p is None else p,
        margin=margin,
    )


def _weighed(
    accuracy: Difference, exact: Difference, invented: Difference, *, documents: int
) -> tuple[Verdict, str]:
    for one in (accuracy, exact, invented):
        if one.is_lost:
            worse = f"{one.measure} went from {one.baseline:.1%} to {one.candidate:.1%}"
            return Verdict.BLOCK, f"{worse}, which is no chance (p < {BLOCK_P})"
    if documents < DOCUMENTS_MIN:
        few = f"{documents} documents are too few to compare with a baseline"
        return Verdict.INCONCLUSIVE, f"{few}: at least {DOCUMENTS_MIN} are needed"
    if exact.gain < 0 and exact.p < FEWER_P:
        fewer = f"{exact.measure} went from {exact.baseline:.1%} to {exact.candidate:.1%}"
        return Verdict.INCONCLUSIVE, f"{fewer}, which may or may not be chance (p {exact.p:.3f})"
    for one in (accuracy, invented):
        if one.low <= -one.margin:
            doubt = f"{one.measure} may be {_points(-one.low)} worse, and {_points(one.margin)}"
            return Verdict.INCONCLUSIVE, f"{doubt} are allowed: {documents} documents cannot tell"
    worst = f"at most {_points(-accuracy.low)} worse" if accuracy.low < 0 else "no worse"
    return Verdict.PASS, f"field accuracy is {worst}, and {_points(accuracy.margin)} are allowed"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


# By itself


def _by_itself(documents: Sequence[DocumentScore], floor: Floor, *, seed: int) -> Judgement:
    levels = tuple(_levels(documents, floor, seed=seed))
    verdict, reason = _reached(levels, documents=len(documents))
    return Judgement(verdict=verdict, reason=reason, documents=len(documents), levels=levels)


def _levels(documents: Sequence[DocumentScore], floor: Floor, *, seed: int) -> Iterator[Level]:
    if floor.accuracy is not None:
        accuracies = [document.accuracy for document in documents]
        found = paired_bootstrap(accuracies, seed=seed)
        yield _level("field accuracy", fmean(accuracies), found, floor=floor.accuracy)
    if floor.exact is not None:
        exact = fsum(document.exact for document in documents)
        found = clopper_pearson(exact, len(documents))
        yield _level("documents exact", exact / len(documents), found, floor=floor.exact)


def _level(measure: str, candidate: float, found: Interval, *, floor: float) -> Level:
    return Level(measure=measure, candidate=candidate, low=found.low, high=found.high, floor=floor)


def _reached(levels: Sequence[Level], *, documents: int) -> tuple[Verdict, str]:
    if not levels:
        return Verdict.PASS, "no baseline and no floor: nothing to compare with"
    if documents < DOCUMENTS_MIN:
        few = f"no baseline, and {documents} documents are too few to compare with a floor"
        return Verdict.INCONCLUSIVE, f"{few}: at least {DOCUMENTS_MIN} are needed"
    below = [one for one in levels if one.high < one.floor]
    unsure = [one for one in levels if one.low < one.floor]
    verdict = Verdict.BLOCK if below else Verdict.INCONCLUSIVE if unsure else Verdict.PASS
    return verdict, "no baseline; " + "; ".join(map(_told, below or unsure or levels))


def _told(level: Level) -> str:
    interval = f"{level.low:.1%} to {level.high:.1%}"
    return f"{level.measure} is {level.candidate:.1%} ({interval}), the floor {level.floor:.1%}"
