"""What `runner eval` prints with `--json`."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Self

from runner.cli.shapes.base import Shape, in_usd
from runner.evalreport import Report, Side
from runner.evals.scoring import Tally
from runner.evals.silent import WrongKind
from runner.evals.statistics import Interval
from runner.evals.verdicts import Difference


class IntervalShape(Shape):
    """An estimate with its 95 % interval."""

    estimate: float | None
    low: float
    high: float

    @classmethod
    def of(cls, found: Interval) -> Self:
        """The interval as it was computed."""
        return cls(estimate=found.estimate, low=found.low, high=found.high)


class TallyShape(Shape):
    """Outcomes of one field, or of all; a rate of nothing is null."""

    match: int
    wrong: int
    missed: int
    invented: int
    absent: int
    precision: float | None
    recall: float | None
    f1: float | None
    accuracy: float | None
    invented_rate: float | None

    @classmethod
    def of(cls, found: Tally) -> Self:
        """The outcomes as they were counted."""
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class WrongShape(Shape):
    """Wrong values, by what the document has of them."""

    not_in_document: int
    elsewhere: int
    judged: int
    missed: int

    @classmethod
    def of(cls, found: Mapping[WrongKind, int]) -> Self:
        """The wrong values of one state."""
        return cls(**{kind.value: found.get(kind, 0) for kind in WrongKind})


class EvalSideShape(Shape):
    """How one version fared over all repeats."""

    prompt: str
    prompt_id: str
    models: tuple[str, ...]
    batches: tuple[str, ...]
    documents: int
    answers: int
    answered: int
    states: Mapping[str, int]
    exact: IntervalShape
    exact_by_repeat: tuple[float | None, ...]
    total: TallyShape
    fields: Mapping[str, TallyShape]
    wrong_in_done: WrongShape
    wrong_in_review: WrongShape
    calls: int
    cost_usd: Decimal | None
    latency_s_p50: float | None
    latency_s_p95: float | None

    @classmethod
    def of(cls, side: Side) -> Self:
        """One side of an evaluation."""
        together = side.scores.together
        return cls(
            prompt=side.pinned.prompt.version,
            prompt_id=side.pinned.prompt_id,
            models=side.pinned.models,
            batches=tuple(batch.name for batch in side.batches),
            documents=together.documents,
            answers=together.answers,
            answered=together.answered,
            states=side.states,
            exact=IntervalShape.of(together.exact),
            exact_by_repeat=tuple(one.exact.estimate for one in side.scores.repeats.values()),
            total=TallyShape.of(together.total),
            fields={name: TallyShape.of(one) for name, one in together.fields.items()},
            wrong_in_done=WrongShape.of(side.wrong.done),
            wrong_in_review=WrongShape.of(side.wrong.review),
            calls=side.calls,
            cost_usd=in_usd(side.cost_nusd),
            latency_s_p50=side.latency_s(0.5),
            latency_s_p95=side.latency_s(0.95),
        )


class DifferenceShape(Shape):
    """One measure of both versions; `gain` is below 0 when the candidate is worse."""

    measure: str
    candidate: float
    baseline: float
    gain: float
    low: float
    high: float
    p: float
    margin: float

    @classmethod
    def of(cls, found: Difference) -> Self:
        """The difference as it was computed."""
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class EvalShape(Shape):
    """`eval`: the verdict, and what it rests on."""

    run: str
    job: str
    gold_digest: str
    repeats: int
    simulated: bool
    verdict: str
    reason: str
    smallest_difference: float | None  # of documents exact, that such a set can be hoped to show
    candidate: EvalSideShape
    baseline: EvalSideShape | None
    differences: tuple[DifferenceShape, ...]
    dearest_document_usd: Decimal | None
    dearest_call_usd: Decimal | None

    @classmethod
    def of(cls, report: Report) -> Self:
        """An evaluation that has ended."""
        return cls(
            run=report.id,
            job=report.evaluation.asked.job,
            gold_digest=report.evaluation.gold,
            repeats=report.evaluation.asked.repeats,
            simulated=report.evaluation.asked.simulate,
            verdict=report.judgement.verdict.value,
            reason=report.judgement.reason,
            smallest_difference=report.judgement.smallest_difference,
            candidate=EvalSideShape.of(report.candidate),
            baseline=None if report.baseline is None else EvalSideShape.of(report.baseline),
            differences=tuple(DifferenceShape.of(one) for one in report.judgement.differences),
            dearest_document_usd=in_usd(report.dearest.document_nusd),
            dearest_call_usd=in_usd(report.dearest.call_nusd),
        )
