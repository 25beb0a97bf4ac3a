"""Puts queued documents on the road in fair shares, and takes back what got stuck there."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from runner.keys import Ticket
from runner.ledger.dialect import chunks
from runner.ledger.standing import waiting_batches
from runner.ledger.tables import attempt, batch, document, leader, worker
from runner.ledger.work import history_of
from runner.model import AttemptState, BatchState, DocumentState, History


@dataclass(slots=True)
class Waiting:
    """What waits for a call: documents, and the bytes of their texts together."""

    documents: int = 0
    text_bytes: int = 0

    def add(self, documents: int, text_bytes: int) -> None:
        """Count more."""
        self.documents += documents
        self.text_bytes += text_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A leader's wish to have at most `window` documents on the road and in calls.

    Those whose first model is `m` are fed until `enough(m, waiting)` of them wait on the road: more
    would only fill slots, where they keep documents of other models from being called.
    """

    worker_id: str
    window: int
    now_us: int
    enough: Callable[[str, Waiting], bool] = lambda _, __: False


# a batch of weight 0 has a tenth of a usual one's share: it must not wait for ever
LIGHT_WEIGHT = 0.1


@dataclass(slots=True)
class _Share:
    batch_id: str
    weight: float
    model: str  # the first of its ladder
    on_road: int
    waiting: Iterator[Any]


def feed(connection: Connection, feeds: Sequence[Feed]) -> list[list[Ticket]]:
    """Move due documents from queued to ready, each with a new turn; batches share by weight.

    Gives nothing to a worker that does not lead (any more).
    """
    return [_feed(connection, one) for one in feeds]


def _feed(connection: Connection, wish: Feed) -> list[Ticket]:
    if not _leads(connection, wish.worker_id):
        return []
    on_road, ready = _on_road(connection)
    room = wish.window - on_road.total()
    if room <= 0:
        return []
    shares = _shares(connection, on_road, room=room, now_us=wish.now_us)
    ready_of = _by_model(connection, ready)
    chosen = list(_deal(shares, room, ready=ready_of, enough=wish.enough))
    if chosen:
        connection.execute(_READY, [{"key": row.id} for row in chosen])
    return [Ticket(row.id, row.turn + 1) for row in chosen]


_READY = (
    update(document)
    .where(document.c.id == bindparam("key"), document.c.state == DocumentState.QUEUED)
    .values(state=DocumentState.READY, turn=document.c.turn + 1)
)


def _on_road(connection: Connection) -> tuple[Counter[str], dict[str, Waiting]]:
    """By batch: documents on the road and in calls, and those of them that wait for a call."""
    rows = connection.execute(
        select(
            document.c.batch_id,
            document.c.state,
            func.count(),
            func.sum(document.c.text_bytes),
        )
        .where(document.c.state.in_([DocumentState.READY, DocumentState.RUNNING]))
        .group_by(document.c.batch_id, document.c.state)
    )
    on_road: Counter[str] = Counter()
    ready: dict[str, Waiting] = {}
    for batch_id, state, count, text_bytes in rows:
        on_road[batch_id] += count
        if state == DocumentState.READY:
            ready[batch_id] = Waiting(count, int(text_bytes))
    return on_road, ready


def _by_model(connection: Connection, ready: Mapping[str, Waiting]) -> defaultdict[str, Waiting]:
    """What waits for a call, by the first model of its batch's ladder.

    Batches count that have nothing left to feed: they fill slots like any other.
    """
    of_model: defaultdict[str, Waiting] = defaultdict(Waiting)
    for some in chunks(ready):
        query = select(batch.c.id, batch.c.models_json).where(batch.c.id.in_(some))
        for row in connection.execute(query):
            of_batch = ready[row.id]
            of_model[_first_model(row)].add(of_batch.documents, of_batch.text_bytes)
    return of_model


def _first_model(row: Any) -> str:
    return str(json.loads(row.models_json)[0])


def _shares(
    connection: Connection,
    on_road: Counter[str],
    *,
    room: int,
    now_us: int,
) -> list[_Share]:
    rows = [
        row
        for some in chunks(waiting_batches(connection))
        for row in connection.execute(
            select(batch.c.id, batch.c.weight, batch.c.models_json).where(
                # of a cancelled one only paid answers wait, to be read for their cost
                batch.c.id.in_(some),
                batch.c.state.in_([BatchState.ACTIVE, BatchState.CANCELLED]),
            )
        )
    ]
    page = 1 + 2 * room // max(1, len(rows))
    return [
        _Share(
            row.id,
            row.weight or LIGHT_WEIGHT,
            _first_model(row),
            on_road[row.id],
            _due(connection, row.id, page=page, now_us=now_us),
        )
        for row in rows
    ]


def _due(connection: Connection, batch_id: str, *, page: int, now_us: int) -> Iterator[Any]:
    """A batch's due documents, those that were called before first, then in order of submission."""
    for tried in (True, False):
        yield from _due_of_kind(connection, batch_id, tried=tried, page=page, now_us=now_us)


