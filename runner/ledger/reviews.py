"""The review queue: records that wait for a person, and what one decides, once however many do."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from runner.ledger.deadletters import Pins, new_life
from runner.ledger.events import note
from runner.ledger.evidence import read_evidence, written_evidence
from runner.ledger.sampling import KEPT, last_decision
from runner.ledger.sources import FIRST_NAME
from runner.ledger.tables import batch, document, record, review
from runner.model import (
    BatchState,
    DeadReason,
    Decided,
    DocumentState,
    Evidence,
    FieldError,
    Purpose,
    Stratum,
)

SIGNATURE_CHARS_MAX = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFilter:
    """Which waiting records are meant: by default all, those of evaluations left out."""

    batch_id: str | None = None
    reason: str | None = None
    stratum: Stratum | None = None
    document_ids: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A document in review, or a done one that a person is to audit, with its record."""

    document_id: str
    batch_id: str
    batch_name: str
    batch_state: BatchState
    job: str
    source: str
    stratum: Stratum
    reason: str | None  # none: drawn at random
    message: str
    errors: tuple[FieldError, ...]
    data_json: str | None  # none: the end of its call is unknown, and nobody has an answer
    flags: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    attempt_id: str  # of the record: a person decides on the one that was looked at
    model: str
    prompt_id: str
    since_us: int
    text_bytes: int
    has_text: bool


def list_waiting(connection: Connection, wanted: ReviewFilter) -> list[Waiting]:
    """What waits for a person, the oldest first."""
    rows: list[Row[Any]] = []
    for stratum, query in _queries(wanted):
        ordered = query.add_columns(*_columns(stratum)).order_by(
            document.c.finished_us, document.c.id
        )
        rows += connection.execute(ordered.limit(wanted.limit))
    rows.sort(key=lambda row: (row.since_us, row.document_id))
    return [_waiting(row) for row in rows[: wanted.limit]]


def count_waiting(connection: Connection, wanted: ReviewFilter) -> dict[Stratum, int]:
    """How many wait for a person, whatever the limit."""
    counts = dict.fromkeys(Stratum, 0)
    for stratum, query in _queries(wanted):
        counted = select(func.count()).select_from(query.add_columns(document.c.id).subquery())
        counts[stratum] = connection.execute(counted).scalar_one()
    return counts


def _queries(wanted: ReviewFilter) -> list[tuple[Stratum, Select[Any]]]:
    """A query for each stratum that is meant."""
    flagged = _query(wanted, of=document).where(document.c.state == DocumentState.REVIEW)
    sampled = _query(wanted, of=record).where(
        record.c.sampled.is_(True),
        # not by the index of states: it would go through every done document
        func.coalesce(document.c.state, "") == DocumentState.DONE,
        last_decision().not_in(KEPT),
    )
    queries = {Stratum.FLAGGED: flagged, Stratum.SAMPLED: sampled}
    return [(one, query) for one, query in queries.items() if wanted.stratum in (None, one)]


def _query(wanted: ReviewFilter, *, of: Table) -> Select[Any]:
    query = (
        select()
        .select_from(document)
        .join(record, record.c.document_id == document.c.id)
        .join(batch, batch.c.id == of.c.batch_id)
    )
    if wanted.batch_id is not None:
        query = query.where(of.c.batch_id == wanted.batch_id)
    elif not wanted.document_ids:
        query = query.where(batch.c.purpose == Purpose.RUN)
    if wanted.document_ids:
        query = query.where(document.c.id.in_(wanted.document_ids))
    if wanted.reason is not None:
        query = query.where(document.c.reason == wanted.reason)
    return query


def _columns(stratum: Stratum) -> list[Any]:
    return [
        document.c.id.label("document_id"),
        document.c.batch_id,
        batch.c.name.label("batch_name"),
        batch.c.state.label("batch_state"),
        batch.c.job,
        FIRST_NAME.label("source"),
        bindparam(None, stratum.value, unique=True).label("stratum"),
        document.c.reason,
        func.coalesce(document.c.message, "").label("message"),
        document.c.reask_json,
        record.c.data_json,
        record.c.flags_json,
        record.c.evidence_json,
        record.c.attempt_id,
        record.c.model,
        record.c.prompt_id,
        document.c.finished_us.label("since_us"),
        document.c.text_bytes,
        document.c.text_digest.is_not(None).label("has_text"),
    ]


