"""Pauses of keys: what a provider refuses a key for stops every batch that is called with it.

A key without money is tried again by itself: one document is let through every five minutes, and
its answer decides. Whatever else a person has to mend, a person resumes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from runner.keys import Ticket
from runner.lanes import Lane
from runner.ledger.dialect import insert_new
from runner.ledger.events import note, note_documents
from runner.ledger.pausing import (
    held_by,
    held_by_past_days,
    leave_past_days,
    let_go_on,
    pause_batch,
)
from runner.ledger.raising import KEY_PAUSED, Raised, raise_alert
from runner.ledger.tables import attempt, batch, document, key_pause
from runner.model import (
    KEY_FAULTS,
    AttemptState,
    BatchState,
    DocumentState,
    Failure,
    Fault,
    Pauses,
)

PROBE_EVERY_US = 300_000_000
PROBE_AGAIN_US = 10_000_000  # after a try that told nothing of the key
KEY, LANE = "key:", "lane:"

_WORDS: Mapping[str, str] = {
    Fault.MONEY_OUT: "has no money left",
    Fault.BAD_KEY: "does not work",
    Fault.NO_PERMISSION: "has no permission",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPause:
    """A key, or a key for one model, with which nothing is called now."""

    scope: str
    name: str
    fault: str
    reason: str
    since_us: int
    probe_us: int | None  # when one document may try it; none: only a person resumes
    probe_document_id: str | None

    @property
    def words(self) -> str:
        """What is the matter, for a person."""
        said = f"{self.name} {_WORDS.get(self.fault, 'is paused')}: {self.reason}"
        if self.probe_us is None:
            return said
        return f"{said}; one document tries it again every {PROBE_EVERY_US // 60_000_000} min"


def lane_scopes(lane: Lane | None) -> tuple[str, ...]:
    """Whose pauses keep this lane from being called."""
    return () if lane is None else (KEY + lane.key_id, LANE + lane.id)


def key_pauses(connection: Connection, scopes: Iterable[str]) -> dict[str, KeyPause]:
    """Those of the scopes that are paused."""
    rows = connection.execute(select(key_pause).where(key_pause.c.scope.in_(list(scopes))))
    return {row.scope: _from_row(row) for row in rows}


def all_key_pauses(connection: Connection) -> list[KeyPause]:
    """Every key that is paused, the longest first."""
    rows = connection.execute(select(key_pause).order_by(key_pause.c.since_us, key_pause.c.scope))
    return [_from_row(row) for row in rows]


def _from_row(row: Any) -> KeyPause:
    return KeyPause(**{name: getattr(row, name) for name in KeyPause.__slots__})


def pause_key(
    connection: Connection,
    batch_id: str,
    *,
    lane: Lane,
    pauses: Pauses,
    failure: Failure,
    now_us: int,
) -> None:
    """Pause the lane, or its whole key, and the batch that met it; others follow at the gate.

    A pause that stands keeps its first reason.
    """
    whole = pauses is Pauses.KEY
    scope = KEY + lane.key_id if whole else LANE + lane.id
    out_of_money = failure.fault is Fault.MONEY_OUT
    insert_new(
        connection,
        key_pause,
        [
            {
                "scope": scope,
                "name": lane.key_words if whole else f"{lane.key_words} for {lane.model}",
                "fault": failure.fault,
                "reason": failure.message,
                "since_us": now_us,
                "probe_us": now_us + PROBE_EVERY_US if out_of_money else None,
            }
        ],
    )
    pause = key_pauses(connection, [scope])[scope]
    told = Raised(
        kind=KEY_PAUSED, key=f"{scope}:{pause.since_us}", scope=scope, message=pause.words
    )
    raise_alert(connection, told, now_us=now_us)
    pause_batch(connection, batch_id, pause.words, now_us=now_us, scope=scope)


def lift(connection: Connection, scope: str, why: str, *, now_us: int) -> dict[str, str]:
    """End the pause of a key; names by id of the batches that it held and that go on."""
    connection.execute(delete(key_pause).where(key_pause.c.scope == scope))
    held = held_by(connection, scope)
    let_go_on(connection, list(held), why, now_us=now_us)
    return held


def forget_unless_needed(connection: Connection, scope: str) -> None:
    """End the pause of a key that holds no batch any more: the next one finds out by one call."""
    if not held_by(connection, scope):
        connection.execute(delete(key_pause).where(key_pause.c.scope == scope))


# ------------------------------------------------------------ probes


def _probes_due(connection: Connection, *, now_us: int) -> list[KeyPause]:
    """Pauses that one document may try now, and none does."""
    tries = select(document.c.id).where(
        document.c.id == key_pause.c.probe_document_id,
        document.c.state.in_([DocumentState.READY, DocumentState.RUNNING]),
    )
    rows = connection.execute(
        select(key_pause).where(key_pause.c.probe_us <= now_us, ~tries.exists())
    )
    return [_from_row(row) for row in rows]


def _let_probe_through(connection: Connection, pause: KeyPause, *, now_us: int) -> Ticket | None:
    """Make one due document ready of a batch that this pause holds; None when none is due.

    Its waiting is forgiven: it is not the document's fault that it has waited so long.
    """
    row = _probe(connection, pause.scope, now_us=now_us)
    if row is None:
        return None
    taken = connection.execute(
        update(key_pause)
        .where(
            key_pause.c.scope == pause.scope,
            key_pause.c.probe_document_id.is_(None)
            if pause.probe_document_id is None
            else key_pause.c.probe_document_id == pause.probe_document_id,
        )
        .values(probe_document_id=row.id)
    ).rowcount
    if not taken:
        return None
    connection.execute(
        update(document)
        .where(document.c.id == row.id)
        .values(state=DocumentState.READY, turn=row.turn + 1, deferred_since_us=None)
    )
    why = f"tries whether {pause.name} works again"
    note_documents(connection, "key_probe", why, document_ids=[row.id], now_us=now_us)
    return Ticket(row.id, row.turn + 1)


def _probe(connection: Connection, scope: str, *, now_us: int) -> Any:
    """A due document that would be called; those go first that were called before."""
    answered = select(attempt.c.id).where(
        attempt.c.document_id == document.c.id, attempt.c.state == AttemptState.ANSWERED
    )
    for batch_id in held_by(connection, scope):
        for tried in (True, False):
            row = connection.execute(
                select(document.c.id, document.c.turn)
                .where(
                    document.c.batch_id == batch_id,
                    document.c.state == DocumentState.QUEUED,
                    document.c.tried.is_(tried),
                    document.c.due_us <= now_us,
                    ~answered.exists(),
                )
                .order_by(document.c.due_us, document.c.position)
                .limit(1)
                .with_for_update()
            ).first()
            if row is not None:
                return row
    return None


@dataclass(frozen=True, slots=True)
class Told:
    """What the end of a turn tells of a key."""

    fault: Fault | None
    called: bool  # a request may have left
    lane: Lane | None


def conclude_probes(connection: Connection, told: Mapping[str, Told], *, now_us: int) -> None:
    """End the pauses whose probe got through, and put off the next try of the others.

    `told` is by document. A call that was never sent says nothing, nor does one of another key.
    """
    tried = connection.execute(
        select(key_pause).where(key_pause.c.probe_document_id.in_(list(told)))
    ).all()
    for row in tried:
        end = told[row.probe_document_id]
        if end.fault in KEY_FAULTS:
            _put_off(connection, row.scope, until_us=now_us + PROBE_EVERY_US)
        elif end.called and row.scope in lane_scopes(end.lane):
            lift(connection, row.scope, f"{row.name} works again", now_us=now_us)
            note(connection, "key_resumed", f"{row.name} works again", now_us=now_us)
        else:
            _put_off(connection, row.scope, until_us=now_us + PROBE_AGAIN_US)


def _put_off(connection: Connection, scope: str, *, until_us: int) -> None:
    connection.execute(
        update(key_pause)
        .where(key_pause.c.scope == scope)
        .values(probe_us=until_us, probe_document_id=None)
    )


# ------------------------------------------------------------ what ends by itself


def is_over(connection: Connection, *, now_us: int) -> bool:
    """Whether `end_what_is_over` has something to do; cheap enough to ask every second."""
    return bool(
        held_by_past_days(connection, now_us=now_us)
        or _held_by_no_pause(connection)
        or _probes_due(connection, now_us=now_us)
    )


def end_what_is_over(connection: Connection, *, now_us: int) -> list[Ticket]:
    """Let batches go on whose pause is over, and one document try each key whose time has come.

    Returns the tickets of those documents, which are ready and belong on the road.
    """
    leave_past_days(connection, now_us=now_us)
    let_go_on(connection, _held_by_no_pause(connection), "its key works again", now_us=now_us)
    probes = [
        _let_probe_through(connection, pause, now_us=now_us)
        for pause in _probes_due(connection, now_us=now_us)
    ]
    return [ticket for ticket in probes if ticket is not None]


def _held_by_no_pause(connection: Connection) -> list[str]:
    """Ids of batches that the pause of a key holds which has ended meanwhile.

    A pause that ends at the very moment at which a batch meets it can leave one behind.
    """
    scope = batch.c.pause_scope
    rows = connection.execute(
        select(batch.c.id).where(
            batch.c.state == BatchState.PAUSED,
            scope.startswith(KEY, autoescape=True) | scope.startswith(LANE, autoescape=True),
            scope.not_in(select(key_pause.c.scope)),
        )
    )
    return list(rows.scalars())