def _due_of_kind(
    connection: Connection, batch_id: str, *, tried: bool, page: int, now_us: int
) -> Iterator[Any]:
    """Read a page at a time, as places are given."""
    offset = 0
    while True:
        due = connection.execute(
            select(document.c.id, document.c.turn, document.c.text_bytes)
            .where(
                document.c.batch_id == batch_id,
                document.c.state == DocumentState.QUEUED,
                document.c.tried.is_(tried),
                document.c.due_us <= now_us,
                document.c.worker_id.is_(None),  # else a process tries it by itself
            )
            .order_by(document.c.due_us, document.c.position)
            .limit(page)
            .offset(offset)
        ).all()
        yield from due
        if len(due) < page:
            return
        offset += page


def _deal(
    shares: Sequence[_Share],
    room: int,
    *,
    ready: defaultdict[str, Waiting],
    enough: Callable[[str, Waiting], bool],
) -> Iterator[Any]:
    """Give one place at a time to the batch that has the fewest for its weight.

    `ready`, by model, counts what is given too.
    """
    line = [(share.on_road / share.weight, share.batch_id, share) for share in shares]
    heapify(line)
    while room and line:
        _, batch_id, poorest = line[0]
        waiting = ready[poorest.model]
        row = None if enough(poorest.model, waiting) else next(poorest.waiting, None)
        if row is None:
            heappop(line)
            continue
        poorest.on_road += 1
        waiting.add(1, row.text_bytes)
        heapreplace(line, (poorest.on_road / poorest.weight, batch_id, poorest))
        room -= 1
        yield row


def _leads(connection: Connection, worker_id: str) -> bool:
    held_by = connection.execute(select(leader.c.worker_id).where(leader.c.role == "feeder"))
    return bool(held_by.scalar() == worker_id)


def ready_tickets(connection: Connection) -> list[Ticket]:
    """Every document whose id should be on the road."""
    rows = connection.execute(
        select(document.c.id, document.c.turn).where(
            document.c.state == DocumentState.READY, document.c.worker_id.is_(None)
        )
    )
    return [Ticket(row.id, row.turn) for row in rows]


def take_back(connection: Connection, tickets: Iterable[Ticket], *, now_us: int) -> int:
    """Queue again what is still ready under these tickets; how many were."""
    taken = 0
    for ticket in tickets:
        taken += connection.execute(
            update(document)
            .where(
                document.c.id == ticket.document_id,
                document.c.turn == ticket.turn,
                document.c.state == DocumentState.READY,
            )
            .values(state=DocumentState.QUEUED, due_us=now_us)
        ).rowcount
    return taken


def bring_forward(connection: Connection, *, by_us: int) -> None:
    """The clock was set back: nobody is to wait longer because of it."""
    connection.execute(
        update(document)
        .where(document.c.state == DocumentState.QUEUED)
        .values(due_us=document.c.due_us - by_us)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A document whose worker died while it ran, and its live attempt."""

    ticket: Ticket
    lease_token: str
    worker_id: str
    history: History
    models: tuple[str, ...]
    job: str
    prompt_version: str
    model: str  # of the live attempt
    prompt_id: str
    attempt_id: str | None
    hold_nusd: int | None
    answered: bool


def orphans(connection: Connection, *, now_us: int) -> list[Orphan]:
    """Running documents whose worker is dead or stopped."""
    rows = connection.execute(
        select(
            document,
            batch.c.models_json.label("batch_models_json"),
            batch.c.prompt_version.label("batch_prompt_version"),
            batch.c.job,
            attempt.c.id.label("attempt_id"),
            attempt.c.model.label("attempt_model"),
            attempt.c.prompt_id.label("attempt_prompt_id"),
            attempt.c.hold_nusd,
            attempt.c.state.label("attempt_state"),
        )
        .join(batch, batch.c.id == document.c.batch_id)
        .join(worker, worker.c.id == document.c.worker_id)
        .outerjoin(
            attempt,
            (attempt.c.document_id == document.c.id)
            & attempt.c.state.in_([AttemptState.INTENT, AttemptState.ANSWERED]),
        )
        .where(document.c.state == DocumentState.RUNNING, worker.c.state.in_(["dead", "stopped"]))
    )
    return [
        Orphan(
            ticket=Ticket(row.id, row.turn),
            lease_token=row.lease_token,
            worker_id=row.worker_id,
            history=history_of(row, now_us=now_us),
            models=tuple(json.loads(row.models_json or row.batch_models_json)),
            job=row.job,
            prompt_version=row.prompt_version or row.batch_prompt_version,
            model=row.attempt_model or "",
            prompt_id=row.attempt_prompt_id or "",
            attempt_id=row.attempt_id,
            hold_nusd=row.hold_nusd,
            answered=row.attempt_state == AttemptState.ANSWERED,
        )
        for row in rows
    ]


def free_answered(connection: Connection, orphaned: Iterable[Orphan], *, now_us: int) -> None:
    """Queue documents again whose raw answer is stored: the next turn reads it and pays nothing."""
    for one in orphaned:
        connection.execute(
            update(document)
            .where(
                document.c.id == one.ticket.document_id,
                document.c.lease_token == one.lease_token,
                document.c.state == DocumentState.RUNNING,
            )
            .values(
                state=DocumentState.QUEUED,
                due_us=now_us,
                lease_token=None,
                worker_id=None,
            )
        )
