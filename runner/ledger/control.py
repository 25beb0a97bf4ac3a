"""What a person does to batches: resume, cancel, raise the budget of the day."""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from runner.errors import UsageError
from runner.ledger.events import note
from runner.ledger.keypauses import forget_unless_needed, key_pauses, lift
from runner.ledger.money import DAY, day_scope, set_limit
from runner.ledger.pausing import held_by, let_go_on
from runner.ledger.submission import Batch, set_budget
from runner.ledger.tables import attempt, batch, document
from runner.model import OPEN_STATES, AttemptState, BatchState, DocumentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What goes on besides the batch that was named."""

    key: str | None = None  # whose pause was ended, as a person knows it
    others: tuple[str, ...] = ()  # names of batches


def resume_batch(
    connection: Connection, found: Batch, *, budget_nusd: int | None, now_us: int
) -> Resumed:
    """Feed a paused batch again, with a new budget when one is given; a cancelled one stays so.

    When the pause of a key holds it, that pause is over for every batch that it holds.
    """
    if budget_nusd is not None:
        set_budget(connection, found.id, budget_nusd)
    scope = connection.execute(select(batch.c.pause_scope).where(batch.c.id == found.id)).scalar()
    if scope is None or scope.startswith(DAY):
        let_go_on(connection, [found.id], "resumed", now_us=now_us)
        return Resumed()
    pause = key_pauses(connection, [scope]).get(scope)
    held = lift(connection, scope, "resumed", now_us=now_us)
    others = tuple(name for id_, name in held.items() if id_ != found.id)
    return Resumed(key=None if pause is None else pause.name, others=others)


def raise_day_budget(connection: Connection, limit_nusd: int, *, now_us: int) -> tuple[str, ...]:
    """Set what all batches together may spend today; names of those that go on by it."""
    scope = day_scope(now_us)
    set_limit(connection, scope, limit_nusd)
    held = held_by(connection, scope)
    let_go_on(connection, list(held), "budget of the day raised", now_us=now_us)
    return tuple(held.values())


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
    if found.pause_scope is not None:
        forget_unless_needed(connection, found.pause_scope)
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
