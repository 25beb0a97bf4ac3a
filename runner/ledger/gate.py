"""The gate before a call: lease, intent and hold in one transaction, or a refusal as a value."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from sqlalchemy import Connection, bindparam, insert, select, update

from runner.keys import Ticket, content_digest
from runner.lanes import Lane
from runner.ledger import blobs
from runner.ledger.dialect import insert_new
from runner.ledger.keypauses import KeyPause, key_pauses, lane_scopes
from runner.ledger.money import DAY, larger_limit_nusd, move_money, scopes_of
from runner.ledger.pausing import pause_batch
from runner.ledger.tables import attempt, batch, budget, document, worker
from runner.model import AttemptState, BatchState, DocumentState

BUDGET_WAIT_US = 500_000


class Refusal(StrEnum):
    """Why a document may not be called for now."""

    STALE = "stale"  # another turn, or not ready any more
    BATCH_NOT_ACTIVE = "batch_not_active"
    KEY_PAUSED = "key_paused"
    BUDGET_WAIT = "budget_wait"  # only holds of running calls are in the way
    BUDGET_SPENT = "budget_spent"
    PRICE_UNKNOWN = "price_unknown"  # and a limit that could not be kept
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
    lane: Lane | None = None  # who would be asked: a pause of its key is in the way
    day_limit_nusd: int | None = None  # of all batches together, by this worker's settings
    needs_price: bool = False  # its document has a ceiling


@dataclass(frozen=True, slots=True)
class _Refused:
    """A refusal, and what its batch pauses with, when it does."""

    refusal: Refusal
    why: str = ""
    scope: str | None = None  # whose pause it is; none: the batch's own


@dataclass(slots=True)
class _Money:
    limit_nusd: int | None
    spent_nusd: int
    held_nusd: int

    def refusal(self, hold_nusd: int, limit_nusd: int) -> Refusal | None:
        """Why this much may not be held in addition."""
        if self.spent_nusd + self.held_nusd + hold_nusd <= limit_nusd:
            return None
        waits = self.spent_nusd + hold_nusd <= limit_nusd
        return Refusal.BUDGET_WAIT if waits else Refusal.BUDGET_SPENT


@dataclass(frozen=True, slots=True)
class _Present:
    """How things stand before a group of claims; the money moves with each that is admitted."""

    living: frozenset[str]
    money: Mapping[str, _Money]
    pauses: Mapping[str, KeyPause]


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
                batch.c.name.label("batch_name"),
                batch.c.state.label("batch_state"),
                batch.c.pause_scope,
                batch.c.simulated,
            )
            .join(batch, batch.c.id == document.c.batch_id)
            .where(document.c.id.in_([wish.ticket.document_id for wish in claims]))
            .with_for_update()
        )
    }
    present = _look(connection, claims, rows)
    answers: list[_Refused | None] = []
    admitted: list[tuple[Claim, Any]] = []
    for wish in claims:
        row = rows.get(wish.ticket.document_id)
        if row is not None and row.lease_token == wish.lease_token:
            answers.append(None)
            continue
        refused = _refused(wish, row, present)
        if refused is None and row is not None:
            rows.pop(row.id)  # a second claim of one turn in one group is stale
            admitted.append((wish, row))
            for scope in _scopes(wish, row):
                present.money[scope].held_nusd += wish.hold_nusd or 0
        answers.append(refused)
    if admitted:
        _write_claims(connection, admitted)
    _put_back(connection, zip(claims, answers, strict=True), rows)
    return [None if refused is None else refused.refusal for refused in answers]


def _look(connection: Connection, claims: Sequence[Claim], rows: Mapping[str, Any]) -> _Present:
    pairs = [(wish, rows.get(wish.ticket.document_id)) for wish in claims]
    scopes = {scope for wish, row in pairs if row is not None for scope in _scopes(wish, row)}
    paused = {scope for wish in claims for scope in lane_scopes(wish.lane)}
    paused |= {row.pause_scope for row in rows.values() if row.pause_scope is not None}
    return _Present(
        living=_living_workers(connection, {wish.worker_id for wish in claims}),
        money=_money(connection, scopes),
        pauses=key_pauses(connection, paused),
    )


def _scopes(wish: Claim, row: Any) -> tuple[str, ...]:
    """Where a claim's hold counts."""
    if wish.again_of_stored:
        return ()
    return scopes_of(row.batch_id, simulated=row.simulated, at_us=wish.now_us)


def _refused(wish: Claim, row: Any, present: _Present) -> _Refused | None:
    if wish.worker_id not in present.living:
        return _Refused(Refusal.WORKER_LOST)
    if row is None or row.turn != wish.ticket.turn or row.state != DocumentState.READY:
        return _Refused(Refusal.STALE)
    probes = _probes(wish, row, present)
    # an answer that was paid for is read even after a cancellation: its cost has to be settled
    settles = wish.again_of_stored and row.batch_state == BatchState.CANCELLED
    if row.batch_state != BatchState.ACTIVE and not settles and not probes:
        return _Refused(Refusal.BATCH_NOT_ACTIVE)
    if wish.again_of_stored:
        return None
    return _key_refused(wish, present) or _money_refused(wish, row, present)


