"""Runs stored raw answers through the present schema, grounding and checks: it costs nothing.

What changed is told, and applied when a person wants it: a document that is good now becomes done,
and a done one that would not pass any more waits for a person.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.completion import read_answer
from runner.evals.comparing import Compared, compared
from runner.fields import spec_of
from runner.job import Job
from runner.ledger import Ledger
from runner.ledger.revalidations import Judged, Stored, apply_judged, stored_answers
from runner.ledger.submission import Batch
from runner.model import DocumentState, Done, Failure, RawAnswer, Review
from runner.pinned import PinnedJobs
from runner.retry import signature
from runner.validate import Validated, validate

CHUNK = 500
FLAG = "revalidated"


class Verdict(StrEnum):
    """What the present code makes of a stored answer, beside what was made of it."""

    SAME = "same"
    CHANGED = "changed"  # good then and now, with other data
    NOW_GOOD = "now_good"  # dead or in review, and good by now
    NOW_BAD = "now_bad"  # done, and would not be any more
    STILL_BAD = "still_bad"
    NO_ANSWER = "no_answer"  # nothing was answered, or its bodies were removed
    DECIDED = "decided"  # a person corrected or accepted it: their word stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Revalidated:
    """One document, looked at again."""

    document_id: str
    source: str
    state: DocumentState
    verdict: Verdict
    failure: Failure | None  # why it is not good now
    differing: tuple[Compared, ...]  # expected: the record's value; got: what it is now
    good: Validated | None


def revalidate(ledger: Ledger, batch: Batch, jobs: PinnedJobs) -> Iterator[Revalidated]:
    """Look at every ended document of a batch again. Raises JobError without the batch's job."""
    job = jobs.job(batch.job).job
    with ledger.snapshot() as connection:
        for stored in stored_answers(connection, batch.id):
            yield _judge(stored, job)


def _judge(stored: Stored, job: Job) -> Revalidated:
    if stored.decided:
        return _told(stored, Verdict.DECIDED)
    if stored.answer is None or stored.text is None:
        return _told(stored, Verdict.NO_ANSWER)
    found = _read(stored.answer, stored.text, job)
    done = stored.state is DocumentState.DONE
    if isinstance(found, Failure):
        return _told(stored, Verdict.NOW_BAD if done else Verdict.STILL_BAD, failure=found)
    if not done:
        return _told(stored, Verdict.NOW_GOOD, good=found)
    differing = _differing(stored, found, job)
    return _told(
        stored,
        Verdict.CHANGED if differing else Verdict.SAME,
        good=found,
        differing=differing,
    )


def _read(answer: RawAnswer, document: str, job: Job) -> Validated | Failure:
    reading = read_answer(answer)
    if reading.failure is not None:
        return reading.failure
    assert reading.completion is not None
    text = reading.completion.text
    return validate(text, schema=job.schema, checks=job.checks, document=document)


def _differing(stored: Stored, found: Validated, job: Job) -> tuple[Compared, ...]:
    assert stored.data_json is not None, "what is done has data"
    before, now = json.loads(stored.data_json), json.loads(found.data_json)
    leaves = compared(spec_of(job.schema), expected=before, got=now)
    return tuple(one for one in leaves if not one.is_right)


def _told(
    stored: Stored,
    verdict: Verdict,
    *,
    failure: Failure | None = None,
    good: Validated | None = None,
    differing: tuple[Compared, ...] = (),
) -> Revalidated:
    return Revalidated(
        document_id=stored.document_id,
        source=stored.source,
        state=stored.state,
        verdict=verdict,
        failure=failure,
        differing=differing,
        good=good,
    )


def apply(ledger: Ledger, found: Sequence[Revalidated]) -> Counter[Verdict]:
    """Write down what changed; how many documents of each verdict were, once however many ask.

    A document whose state is not what it was when looked at is left as it is.
    """
    written: Counter[Verdict] = Counter()
    changes = [(one, judged) for one in found if (judged := _judged(one)) is not None]
    for start in range(0, len(changes), CHUNK):
        chunk = changes[start : start + CHUNK]
        with ledger.transaction() as connection:
            done = apply_judged(
                connection, [judged for _, judged in chunk], now_us=ledger.clock.us()
            )
        written.update(one.verdict for (one, _), was in zip(chunk, done, strict=True) if was)
    return written


def _judged(one: Revalidated) -> Judged | None:
    match one.verdict:
        case Verdict.CHANGED | Verdict.NOW_GOOD:
            assert one.good is not None
            flags = (*one.good.flags, FLAG)
            outcome: Done | Review = Done(one.good.data_json, flags, one.good.evidence)
            words = ""
        case Verdict.NOW_BAD:
            assert one.failure is not None
            outcome = Review(
                one.failure.fault.value,
                one.failure,
                one.failure.data_json,
                (FLAG,),
                one.failure.evidence,
            )
            words = signature(one.failure)
        case _:
            return None
    return Judged(document_id=one.document_id, was=one.state, outcome=outcome, signature=words)
