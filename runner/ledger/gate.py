"""The gate before a call: lease, intent and hold in one transaction, or a refusal as a value."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from sqlalchemy import Connection, bindparam, insert, select, update

from runner.keys import Ticket, content_digest
from runner.ledger import blobs
from runner.ledger.money import budget_scope, move_money
from runner.ledger.pausing import pause_batch
from runner.ledger.tables import attempt, batch, budget, document, worker
from runner.model import AttemptState, BatchState, DocumentState


class Refusal(StrEnum):
    """Why a document may not be called for now."""

    STALE = "stale"  # another turn, or not ready any more
    BATCH_NOT_ACTIVE = "batch_not_active"
    BUDGET_WAIT = "budget_wait"  # only holds of running calls are in the way
    BUDGET_SPENT = "budget_spent"
    WORKER_LOST = "worker_lost"  # this worker was taken for dead: it must register anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's wish to call for a document now: lease, intent and hold in one."""

    ticket: Ticket
    lease_token: str
    worker_id: str
    attempt_id: str
    model: str
    prompt_id: str
    request_head: bytes
    request_tail: bytes | None
    hold_nusd: int | None
    queue_wait_us: int
    limiter_wait_us: int
    now_us: int
    again_of_stored: bool = False  # only a lease: the answer is already here


@dataclass(slots=True)
class _Money:
    limit_nusd: int | None
    spent_nusd: int
    held_nusd: int

    def admits(self, hold_nusd: int | None) -> Refusal | None:
        if self.limit_nusd is None:
            return None
        if (
            hold_nusd is not None
            and self.spent_nusd + self.held_nusd + hold_nusd <= self.limit_nusd
        ):
            return None
        return Refusal.BUDGET_WAIT if self.held_nusd else Refusal.BUDGET_SPENT


def claim(connection: Connection, claims: Sequence[Claim]) -> list[Refusal | None]:
    """Write lease, intent and hold of every claim that the gate admits; None means admitted.

    A claim that was admitted before, by the same lease token, is admitted again and writes nothing.
    """
    rows = {
        row.id: row
        for row in connection.execute(
            select(
                document.c.id,
                document.c.turn,
                document.c.state,
                document.c.batch_id,
                document.c.calls,
                document.c.lease_token,
                batch.c.state.label("batch_state"),
            )
            .join(batch, batch.c.id == document.c.batch_id)
            .where(document.c.id.in_([wish.ticket.document_id for wish in claims]))
            .with_for_update()
        )
    }
    money = _money(connection, {row.batch_id for row in rows.values()})
    living = _living_workers(connection, {wish.worker_id for wish in claims})
    answers: list[Refusal | None] = []
    admitted: list[tuple[Claim, Any]] = []
    for wish in claims:
        row = rows.get(wish.ticket.document_id)
        if row is not None and row.lease_token == wish.lease_token:
            answers.append(None)
            continue
        refusal = _refusal(wish, row, living, money)
        if refusal is None and row is not None:
            rows.pop(row.id)  # a second claim of one turn in one group is stale
            admitted.append((wish, row))
            if not wish.again_of_stored:
                money[row.batch_id].held_nusd += wish.hold_nusd or 0
        answers.append(refusal)
    if admitted:
        _write_claims(connection, admitted)
    _put_back(connection, claims, answers)
    return answers


def _refusal(
    wish: Claim, row: Any, living: frozenset[str], money: Mapping[str, _Money]
) -> Refusal | None:
    if wish.worker_id not in living:
        return Refusal.WORKER_LOST
    if row is None or row.turn != wish.ticket.turn or row.state != DocumentState.READY:
        return Refusal.STALE
    # an answer that was paid for is read even after a cancellation: its cost has to be settled
    settles = wish.again_of_stored and row.batch_state == BatchState.CANCELLED
    if row.batch_state != BatchState.ACTIVE and not settles:
        return Refusal.BATCH_NOT_ACTIVE
    return None if wish.again_of_stored else money[row.batch_id].admits(wish.hold_nusd)


def _money(connection: Connection, batch_ids: Iterable[str]) -> dict[str, _Money]:
    scopes = {budget_scope(batch_id): batch_id for batch_id in batch_ids}
    rows = connection.execute(
        select(budget).where(budget.c.scope.in_(list(scopes))).with_for_update()
    )
    return {
        scopes[row.scope]: _Money(
            row.limit_nusd, row.settled_nusd + row.ambiguous_nusd, row.held_nusd
        )
        for row in rows
    }


def _living_workers(connection: Connection, ids: Iterable[str]) -> frozenset[str]:
    return frozenset(
        connection.execute(
            select(worker.c.id).where(worker.c.id.in_(list(ids)), worker.c.state != "dead")
        ).scalars()
    )


_LEASE = (
    update(document)
    .where(document.c.id == bindparam("key"))
    .values(
        state=DocumentState.RUNNING,
        tried=True,
        lease_token=bindparam("token"),
        worker_id=bindparam("by"),
        calls=document.c.calls + bindparam("more_calls"),
    )
)


