"""What came of an evaluation: compared with the gold, judged, and written down."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from runner.evals.comparing import Compared, compared
from runner.evals.scoring import Answer, Scores, by_document, scores
from runner.evals.silent import WrongValues, wrong_values
from runner.evals.verdicts import Floor, Judgement, judge
from runner.evaluation import Evaluation, Trial
from runner.fields import spec_of
from runner.gold import GoldCase
from runner.ledger import Ledger, blobs
from runner.ledger.evaluations import CaseRow, Dearest, RunRow, dearest, texts_of, write_run
from runner.ledger.results import Result, results
from runner.ledger.submission import Batch
from runner.model import DocumentState
from runner.pinned import Pinned

_WITH_RECORD = (DocumentState.DONE, DocumentState.REVIEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one gold document in one trial."""

    case: GoldCase
    repeat: int
    result: Result
    text: str
    leaves: tuple[Compared, ...]

    @property
    def has_record(self) -> bool:
        """Whether it gave data, to be used or to be reviewed."""
        return self.result.state in _WITH_RECORD and self.result.data is not None

    @property
    def answer(self) -> Answer:
        """The same for scoring."""
        return Answer(
            case_id=self.case.id,
            repeat=self.repeat,
            answered=self.has_record,
            fields=self.leaves,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one version fared in all its repeats."""

    pinned: Pinned
    batches: tuple[Batch, ...]
    cases: tuple[CaseResult, ...]
    scores: Scores
    wrong: WrongValues
    states: Mapping[str, int]
    cost_nusd: int | None
    calls: int
    latencies_us: tuple[int, ...]  # of documents with a record, sorted

    def latency_s(self, quantile: float) -> float | None:
        """How long that share of the documents took at most, from submission to record."""
        if not self.latencies_us:
            return None
        return self.latencies_us[ceil(quantile * len(self.latencies_us)) - 1] / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An evaluation that has ended."""

    id: str
    evaluation: Evaluation
    candidate: Side
    baseline: Side | None
    judgement: Judgement
    dearest: Dearest
    created_us: int


def conclude(
    ledger: Ledger,
    evaluation: Evaluation,
    batches: Mapping[str, Batch],
    *,
    run_id: str,
    floor: Floor,
) -> Report:
    """Compare what became of the trials, judge it, and write it down.

    `batches` are those of the trials by name; all have ended.
    """
    candidate = _side(ledger, evaluation, evaluation.candidate, batches)
    baseline = (
        _side(ledger, evaluation, evaluation.baseline, batches) if evaluation.baseline else None
    )
    judgement = judge(
        by_document(one.answer for one in candidate.cases),
        None if baseline is None else by_document(one.answer for one in baseline.cases),
        floor=floor,
    )
    with ledger.snapshot() as connection:
        most = dearest(connection, [one.id for one in candidate.batches])
    report = Report(
        id=run_id,
        evaluation=evaluation,
        candidate=candidate,
        baseline=baseline,
        judgement=judgement,
        dearest=most,
        created_us=ledger.clock.us(),
    )
    with ledger.transaction() as connection:
        write_run(connection, _run_row(report), _case_rows(report))
    return report


def _side(
    ledger: Ledger,
    evaluation: Evaluation,
    trials: Sequence[Trial],
    batches: Mapping[str, Batch],
) -> Side:
    found = tuple(batches[one.plan.name] for one in trials)
    cases = tuple(
        case
        for trial, batch in zip(trials, found, strict=True)
        for case in _case_results(ledger, evaluation, trial, batch)
    )
    spec = spec_of(trials[0].pinned.job.schema)
    known = [one.result.cost_nusd for one in cases]
    return Side(
        pinned=trials[0].pinned,
        batches=found,
        cases=cases,
        scores=scores([one.answer for one in cases]),
        wrong=wrong_values(spec, ((one.result.state, one.leaves, one.text) for one in cases)),
        states=_counted(one.result.state for one in cases),
        cost_nusd=sum(one or 0 for one in known) if None not in known else None,
        calls=sum(one.result.calls for one in cases),
        latencies_us=tuple(
            sorted(one.result.latency_us for one in cases if one.result.latency_us is not None)
        ),
    )


def _counted(states: Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys((state.value for state in DocumentState), 0)
    for state in states:
        counts[state] += 1
    return {state: count for state, count in counts.items() if count}


def _case_results(
    ledger: Ledger, evaluation: Evaluation, trial: Trial, batch: Batch
) -> Iterator[CaseResult]:
    spec = spec_of(trial.pinned.job.schema)
    with ledger.snapshot() as connection:
        by_case = {one.source: one for one in results(connection, batch.id)}
        digests = texts_of(connection, {one.document_id for one in by_case.values()})
        texts = blobs.fetch(connection, digests.values())
    for case in evaluation.cases:
        result = by_case[case.id]
        with_record = result.state in _WITH_RECORD
        yield CaseResult(
            case=case,
            repeat=trial.repeat,
            result=result,
            text=texts.get(digests.get(result.document_id, b""), b"").decode(),
            leaves=compared(
                spec, expected=dict(case.expected), got=result.data if with_record else None
            ),
        )


def _run_row(report: Report) -> RunRow:
    pinned = report.candidate.pinned
    return RunRow(
        id=report.id,
        job=pinned.name,
        prompt_version=pinned.prompt.version,
        prompt_id=pinned.prompt_id,
        models=pinned.models,
        gold_digest=report.evaluation.gold,
        against_prompt_id=None if report.baseline is None else report.baseline.pinned.prompt_id,
        verdict=report.judgement.verdict.value,
        summary={
            "reason": report.judgement.reason,
            "documents": report.judgement.documents,
            "repeats": report.evaluation.asked.repeats,
            "against": None if report.baseline is None else report.baseline.pinned.prompt.version,
            "simulated": report.evaluation.asked.simulate,
            "night": report.evaluation.asked.night,
            "exact": report.candidate.scores.together.exact.estimate,
            "accuracy": report.candidate.scores.together.total.accuracy,
            "f1": report.candidate.scores.together.total.f1,
            "invented_rate": report.candidate.scores.together.total.invented_rate,
            "silent": report.candidate.wrong.silent,
            "cost_nusd": report.candidate.cost_nusd,
        },
        dearest=report.dearest,
        created_us=report.created_us,
    )


def _case_rows(report: Report) -> Iterator[CaseRow]:
    for side in (report.candidate, report.baseline):
        for one in side.cases if side is not None else ():
            assert side is not None
            yield CaseRow(
                prompt_id=side.pinned.prompt_id,
                case_id=one.case.id,
                repeat=one.repeat,
                document_id=one.result.document_id,
                state=one.result.state,
                leaves=[
                    (leaf.field, leaf.place, leaf.outcome.value, leaf.expected, leaf.got)
                    for leaf in one.leaves
                ],
                cost_nusd=one.result.cost_nusd,
                latency_us=one.result.latency_us,
            )
