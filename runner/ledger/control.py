"""What a person does to a batch: pause, resume, cancel."""

from sqlalchemy import Connection, select, update

from runner.errors import UsageError
from runner.ledger.events import note
from runner.ledger.submission import Batch, set_budget
from runner.ledger.tables import attempt, batch, document
from runner.model import OPEN_STATES, AttemptState, BatchState, DocumentState


def resume_batch(
    connection: Connection, found: Batch, *, budget_nusd: int | None, now_us: int
) -> None:
    """Feed a paused batch again, with a new budget when one is given; a cancelled one stays so."""
    if budget_nusd is not None:
        set_budget(connection, found.id, budget_nusd)
    connection.execute(
        update(batch)
        .where(batch.c.id == found.id, batch.c.state == BatchState.PAUSED)
        .values(
            state=BatchState.ACTIVE,
            pause_reason=None,
            alike_fault=None,
            alike_documents_json=None,
        )
    )
    # what was deferred while the cause stood is due now, and its waiting is forgiven
    connection.execute(
        update(document)
        .where(document.c.batch_id == found.id, document.c.state == DocumentState.QUEUED)
        .values(due_us=now_us, deferred_since_us=None)
    )
    note(connection, "batch_resumed", "resumed", batch_id=found.id, now_us=now_us)


def cancel_batch(connection: Connection, found: Batch, *, now_us: int) -> int:
    """End every document that is not running; running calls settle and then end cancelled.

    So does a document whose paid answer is stored and not read yet: it is read once more, for its
    cost. Returns how many documents were cancelled at once. Raises UsageError when all have ended.
    """
    may_be_over = found.state is not BatchState.CANCELLED and found.submitted
    if may_be_over and not _has_open_documents(connection, found.id):
        raise UsageError(f"batch {found.name} has ended; there is nothing left to cancel")
    connection.execute(
        update(batch).where(batch.c.id == found.id).values(state=BatchState.CANCELLED)
    )
    here = document.c.batch_id == found.id
    answered = document.c.id.in_(
        select(attempt.c.document_id).where(
            attempt.c.batch_id == found.id, attempt.c.state == AttemptState.ANSWERED
        )
    )
    cancelled = connection.execute(
        update(document)
        .where(here, document.c.state.in_([DocumentState.QUEUED, DocumentState.READY]), ~answered)
        .values(state=DocumentState.CANCELLED, finished_us=now_us)
    ).rowcount
    connection.execute(
        update(document)
        .where(here, document.c.state == DocumentState.QUEUED, answered)
        .values(due_us=now_us)
    )
    note(connection, "batch_cancelled", "cancelled", batch_id=found.id, now_us=now_us)
    return cancelled


def _has_open_documents(connection: Connection, batch_id: str) -> bool:
    waits = select(document.c.id).where(
        document.c.batch_id == batch_id, document.c.state.in_(OPEN_STATES)
    )
    return connection.execute(waits.limit(1)).first() is not None


def batch_names(connection: Connection) -> list[str]:
    """Every batch's name, newest first."""
    return list(connection.execute(select(batch.c.name).order_by(batch.c.id.desc())).scalars())