def _waiting(row: Row[Any]) -> Waiting:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    errors = json.loads(values.pop("reask_json") or "[]")
    return Waiting(
        **values
        | {
            "stratum": Stratum(row.stratum),
            "batch_state": BatchState(row.batch_state),
            "errors": tuple(FieldError(*pair) for pair in errors),
            "flags": tuple(json.loads(values.pop("flags_json"))),
            "evidence": read_evidence(values.pop("evidence_json")),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one person decides about one waiting record."""

    document_id: str
    decided: Decided
    reviewer: str
    now_us: int
    attempt_id: str | None = None  # of the record that was looked at; none: whichever there is
    data_json: str | None = None  # of a correction
    evidence: tuple[Evidence, ...] = ()  # of a correction
    flags: tuple[str, ...] = ()  # of a correction: what else is to be known of it
    note: str | None = None
    pins: Pins | None = None  # of another run: ask with these instead


class NotDecided(StrEnum):
    """Why a decision changed nothing."""

    NOT_WAITING = "not_waiting"  # another person was first, or it never waited
    OTHER_RECORD = "other_record"  # it has another record than the one that was looked at
    NO_DATA = "no_data"  # there is no record to accept
    ONLY_FLAGGED = "only_flagged"  # a done document is not run again
    CANNOT_RUN = "cannot_run"  # no text, or a cancelled batch


def decide(connection: Connection, decisions: Sequence[Decision]) -> list[NotDecided | None]:
    """Write what people decided; None where it now stands, else why nothing was changed.

    Two people at once decide once: only the first one finds the record waiting.
    """
    ids = sorted({one.document_id for one in decisions})
    _lock(connection, ids)
    found = {
        one.document_id: one
        for one in list_waiting(connection, ReviewFilter(document_ids=tuple(ids)))
    }
    answers: list[NotDecided | None] = []
    for one in decisions:
        waiting = found.get(one.document_id)
        answers.append(_refusal(one, waiting))
        if waiting is not None and answers[-1] is None:
            _write(connection, one, waiting)
            del found[one.document_id]
    return answers


def _lock(connection: Connection, ids: Sequence[str]) -> None:
    """Let nobody else decide on these, nor cancel their batches: what is read then is the truth."""
    documents = select(document.c.id, document.c.batch_id).where(document.c.id.in_(ids))
    rows = connection.execute(documents.order_by(document.c.id).with_for_update()).all()
    batches = select(batch.c.id).where(batch.c.id.in_({row.batch_id for row in rows}))
    connection.execute(batches.order_by(batch.c.id).with_for_update(read=True))


def _refusal(one: Decision, waiting: Waiting | None) -> NotDecided | None:
    if waiting is None:
        return NotDecided.NOT_WAITING
    if one.attempt_id not in (None, waiting.attempt_id):
        return NotDecided.OTHER_RECORD
    if one.decided is Decided.ACCEPTED and waiting.data_json is None:
        return NotDecided.NO_DATA
    if one.decided is Decided.AGAIN:
        if waiting.stratum is not Stratum.FLAGGED:
            return NotDecided.ONLY_FLAGGED
        if not waiting.has_text or waiting.batch_state is BatchState.CANCELLED:
            return NotDecided.CANNOT_RUN
    return None


def _write(connection: Connection, one: Decision, waiting: Waiting) -> None:
    match one.decided:
        case Decided.ACCEPTED | Decided.CORRECTED:
            _keep(connection, one, waiting)
        case Decided.REJECTED:
            _drop(connection, one, _rejected(one, waiting))
        case Decided.AGAIN:
            _drop(connection, one, new_life(pins=one.pins, now_us=one.now_us))
        case _:
            assert_never(one.decided)
    connection.execute(insert(review).values(_review_row(one, waiting)))
    note(
        connection,
        "reviewed",
        f"{one.decided} by {one.reviewer}" + (f": {one.note}" if one.note else ""),
        document_id=one.document_id,
        now_us=one.now_us,
    )


def _keep(connection: Connection, one: Decision, waiting: Waiting) -> None:
    flags = tuple(dict.fromkeys((*waiting.flags, one.decided.value, *one.flags)))
    values: dict[str, Any] = {"flags_json": json.dumps(flags)}
    if one.decided is Decided.CORRECTED:
        values |= {"data_json": one.data_json, "evidence_json": written_evidence(one.evidence)}
    connection.execute(update(record).where(record.c.document_id == one.document_id).values(values))
    connection.execute(
        update(document)
        .where(document.c.id == one.document_id, document.c.state == DocumentState.REVIEW)
        .values(
            state=DocumentState.DONE,
            reason=None,
            message=None,
            signature=None,
            reask_json=None,
            finished_us=one.now_us,
        )
    )


def _drop(connection: Connection, one: Decision, becomes: dict[str, Any]) -> None:
    # a later life writes a record of its own, which an older one would keep out
    connection.execute(delete(record).where(record.c.document_id == one.document_id))
    connection.execute(update(document).where(document.c.id == one.document_id).values(becomes))


def _rejected(one: Decision, waiting: Waiting) -> dict[str, Any]:
    reason = DeadReason.REJECTED_IN_REVIEW
    signature = f"{reason}: {waiting.reason or waiting.stratum}"
    return {
        "state": DocumentState.DEAD,
        "reason": reason,
        "message": f"rejected by {one.reviewer}" + (f": {one.note}" if one.note else ""),
        "signature": signature[:SIGNATURE_CHARS_MAX],
        "reask_json": None,
        "finished_us": one.now_us,
    }


def _review_row(one: Decision, waiting: Waiting) -> dict[str, Any]:
    judged_wrong = one.decided in (Decided.CORRECTED, Decided.REJECTED)
    return {
        "document_id": one.document_id,
        "batch_id": waiting.batch_id,
        "decision": one.decided,
        "stratum": waiting.stratum,
        "reason": waiting.reason,
        # where there was no record, nothing in it was wrong
        "was_wrong": judged_wrong and waiting.data_json is not None,
        "before_json": waiting.data_json,
        "after_json": {
            Decided.ACCEPTED: waiting.data_json,
            Decided.CORRECTED: one.data_json,
        }.get(one.decided),
        "model": waiting.model,
        "prompt_id": waiting.prompt_id,
        "reviewer": one.reviewer,
        "note": one.note,
        "at_us": one.now_us,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """A decision of the past."""

    decided: Decided
    stratum: Stratum
    was_wrong: bool
    reviewer: str
    note: str | None
    at_us: int


def reviews_of(connection: Connection, document_id: str) -> list[Reviewed]:
    """What people have decided of a document, the newest first."""
    rows = connection.execute(
        select(
            review.c.decision.label("decided"),
            *(review.c[name] for name in ("stratum", "was_wrong", "reviewer", "note", "at_us")),
        )
        .where(review.c.document_id == document_id)
        .order_by(review.c.id.desc())
    ).mappings()
    return [
        Reviewed(
            **dict(row) | {"decided": Decided(row["decided"]), "stratum": Stratum(row["stratum"])}
        )
        for row in rows
    ]