def _probes(wish: Claim, row: Any, present: _Present) -> bool:
    """Whether this is the one document of a paused batch that tries its key again."""
    if row.batch_state != BatchState.PAUSED or row.pause_scope not in present.pauses:
        return False
    return present.pauses[row.pause_scope].probe_document_id == wish.ticket.document_id


def _key_refused(wish: Claim, present: _Present) -> _Refused | None:
    for scope in lane_scopes(wish.lane):
        pause = present.pauses.get(scope)
        if pause is not None and pause.probe_document_id != wish.ticket.document_id:
            return _Refused(Refusal.KEY_PAUSED, pause.words, scope)
    return None


def _money_refused(wish: Claim, row: Any, present: _Present) -> _Refused | None:
    """The refusal of the scope that is spent, or of one that has to wait for holds."""
    limits = {
        scope: limit_nusd
        for scope in _scopes(wish, row)
        if (limit_nusd := _limit_nusd(wish, scope, present.money[scope])) is not None
    }
    if wish.hold_nusd is None:
        if not limits and not wish.needs_price:
            return None
        why = f"price of model {wish.model} unknown, so its budget cannot be kept"
        return _Refused(Refusal.PRICE_UNKNOWN, why)
    waits: _Refused | None = None
    for scope, limit_nusd in limits.items():
        money = present.money[scope]
        match money.refusal(wish.hold_nusd, limit_nusd):
            case Refusal.BUDGET_SPENT:
                return _spent(wish, row, scope, spent_nusd=money.spent_nusd, limit_nusd=limit_nusd)
            case Refusal.BUDGET_WAIT:
                waits = _Refused(Refusal.BUDGET_WAIT)
    return waits


def _limit_nusd(wish: Claim, scope: str, money: _Money) -> int | None:
    by_settings_nusd = wish.day_limit_nusd if scope.startswith(DAY) else None
    return larger_limit_nusd(money.limit_nusd, by_settings_nusd)


def _spent(wish: Claim, row: Any, scope: str, *, spent_nusd: int, limit_nusd: int) -> _Refused:
    assert wish.hold_nusd is not None
    figures = (
        f"spent ({spent_nusd / 1e9:.4f} of {limit_nusd / 1e9:.4f} USD; the next call may cost "
        f"{wish.hold_nusd / 1e9:.4f})"
    )
    if not scope.startswith(DAY):
        return _Refused(Refusal.BUDGET_SPENT, f"budget {figures}")
    why = (
        f"budget of the day {scope.removeprefix(DAY)} {figures}; it goes on at 00:00 UTC, or with "
        f"`runner batch resume {shlex.quote(row.batch_name)} --day-budget-usd USD`"
    )
    return _Refused(Refusal.BUDGET_SPENT, why, scope)


def _money(connection: Connection, scopes: Iterable[str]) -> dict[str, _Money]:
    found = _budgets(connection, scopes)
    if missing := set(scopes) - set(found):  # days that begin
        insert_new(connection, budget, [{"scope": scope} for scope in sorted(missing)])
        found |= _budgets(connection, missing)
    return found


def _budgets(connection: Connection, scopes: Iterable[str]) -> dict[str, _Money]:
    rows = connection.execute(
        select(budget)
        .where(budget.c.scope.in_(list(scopes)))
        .order_by(budget.c.scope)  # locked in one order, as `move_money` does
        .with_for_update()
    )
    return {
        row.scope: _Money(row.limit_nusd, row.settled_nusd + row.ambiguous_nusd, row.held_nusd)
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
        for scope in _scopes(wish, row):
            held[scope] += wish.hold_nusd or 0
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
    connection: Connection,
    answered: Iterable[tuple[Claim, _Refused | None]],
    rows: Mapping[str, Any],
) -> None:
    for wish, refused in answered:
        if refused is None:
            continue
        due_us = wish.now_us
        match refused.refusal:
            case Refusal.STALE:
                continue
            case Refusal.BUDGET_SPENT | Refusal.PRICE_UNKNOWN | Refusal.KEY_PAUSED:
                batch_id = rows[wish.ticket.document_id].batch_id
                pause_batch(
                    connection, batch_id, refused.why, now_us=wish.now_us, scope=refused.scope
                )
            case Refusal.BUDGET_WAIT:
                due_us += BUDGET_WAIT_US
            case Refusal.BATCH_NOT_ACTIVE:
                _cancel_if_batch_is(connection, wish)
            case Refusal.WORKER_LOST:
                pass
            case _:
                assert_never(refused.refusal)
        _requeue(connection, wish.ticket, due_us=due_us)


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
