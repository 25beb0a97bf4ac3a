"""Batches that pause and go on: by themselves, or held by the pause of a key or of a day."""

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from runner.ledger.dialect import chunks
from runner.ledger.events import note
from runner.ledger.money import DAY, day_scope
from runner.ledger.tables import batch, document
from runner.model import BatchState, DocumentState


def pause_batch(
    connection: Connection,
    batch_id: str,
    why: str,
    *,
    now_us: int,
    scope: str | None = None,
    by_person: bool = False,
) -> None:
    """Stop feeding a batch and take its ready documents back; running calls finish.

    `scope` is the key or the day whose pause holds it: it goes on with it. A batch that is paused
    already keeps its first reason; but a pause of its own outlives one that holds it. Whatever no
    person did is told by the alert command.
    """
    stands = batch.c.state == BatchState.ACTIVE
    if scope is None:
        stands |= (batch.c.state == BatchState.PAUSED) & batch.c.pause_scope.is_not(None)
    changed = connection.execute(
        update(batch)
        .where(batch.c.id == batch_id, stands)
        .values(
            state=BatchState.PAUSED,
            pause_reason=why,
            pause_scope=scope,
            pause_alert_us=None if by_person else now_us,
        )
    ).rowcount
    if changed:
        connection.execute(
            update(document)
            .where(document.c.batch_id == batch_id, document.c.state == DocumentState.READY)
            .values(state=DocumentState.QUEUED, due_us=now_us)
        )
        note(connection, "batch_paused", why, batch_id=batch_id, now_us=now_us)


def let_go_on(connection: Connection, batch_ids: Sequence[str], why: str, *, now_us: int) -> None:
    """Feed these batches again if they are paused.

    What was deferred while the cause stood is due now, and its waiting is forgiven.
    """
    for some in chunks(batch_ids):
        connection.execute(
            update(batch)
            .where(batch.c.id.in_(some), batch.c.state == BatchState.PAUSED)
            .values(
                state=BatchState.ACTIVE,
                pause_reason=None,
                pause_scope=None,
                pause_alert_us=None,
                alike_fault=None,
                alike_documents_json=None,
            )
        )
        connection.execute(
            update(document)
            .where(document.c.batch_id.in_(some), document.c.state == DocumentState.QUEUED)
            .values(due_us=now_us, deferred_since_us=None)
        )
    for batch_id in batch_ids:
        note(connection, "batch_resumed", why, batch_id=batch_id, now_us=now_us)


def held_by(connection: Connection, scope: str) -> dict[str, str]:
    """Names by id of the batches that the pause of this scope holds, the oldest first."""
    rows = connection.execute(
        select(batch.c.id, batch.c.name)
        .where(batch.c.state == BatchState.PAUSED, batch.c.pause_scope == scope)
        .order_by(batch.c.id)
    )
    return dict(rows.all())


def held_by_past_days(connection: Connection, *, now_us: int) -> list[str]:
    """Ids of the batches that a day holds which is over."""
    rows = connection.execute(
        select(batch.c.id).where(
            batch.c.state == BatchState.PAUSED,
            batch.c.pause_scope.startswith(DAY, autoescape=True),
            batch.c.pause_scope < day_scope(now_us),
        )
    )
    return list(rows.scalars())


def leave_past_days(connection: Connection, *, now_us: int) -> None:
    """Let the batches go on that paused because the budget of a day was spent that is over."""
    let_go_on(
        connection,
        held_by_past_days(connection, now_us=now_us),
        "a new day has begun (UTC)",
        now_us=now_us,
    )
