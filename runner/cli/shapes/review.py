"""What the commands of the review queue print with `--json`."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Self

from runner.cli.shapes.base import FieldErrorShape, Shape
from runner.cli.shapes.calls import CallShape
from runner.cli.shapes.documents import EvidenceShape
from runner.cli.wording import iso
from runner.errorrates import ErrorRate, StratumRate
from runner.evals.statistics import Interval
from runner.ledger.calls import AttemptRow
from runner.ledger.reviews import Reviewed, Waiting
from runner.model import Decided, Stratum


class WaitingShape(Shape):
    """A record that waits for a person."""

    document_id: str
    batch: str
    job: str
    source: str
    stratum: Stratum
    reason: str | None  # null: drawn at random
    message: str
    errors: tuple[FieldErrorShape, ...]
    flags: tuple[str, ...]
    data: Any  # null: nobody has an answer
    model: str
    since: str

    @classmethod
    def of(cls, one: Waiting) -> Self:
        """A record as the ledger has it."""
        return cls(**_waiting_fields(one))


def _waiting_fields(one: Waiting) -> dict[str, Any]:
    same = ("document_id", "job", "source", "stratum", "reason", "message", "flags", "model")
    return {name: getattr(one, name) for name in same} | {
        "batch": one.batch_name,
        "errors": tuple(
            FieldErrorShape(path=error.path, message=error.message) for error in one.errors
        ),
        "data": None if one.data_json is None else json.loads(one.data_json),
        "since": iso(one.since_us),
    }


class ReviewListShape(Shape):
    """`review list`: how many wait, and the oldest of them."""

    flagged: int
    sampled: int
    reviews: tuple[WaitingShape, ...]


class ReviewedShape(Shape):
    """A decision of the past."""

    decision: Decided
    stratum: Stratum
    was_wrong: bool
    reviewer: str
    note: str | None
    at: str

    @classmethod
    def of(cls, one: Reviewed) -> Self:
        """A decision as the ledger has it."""
        return cls(
            decision=one.decided,
            stratum=one.stratum,
            was_wrong=one.was_wrong,
            reviewer=one.reviewer,
            note=one.note,
            at=iso(one.at_us),
        )


class ReviewShape(WaitingShape):
    """`review show`: a record that waits, with all that helps to decide."""

    evidence: tuple[EvidenceShape, ...]
    text: str | None
    calls: tuple[CallShape, ...]
    history: tuple[ReviewedShape, ...]  # decisions on records that the document had before

    @classmethod
    def of_document(
        cls,
        one: Waiting,
        *,
        text: str | None,
        calls: Sequence[AttemptRow],
        history: Sequence[Reviewed],
    ) -> Self:
        """A record with its document's text, calls and past."""
        return cls(
            **_waiting_fields(one),
            evidence=tuple(
                EvidenceShape(path=place.path, start=place.start, end=place.end, how=place.how)
                for place in one.evidence
            ),
            text=text,
            calls=tuple(CallShape.of(row) for row in calls),
            history=tuple(ReviewedShape.of(past) for past in history),
        )


class DecidedShape(Shape):
    """`review accept`, `correct`, `reject`: on which documents this command decided."""

    decision: Decided
    reviewer: str
    documents: tuple[str, ...]


class RunAgainShape(Shape):
    """`review again`: which documents were queued anew, and what that is to cost."""

    reviewer: str
    documents: tuple[str, ...]
    expected_usd: Decimal | None  # null when a price is unknown
    worst_usd: Decimal | None


class SampleShape(Shape):
    """`review sample`: what was drawn of a batch's done documents that nobody has decided on."""

    batch: str
    percent: float
    done: int
    added: int
    in_sample: int


class StratumShape(Shape):
    """Flagged records, or the others: how many there are, were judged and were wrong."""

    records: int
    reviewed: int
    wrong: int
    rate: float | None  # null: too few reviews to tell
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: StratumRate) -> Self:
        """A stratum as it was counted."""
        return cls(
            records=found.records,
            reviewed=found.reviewed,
            wrong=found.wrong,
            **_interval(found.rate),
        )


def _interval(rate: Interval | None) -> dict[str, float | None]:
    if rate is None:
        return {"rate": None, "low": None, "high": None}
    return {"rate": rate.estimate, "low": rate.low, "high": rate.high}


class EstimateShape(Shape):
    """`review estimate`: shares of wrong records, with the ends of their 95 % intervals."""

    batch: str | None
    job: str | None
    records: int
    flagged: StratumShape
    not_flagged: StratumShape
    waiting: int  # drawn for an audit and not judged yet
    rate: float | None  # of all, before anybody looked; null: too few reviews to tell
    low: float | None
    high: float | None
    left_out: tuple[str, ...]  # batches of which nothing was drawn

    @classmethod
    def of(cls, found: ErrorRate, *, batch: str | None, job: str | None) -> Self:
        """An estimate of a batch or of a job."""
        return cls(
            batch=batch,
            job=job,
            records=found.records,
            flagged=StratumShape.of(found.flagged),
            not_flagged=StratumShape.of(found.sampled),
            waiting=found.waiting,
            **_interval(found.overall),
            left_out=found.left_out,
        )


class GoldLine(Shape):
    """A line of `review gold`: a text and the record that a person says is right."""

    id: str
    text: str
    expected: Any
    tags: tuple[str, ...] = ("reviewed",)


class GoldShape(Shape):
    """`review gold`."""

    file: str
    candidates: int
