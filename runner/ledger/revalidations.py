"""Stored answers of ended documents, and what a new look at them makes of the documents."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from runner.ledger import blobs
from runner.ledger.dialect import insert_new
from runner.ledger.events import note
from runner.ledger.evidence import written_evidence
from runner.ledger.sources import HAS_SOURCE
from runner.ledger.tables import attempt, document, record, review, source
from runner.model import DocumentState, Done, RawAnswer, Review

PAGE = 500
ANSWERED = 200
_ENDED = (DocumentState.DONE, DocumentState.REVIEW, DocumentState.DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An ended document with the answer that its record, or its end, came from."""

    document_id: str
    source: str
    state: DocumentState
    text: str | None
    answer: RawAnswer | None
    data_json: str | None  # of its record
    decided: bool  # a person decided about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a document is to become, unless it is no longer what it `was`."""

    document_id: str
    was: DocumentState
    outcome: Done | Review
    signature: str


def stored_answers(connection: Connection, batch_id: str) -> Iterator[Stored]:
    """Every ended document of a batch by its position, a page of texts in memory at a time."""
    last = -1
    while True:
        rows = connection.execute(
            select(document, record.c.data_json, record.c.attempt_id)
            .outerjoin(record, record.c.document_id == document.c.id)
            .where(
                document.c.batch_id == batch_id,
                document.c.position > last,
                document.c.state.in_(_ENDED),
            )
            .order_by(document.c.position)
            .limit(PAGE)
        ).all()
        if not rows:
            return
        yield from _page(connection, rows)
        last = rows[-1].position


def _page(connection: Connection, rows: Sequence[Any]) -> Iterator[Stored]:
    ids = [row.id for row in rows]
    calls = _calls(connection, rows)
    digests = [row.text_digest for row in rows] + [call.answer_digest for call in calls.values()]
    bodies = blobs.fetch(connection, digests)
    named = connection.execute(
        select(source.c.document_id, source.c.name)
        .join(document, HAS_SOURCE)
        .where(document.c.id.in_(ids))
        .order_by(source.c.id.desc())
    )
    names = {row.document_id: row.name for row in named}  # the first of several stays
    decided = set(
        connection.execute(
            select(review.c.document_id).where(review.c.document_id.in_(ids))
        ).scalars()
    )
    for row in rows:
        text = bodies.get(row.text_digest)
        yield Stored(
            document_id=row.id,
            source=names.get(row.id, row.id),
            state=DocumentState(row.state),
            text=None if text is None else text.decode(),
            answer=_answer(calls.get(row.id), bodies),
            data_json=row.data_json,
            decided=row.id in decided,
        )


def _calls(connection: Connection, rows: Sequence[Any]) -> dict[str, Any]:
    """Of each document the call its record came from, else the last one that was answered."""
    found: dict[str, Any] = {}
    chosen = {row.id: row.attempt_id for row in rows if row.attempt_id}
    for call in connection.execute(
        select(attempt)
        .where(
            attempt.c.document_id.in_([row.id for row in rows]),
            attempt.c.status == ANSWERED,
            attempt.c.answer_digest.is_not(None),
        )
        .order_by(attempt.c.number)
    ):
        if chosen.get(call.document_id, call.id) == call.id:
            found[call.document_id] = call
    return found


def _answer(call: Any, bodies: Mapping[bytes, bytes]) -> RawAnswer | None:
    if call is None or call.answer_digest not in bodies:
        return None
    headers = json.loads(call.headers_json or "{}")
    return RawAnswer(call.status, bodies[call.answer_digest], headers)


def apply_judged(connection: Connection, judged: Sequence[Judged], *, now_us: int) -> list[bool]:
    """Write new records and states; False where a document is no longer what it was."""
    rows = {
        row.id: row
        for row in connection.execute(
            select(document)
            .where(document.c.id.in_([one.document_id for one in judged]))
            .with_for_update()
        )
    }
    kept = [one for one in judged if _is_as_it_was(rows[one.document_id], one)]
    for one in kept:
        _write(connection, one, rows[one.document_id], now_us=now_us)
    return [one in kept for one in judged]


def _is_as_it_was(row: Any, one: Judged) -> bool:
    """Not decided on meanwhile, and neither erased nor pruned: its answer is still there."""
    return row.state == one.was and row.erased_us is None and row.pruned_us is None


def _write(connection: Connection, one: Judged, row: Any, *, now_us: int) -> None:
    outcome = one.outcome
    before = connection.execute(select(record).where(record.c.document_id == row.id)).first()
    call = _calls(connection, [_Place(row.id, None if before is None else before.attempt_id)])
    asked = call[row.id]
    connection.execute(delete(record).where(record.c.document_id == row.id))
    insert_new(
        connection,
        record,
        [
            {
                "document_id": row.id,
                "batch_id": row.batch_id,
                "attempt_id": asked.id,
                "data_json": outcome.data_json,
                "flags_json": json.dumps(outcome.flags),
                "evidence_json": written_evidence(outcome.evidence),
                "sampled": False if before is None else before.sampled,
                "model": asked.model,
                "prompt_id": asked.prompt_id,
                "latency_us": max(0, now_us - row.created_us)
                if before is None
                else before.latency_us,
                "created_us": now_us,
            }
        ],
    )
    good = isinstance(outcome, Done)
    connection.execute(
        update(document)
        .where(document.c.id == row.id)
        .values(
            state=DocumentState.DONE if good else DocumentState.REVIEW,
            reason=None if isinstance(outcome, Done) else outcome.reason,
            message=None if isinstance(outcome, Done) else outcome.failure.message,
            signature=None if good else one.signature,
            reask_json=None if good else row.reask_json,
            finished_us=now_us,
        )
    )
    note(
        connection,
        "revalidated",
        f"{one.was} before" + ("" if good else f"; {one.signature}"),
        batch_id=row.batch_id,
        document_id=row.id,
        now_us=now_us,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    id: str
    attempt_id: str | None
