"""Concludes an evaluation of the night: against the nights before, and as an alert where it fell.

The nights before are the baseline, as repeats of one version: so a model that its provider changes
unannounced is found by the same test that blocks a worse prompt.
"""

from collections.abc import Iterable, Iterator

from runner.evals.comparing import Compared, FieldOutcome
from runner.evals.scoring import Answer, by_document
from runner.evals.verdicts import Judgement, Verdict, judge
from runner.keys import alert_key
from runner.ledger import Ledger
from runner.ledger.evaluations import CaseRow
from runner.ledger.nights import Night, NightRun, end_night, find_night
from runner.ledger.raising import NIGHTLY_FALL, Raised, raise_alert
from runner.model import DocumentState

NIGHTS_MAX = 7  # before this one
_WITH_RECORD = (DocumentState.DONE, DocumentState.REVIEW)


def conclude_night(ledger: Ledger, night: Night) -> bool:
    """End a night that has its evaluation, with an alert where that is bad; False without one.

    Doing it again changes nothing.
    """
    with ledger.snapshot() as connection:
        run = find_night(connection, night, before_max=NIGHTS_MAX)
    if run is None:
        return False
    raised = fall_of(night, run, against_before(run))
    now_us = ledger.clock.us()
    with ledger.transaction() as connection:
        if end_night(connection, night, now_us=now_us) and raised is not None:
            raise_alert(connection, raised, now_us=now_us)
    return True


def against_before(run: NightRun) -> Judgement | None:
    """This night judged by the ones before it; None where there are none to compare with."""
    if not run.before:
        return None
    before = [
        answer for number, cases in enumerate(run.before) for answer in _answers(cases, number)
    ]
    return judge(by_document(_answers(run.cases, 0)), by_document(before))


def _answers(cases: Iterable[CaseRow], repeat: int) -> Iterator[Answer]:
    for one in cases:
        yield Answer(
            case_id=one.case_id,
            repeat=repeat,
            answered=one.state in _WITH_RECORD,
            fields=tuple(
                Compared(
                    field=field,
                    place=place,
                    outcome=FieldOutcome(outcome),
                    expected=expected,
                    got=got,
                )
                for field, place, outcome, expected, got in one.leaves
            ),
        )


def fall_of(night: Night, run: NightRun, judged: Judgement | None) -> Raised | None:
    """The alert of a bad night: blocked as it is, or surely worse than the ones before."""
    if run.verdict == Verdict.BLOCK:
        why = run.reason
    elif judged is not None and judged.verdict is Verdict.BLOCK:
        why = f"against the last {len(run.before)} nights, {judged.reason}"
    else:
        return None
    return Raised(
        kind=NIGHTLY_FALL,
        key=alert_key(NIGHTLY_FALL, night.job, night.night),
        scope=f"job:{night.job}",
        message=f"nightly evaluation of {night.job} {run.prompt_version} ({run.prompt_id}), "
        f"{night.night}: {why}: `runner eval {night.job} --fresh --html eval.html` shows where",
    )
