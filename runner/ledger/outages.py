"""When a breaker opens, the failures that led to it are charged to nobody."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select, update

from runner.keys import first_id
from runner.lanes import Lane
from runner.ledger.dialect import chunks
from runner.ledger.events import note_documents
from runner.ledger.tables import attempt, batch, document
from runner.model import BatchState, DeadReason, DocumentState, Fault

CALL_MAX_US = 3_600_000_000  # no call lasts longer: timeout_s is bounded by an hour
MARGIN_US = 1_000_000  # between a failure and the moment the fleet heard of it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOfFailures:
    """Failures of one lane in succession, the first of which ended at `since_us`."""

    lane: Lane
    since_us: int
    faults: Collection[Fault]  # those that are free in an outage
    now_us: int


def forgive(connection: Connection, run: RunOfFailures) -> int:
    """Turn the charged failures of a run into deferrals; how many there were.

    A document that they had used up goes back to the queue, unless its batch was cancelled or its
    text purged. Doing it again changes nothing.
    """
    rows = connection.execute(
        select(attempt.c.id, attempt.c.document_id, attempt.c.fault)
        .join(batch, batch.c.id == attempt.c.batch_id)
        .where(
            attempt.c.id >= first_id("a", at_us=run.since_us - CALL_MAX_US),
            attempt.c.created_us + func.coalesce(attempt.c.total_us, 0) >= run.since_us - MARGIN_US,
            attempt.c.model == run.lane.model,
            attempt.c.charged.is_(True),
            attempt.c.fault.in_(list(run.faults)),
            batch.c.simulated.is_(run.lane.is_simulator),
        )
    ).all()
    for some in chunks(rows):
        connection.execute(
            update(attempt).where(attempt.c.id.in_([row.id for row in some])).values(charged=False)
        )
    fault_of = {row.document_id: row.fault for row in rows}
    for document_id, count in Counter(row.document_id for row in rows).items():
        _give_back(connection, document_id, count, fault=fault_of[document_id], now_us=run.now_us)
    note_documents(
        connection,
        "forgiven",
        f"{run.lane.model} was out: its failures are not charged",
        document_ids=list(fault_of),
        now_us=run.now_us,
    )
    return len(rows)


def _give_back(
    connection: Connection, document_id: str, count: int, *, fault: str, now_us: int
) -> None:
    here = document.c.id == document_id
    connection.execute(
        update(document)
        .where(here)
        .values(
            # a dead letter that was retried meanwhile has begun anew: nothing is left to give back
            attempts=case((document.c.attempts > count, document.c.attempts - count), else_=0),
            deferrals=document.c.deferrals + count,
            deferred_since_us=func.coalesce(document.c.deferred_since_us, now_us),
        )
    )
    connection.execute(
        update(document)
        .where(
            here,
            document.c.state == DocumentState.DEAD,
            document.c.reason == DeadReason.ATTEMPTS_EXHAUSTED,
            document.c.text_digest.is_not(None),
            document.c.batch_id.in_(
                select(batch.c.id).where(batch.c.state != BatchState.CANCELLED)
            ),
        )
        .values(
            state=DocumentState.QUEUED,
            due_us=now_us,
            queued_us=now_us,
            finished_us=None,
            reason=fault,
        )
    )
