"""Counts how extractions fared: by field, by document, by repeat, and all together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from .comparing import Compared
from .statistics import Interval, clopper_pearson


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one run made of one gold document; `answered` when it has a record."""

    case_id: str
    repeat: int = 0
    answered: bool = True
    fields: tuple[Compared, ...]

    @property
    def is_exact(self) -> bool:
        """Whether it is a record that is right in every field."""
        return self.answered and all(leaf.is_right for leaf in self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often each outcome was seen. A rate of nothing is None."""

    match: int = 0
    wrong: int = 0
    missed: int = 0
    invented: int = 0
    absent: int = 0

    @property
    def precision(self) -> float | None:
        """Of the values given, the share that is right."""
        return _share(self.match, self.match + self.wrong + self.invented)

    @property
    def recall(self) -> float | None:
        """Of the values expected, the share that was given rightly."""
        return _share(self.match, self.match + self.wrong + self.missed)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; a wrong value counts against both."""
        errors = 2 * self.wrong + self.missed + self.invented
        return _share(2 * self.match, 2 * self.match + errors)

    @property
    def accuracy(self) -> float | None:
        """Of the values expected or given, the share that is right.

        What is rightly left out is no merit: a document of many empty fields would else be good
        without an answer.
        """
        return _share(self.match, self.match + self.wrong + self.missed + self.invented)

    @property
    def invented_rate(self) -> float | None:
        """Of the places where no value was expected, the share that was given one."""
        return _share(self.invented, self.invented + self.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How some answers fared. `exact` is the share of them that is right in every field.

    Repeats of one document are not independent, so the interval counts documents, each with the
    share of its repeats that is exact.
    """

    documents: int
    answers: int
    answered: int
    exact: Interval
    total: Tally
    fields: Mapping[str, Tally]  # by generic field, in the order of the schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The score of all answers together, and of each repeat."""

    together: Score
    repeats: Mapping[int, Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentScore:
    """How one document fared in the mean of its repeats; every number is of 0 to 1."""

    case_id: str
    repeats: int
    answered: float
    exact: float
    accuracy: float
    invented: float  # 0 where there was no place to leave empty


def scores(answers: Sequence[Answer]) -> Scores:
    """Score all answers, together and by repeat."""
    repeats: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        repeats[answer.repeat].append(answer)
    return Scores(
        together=score(answers),
        repeats={repeat: score(repeats[repeat]) for repeat in sorted(repeats)},
    )


def score(answers: Sequence[Answer]) -> Score:
    """Score these answers."""
    documents = by_document(answers)
    fields: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        for leaf in answer.fields:
            fields[leaf.field][leaf.outcome.value] += 1
    return Score(
        documents=len(documents),
        answers=len(answers),
        answered=sum(answer.answered for answer in answers),
        exact=clopper_pearson(fsum(one.exact for one in documents.values()), len(documents)),
        total=Tally(**sum(fields.values(), Counter())),
        fields={field: Tally(**counts) for field, counts in fields.items()},
    )


def tally(fields: Iterable[Compared]) -> Tally:
    """Count the outcomes of these leaves."""
    return Tally(**Counter(leaf.outcome.value for leaf in fields))


def by_document(answers: Iterable[Answer]) -> dict[str, DocumentScore]:
    """How each document fared, in the order in which they first come."""
    runs: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        runs[answer.case_id].append(answer)
    return {case_id: _document(case_id, found) for case_id, found in runs.items()}


def _document(case_id: str, runs: Sequence[Answer]) -> DocumentScore:
    tallies = [tally(run.fields) for run in runs]
    # nothing to extract, and nothing extracted, is right, if it was a record that said so
    accuracies = [
        float(run.answered) if one.accuracy is None else one.accuracy
        for run, one in zip(runs, tallies, strict=True)
    ]
    return DocumentScore(
        case_id=case_id,
        repeats=len(runs),
        answered=sum(run.answered for run in runs) / len(runs),
        exact=sum(run.is_exact for run in runs) / len(runs),
        accuracy=fsum(accuracies) / len(runs),
        invented=fsum(one.invented_rate or 0.0 for one in tallies) / len(runs),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
