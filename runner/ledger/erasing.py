"""Erasure: all that one content said goes, wherever it was written; that it cost something stays.

Every document with the content is erased, in whatever batch. What had not ended, or waited for a
person, ends as a dead letter `erased`; what was done stays done, without data. Rows, states, costs
and times stay, and `erased_us` says when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, String, case, cast, delete, func, literal, or_, select, update

from runner.errors import UsageError
from runner.ledger.audit import LIVE
from runner.ledger.blobs import REMOVAL
from runner.ledger.dialect import chunks, one_at_a_time
from runner.ledger.events import note
from runner.ledger.pruning import drop_bodies
from runner.ledger.sources import HAS_SOURCE
from runner.ledger.sweeping import list_unwanted
from runner.ledger.tables import (
    attempt,
    batch,
    document,
    eval_result,
    event,
    key_pause,
    record,
    review,
    source,
)
from runner.model import DeadReason, DocumentState

ERASED = "erased"  # stands in for what was written
# states in which nothing of the document is still to come
_ENDS_AS_IT_IS = (DocumentState.DONE, DocumentState.DEAD, DocumentState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharer:
    """A document that has the content to be erased."""

    document_id: str
    batch_name: str
    job: str
    state: DocumentState
    sources: tuple[str, ...]
    calls: int
    cost_nusd: int
    erased_us: int | None
    is_live: bool  # a call is under way, or its paid answer has not been read


def sharers(connection: Connection, document_id: str) -> list[Sharer]:
    """Every document with the content of this one, itself included, in order of submission."""
    own = connection.execute(
        select(func.coalesce(document.c.text_digest, document.c.former_digest)).where(
            document.c.id == document_id
        )
    ).scalar()
    same = document.c.id == document_id
    if own is not None:
        same = or_(same, document.c.text_digest == own, document.c.former_digest == own)
    rows = connection.execute(
        select(
            document.c.id,
            batch.c.name,
            batch.c.job,
            document.c.state,
            document.c.calls,
            document.c.cost_nusd,
            document.c.erased_us,
        )
        .join(batch, batch.c.id == document.c.batch_id)
        .where(same)
        .order_by(batch.c.created_us, document.c.position)
    ).all()
    ids = [row.id for row in rows]
    names = _sources(connection, ids)
    live = _live(connection, ids)
    return [
        Sharer(
            document_id=row.id,
            batch_name=row.name,
            job=row.job,
            state=DocumentState(row.state),
            sources=tuple(names.get(row.id, ())),
            calls=row.calls,
            cost_nusd=row.cost_nusd,
            erased_us=row.erased_us,
            is_live=row.id in live,
        )
        for row in rows
    ]


def _sources(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for some in chunks(ids):
        rows = connection.execute(
            select(source.c.document_id, source.c.name)
            .join(document, HAS_SOURCE)
            .where(document.c.id.in_(some))
            .order_by(source.c.id)
        )
        for row in rows:
            names.setdefault(row.document_id, []).append(row.name)
    return names


def _live(connection: Connection, ids: Sequence[str]) -> set[str]:
    live: set[str] = set()
    for some in chunks(ids):
        running = select(document.c.id).where(
            document.c.id.in_(some), document.c.state == DocumentState.RUNNING
        )
        unread = select(attempt.c.document_id).where(
            attempt.c.document_id.in_(some), attempt.c.state.in_(LIVE)
        )
        live |= set(connection.execute(running.union(unread)).scalars())
    return live


def refuse_live(connection: Connection, ids: Sequence[str]) -> None:
    """Until this transaction ends none of these documents is called.

    Raises UsageError when one is already.
    """
    one_at_a_time(connection, REMOVAL)
    if live := _live(connection, ids):
        raise UsageError(
            f"{min(live)} is being called, or its answer is about to be read: what is erased now "
            "would be written again; try again when it has ended (`runner batch pause` lets no "
            "further call begin)"
        )


def erase(connection: Connection, ids: Sequence[str], *, names_too: bool, now_us: int) -> None:
    """Erase these documents; the next sweep drops the blobs that only they had.

    Doing it again erases what was written since. Raises UsageError, and nothing is changed, when
    one of them runs.
    """
    refuse_live(connection, ids)
    for some in chunks(ids):
        _forget_quotes(connection, some)
        _erase_documents(connection, some, now_us=now_us)
        drop_bodies(connection, some)
        _erase_history(connection, some)
        if names_too:
            _erase_names(connection, some)
    for document_id in ids:
        note(
            connection,
            "document_erased",
            "its text, answers and data were erased",
            document_id=document_id,
            now_us=now_us,
        )


def erased_message(at_us: int) -> str:
    """What results say of an erased document."""
    at = datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
    return f"erased at {at.replace('+00:00', 'Z')}: its text, answers and data are gone"


def _erase_documents(connection: Connection, ids: Sequence[str], *, now_us: int) -> None:
    digests = connection.execute(
        select(document.c.text_digest).where(document.c.id.in_(ids)).with_for_update()
    ).scalars()
    list_unwanted(connection, list(digests))
    ended = document.c.state.in_(_ENDS_AS_IT_IS)
    without_record = select(document.c.id).where(document.c.id.in_(ids), ~ended)
    connection.execute(delete(record).where(record.c.document_id.in_(without_record)))
    connection.execute(
        update(document)
        .where(document.c.id.in_(ids), ~ended)
        .values(state=DocumentState.DEAD, finished_us=now_us)
    )
    connection.execute(
        update(document)
        .where(document.c.id.in_(ids))
        .values(
            text_digest=None,
            former_digest=None,
            erased_us=func.coalesce(document.c.erased_us, now_us),
            reason=DeadReason.ERASED,
            message=erased_message(now_us),
            signature=ERASED,
            reask_json=None,
            first_read_json=None,
        )
    )


def _erase_history(connection: Connection, ids: Sequence[str]) -> None:
    """What calls, records, reviews, evaluations and events of these documents quote."""
    connection.execute(
        update(attempt)
        .where(attempt.c.document_id.in_(ids))
        .values(headers_json=None, message=case((attempt.c.message.is_not(None), ERASED)))
    )
    connection.execute(
        update(record)
        .where(record.c.document_id.in_(ids))
        .values(data_json=None, evidence_json=None, flags_json=f'["{ERASED}"]', sampled=False)
    )
    connection.execute(
        update(review)
        .where(review.c.document_id.in_(ids))
        .values(before_json=None, after_json=None, note=None)
    )
    connection.execute(
        update(eval_result).where(eval_result.c.document_id.in_(ids)).values(outcomes_json="{}")
    )
    connection.execute(update(event).where(event.c.document_id.in_(ids)).values(message=ERASED))


def _erase_names(connection: Connection, ids: Sequence[str]) -> None:
    name = literal(f"{ERASED} ") + cast(source.c.id, String)
    theirs = select(source.c.id).join(document, HAS_SOURCE).where(document.c.id.in_(ids))
    connection.execute(update(source).where(source.c.id.in_(theirs)).values(name=name))


def _forget_quotes(connection: Connection, ids: Sequence[str]) -> None:
    """Take what these documents' failures said out of the pauses that they caused."""
    said = _messages(connection, ids)
    batches = select(document.c.batch_id).where(document.c.id.in_(ids)).distinct()
    of_batches = event.c.batch_id.in_(batches) & event.c.document_id.is_(None)
    for key, text, where in (
        (batch.c.id, batch.c.pause_reason, batch.c.id.in_(batches)),
        (event.c.id, event.c.message, of_batches),
        (key_pause.c.scope, key_pause.c.reason, key_pause.c.reason.is_not(None)),
    ):
        for id_, found in connection.execute(select(key, text).where(where)).all():
            if (left := _without(found or "", said)) != (found or ""):
                connection.execute(update(key.table).where(key == id_).values({text: left}))


def _messages(connection: Connection, ids: Sequence[str]) -> list[str]:
    of_documents = select(document.c.message).where(document.c.id.in_(ids))
    of_calls = select(attempt.c.message).where(attempt.c.document_id.in_(ids))
    found = connection.execute(of_documents.union(of_calls)).scalars()
    return sorted((message for message in found if message), key=len, reverse=True)


def _without(text: str, said: Sequence[str]) -> str:
    for message in said:
        text = text.replace(message, ERASED)
    return text
