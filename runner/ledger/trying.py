"""A document that one process tries by itself: kept off the queue, and ended with that process.

Its row names that process's worker before it is leased: the feeder and the sweep leave it alone.
"""

from sqlalchemy import Connection, select, update

from runner.keys import Ticket
from runner.ledger.control import cancel_batch
from runner.ledger.submission import (
    Batch,
    BatchPlan,
    add_documents,
    find_batch,
    finish_submission,
    name_documents,
    open_batch,
)
from runner.ledger.tables import batch, document
from runner.model import DocumentState, Purpose, SourceText

_WAITS = document.c.state.in_([DocumentState.QUEUED, DocumentState.READY])


def begin_try(
    connection: Connection, plan: BatchPlan, text: SourceText, *, worker_id: str, now_us: int
) -> tuple[Batch, Ticket]:
    """Begin the planned batch with one document, ready for this worker and for no other."""
    assert plan.purpose is Purpose.TRY
    begun = open_batch(connection, plan, now_us=now_us)
    named = name_documents(begun.id, [text])
    add_documents(connection, begun.id, named, first_position=0, now_us=now_us)
    finish_submission(connection, begun.id, rejected=0)
    document_id = named[0].document_id
    connection.execute(
        update(document)
        .where(document.c.id == document_id)
        .values(state=DocumentState.READY, turn=1, worker_id=worker_id)
    )
    return begun, Ticket(document_id, 1)


def end_try(connection: Connection, batch_id: str, *, now_us: int) -> Batch:
    """Cancel what a try has not called for; its batch as it stood before, with why it paused."""
    found = find_batch(connection, batch_id)
    assert found is not None
    waits = select(document.c.id).where(document.c.batch_id == batch_id, _WAITS)
    if connection.execute(waits).first() is not None:
        cancel_batch(connection, found, now_us=now_us)
    return found


def end_tries_of(connection: Connection, worker_id: str, *, now_us: int) -> None:
    """Cancel what a dead process was about to try: nobody waits for it any more."""
    tries = select(batch.c.id).where(batch.c.purpose == Purpose.TRY)
    connection.execute(
        update(document)
        .where(_WAITS, document.c.batch_id.in_(tries), document.c.worker_id == worker_id)
        .values(state=DocumentState.CANCELLED, finished_us=now_us)
    )
