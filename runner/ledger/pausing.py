"""Pausing a batch, and the faults that point at its configuration and pause it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from runner.ledger.events import note
from runner.ledger.tables import batch, document
from runner.model import OPEN_STATES, Again, BatchState, Dead, DocumentState, Done, Failure, Outcome

ALIKE_PAUSES_AT = 3  # distinct documents in succession; see the failure table in ARCHITECTURE.md


def pause_batch(connection: Connection, batch_id: str, why: str, *, now_us: int) -> None:
    """Stop feeding a batch and take its ready documents back; running calls finish.

    A batch that is paused already keeps its first reason.
    """
    changed = connection.execute(
        update(batch)
        .where(batch.c.id == batch_id, batch.c.state == BatchState.ACTIVE)
        .values(state=BatchState.PAUSED, pause_reason=why)
    ).rowcount
    if changed:
        connection.execute(
            update(document)
            .where(document.c.batch_id == batch_id, document.c.state == DocumentState.READY)
            .values(state=DocumentState.QUEUED, due_us=now_us)
        )
        note(connection, "batch_paused", why, batch_id=batch_id, now_us=now_us)


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of one document, and what its batch knew of faults alike."""

    document_id: str
    batch_id: str
    outcome: Outcome
    alike_count: int


def note_configuration_faults(
    connection: Connection, ended: Sequence[Ended], *, now_us: int
) -> None:
    """Pause batches whose outcomes point at their configuration; a success clears the suspicion."""
    for one in ended:
        match one.outcome:
            case Again(pause_batch=True, failure=failure):
                pause_batch(connection, one.batch_id, failure.message, now_us=now_us)
            case (
                Again(alike_pauses=True, failure=failure) | Dead(alike_pauses=True, failure=failure)
            ):
                _count_alike(connection, one, failure, now_us=now_us)
            case _:
                continue
    proven = {one.batch_id for one in ended if isinstance(one.outcome, Done) and one.alike_count}
    for batch_id in proven:
        connection.execute(
            update(batch).where(batch.c.id == batch_id).values(alike_fault=None, alike_count=0)
        )


def _count_alike(connection: Connection, one: Ended, failure: Failure, *, now_us: int) -> None:
    known = connection.execute(
        select(batch.c.alike_fault, batch.c.alike_count, batch.c.alike_document_id).where(
            batch.c.id == one.batch_id
        )
    ).one()
    alike = known.alike_fault == failure.fault
    if alike and known.alike_document_id == one.document_id:
        return
    count = known.alike_count + 1 if alike else 1
    connection.execute(
        update(batch)
        .where(batch.c.id == one.batch_id)
        .values(alike_fault=failure.fault, alike_count=count, alike_document_id=one.document_id)
    )
    if count >= min(ALIKE_PAUSES_AT, _open_documents(connection, one.batch_id)):
        why = f"{count} documents in succession failed alike ({failure.fault}): {failure.message}"
        pause_batch(connection, one.batch_id, why, now_us=now_us)


def _open_documents(connection: Connection, batch_id: str) -> int:
    """How many documents of a batch have not ended, counted up to ALIKE_PAUSES_AT.

    A batch with fewer of them than that would never see that many fail in succession.
    """
    some = (
        select(document.c.id)
        .where(document.c.batch_id == batch_id, document.c.state.in_(OPEN_STATES))
        .limit(ALIKE_PAUSES_AT)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