def _write_claims(connection: Connection, admitted: Sequence[tuple[Claim, Any]]) -> None:
    connection.execute(
        _LEASE,
        [
            {
                "key": wish.ticket.document_id,
                "token": wish.lease_token,
                "by": wish.worker_id,
                "more_calls": 0 if wish.again_of_stored else 1,
            }
            for wish, _ in admitted
        ],
    )
    calls = [(wish, row) for wish, row in admitted if not wish.again_of_stored]
    if not calls:
        return
    _store_requests(connection, [wish for wish, _ in calls])
    connection.execute(insert(attempt), [_attempt_row(wish, row) for wish, row in calls])
    held: Counter[str] = Counter()
    for wish, row in calls:
        held[budget_scope(row.batch_id)] += wish.hold_nusd or 0
    move_money(connection, held=held)


def _store_requests(connection: Connection, calls: Sequence[Claim]) -> None:
    # heads and tails are the same for all documents of a prompt version: mostly already there
    parts = {part for wish in calls for part in (wish.request_head, wish.request_tail) if part}
    blobs.store(connection, parts)


def _attempt_row(wish: Claim, row: Any) -> dict[str, Any]:
    tail = wish.request_tail
    return {
        "id": wish.attempt_id,
        "document_id": wish.ticket.document_id,
        "batch_id": row.batch_id,
        "number": row.calls + 1,
        "state": AttemptState.INTENT,
        "worker_id": wish.worker_id,
        "model": wish.model,
        "prompt_id": wish.prompt_id,
        "request_head_digest": content_digest(wish.request_head),
        "request_tail_digest": None if tail is None else content_digest(tail),
        "hold_nusd": wish.hold_nusd,
        "created_us": wish.now_us,
        "queue_wait_us": wish.queue_wait_us,
        "limiter_wait_us": wish.limiter_wait_us,
    }


def _put_back(
    connection: Connection, claims: Sequence[Claim], answers: Sequence[Refusal | None]
) -> None:
    for wish, refusal in zip(claims, answers, strict=True):
        match refusal:
            case None | Refusal.STALE:
                continue
            case Refusal.BUDGET_SPENT:
                _pause_spent_batch(connection, wish)
                _requeue(connection, wish.ticket, due_us=wish.now_us)
            case Refusal.BUDGET_WAIT:
                _requeue(connection, wish.ticket, due_us=wish.now_us + 500_000)
            case Refusal.BATCH_NOT_ACTIVE:
                _cancel_if_batch_is(connection, wish)
                _requeue(connection, wish.ticket, due_us=wish.now_us)
            case Refusal.WORKER_LOST:
                _requeue(connection, wish.ticket, due_us=wish.now_us)
            case _:
                assert_never(refusal)


def _pause_spent_batch(connection: Connection, wish: Claim) -> None:
    row = connection.execute(
        select(
            batch.c.id,
            batch.c.name,
            budget.c.limit_nusd,
            budget.c.settled_nusd,
            budget.c.ambiguous_nusd,
        )
        .select_from(document)
        .join(batch, batch.c.id == document.c.batch_id)
        .join(budget, budget.c.scope == "batch:" + batch.c.id)
        .where(document.c.id == wish.ticket.document_id)
    ).one()
    spent = (row.settled_nusd + row.ambiguous_nusd) / 1e9
    limit = row.limit_nusd / 1e9
    why = (
        f"price of model {wish.model} unknown, so its budget cannot be kept"
        if wish.hold_nusd is None
        else f"budget spent ({spent:.4f} of {limit:.4f} USD; the next call may cost "
        f"{wish.hold_nusd / 1e9:.4f})"
    )
    pause_batch(connection, row.id, why, now_us=wish.now_us)


def _cancel_if_batch_is(connection: Connection, wish: Claim) -> None:
    connection.execute(
        update(document)
        .where(
            document.c.id == wish.ticket.document_id,
            document.c.turn == wish.ticket.turn,
            document.c.state == DocumentState.READY,
            document.c.batch_id.in_(
                select(batch.c.id).where(batch.c.state == BatchState.CANCELLED)
            ),
        )
        .values(state=DocumentState.CANCELLED, finished_us=wish.now_us)
    )


def _requeue(connection: Connection, ticket: Ticket, *, due_us: int) -> None:
    connection.execute(
        update(document)
        .where(
            document.c.id == ticket.document_id,
            document.c.turn == ticket.turn,
            document.c.state == DocumentState.READY,
        )
        .values(state=DocumentState.QUEUED, due_us=due_us)
    )


@dataclass(frozen=True, slots=True)
class Release:
    """Put a ready document back in the queue without a call; free."""

    ticket: Ticket
    due_us: int


def release(connection: Connection, releases: Sequence[Release]) -> list[None]:
    """Put each document back that is still ready under its ticket."""
    for one in releases:
        _requeue(connection, one.ticket, due_us=one.due_us)
    return [None] * len(releases)
