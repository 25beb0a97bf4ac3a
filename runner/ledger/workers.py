"""Workers in the ledger: birth, heartbeat, death, and which one of them leads."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from runner.ledger.dialect import insert_new, one_at_a_time
from runner.ledger.tables import document, leader, worker

LEADER_ROLE = "feeder"
# a worker beats every 3 s; one that has not for this long is taken for lost when looked at
LOST_AFTER_S = 10.0
TRYING = "trying"  # a process that tries one document by itself: it takes nothing from the road


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker as the ledger has it."""

    id: str
    number: int
    host: str
    pid: int
    process_started_s: int
    state: str  # working, draining, trying, stopped, dead
    beats: int
    beat_us: int
    slots: int
    in_flight: int
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A sign of life."""

    worker_id: str
    state: str
    in_flight: int
    note: str | None
    now_us: int


def register(connection: Connection, newcomer: WorkerRow) -> WorkerRow:
    """Write a worker down; its number, unique in this ledger, is given here."""
    one_at_a_time(connection, "register a worker")
    highest = connection.execute(select(func.max(worker.c.number))).scalar()
    values = {name: getattr(newcomer, name) for name in WorkerRow.__slots__}
    values |= {"number": (highest or 0) + 1, "started_us": newcomer.beat_us}
    connection.execute(insert(worker).values(values))
    del values["started_us"]
    return WorkerRow(**values)


def beat(connection: Connection, beats: Sequence[Beat]) -> list[bool]:
    """Note signs of life; False for a worker that was taken for dead and must register anew."""
    return [
        connection.execute(
            update(worker)
            .where(worker.c.id == one.worker_id, worker.c.state != "dead")
            .values(
                state=one.state,
                beats=worker.c.beats + 1,
                beat_us=one.now_us,
                in_flight=one.in_flight,
                note=one.note,
            )
        ).rowcount
        == 1
        for one in beats
    ]


def living(connection: Connection, *, trying: bool = False) -> list[WorkerRow]:
    """Every worker that is neither stopped nor dead, as far as the ledger knows.

    With `trying`, those too that only try one document by themselves.
    """
    states = ["working", "draining", *([TRYING] if trying else [])]
    rows = connection.execute(
        select(worker).where(worker.c.state.in_(states)).order_by(worker.c.number)
    )
    return [WorkerRow(**{name: getattr(row, name) for name in WorkerRow.__slots__}) for row in rows]


def bury(connection: Connection, seen: WorkerRow, *, suspect: str | None = None) -> bool:
    """Take a worker for dead: it can claim nothing more, and its leases are swept.

    Its death counts against the `suspect`, the document whose job's code it was running.
    False, and nothing changes, when it has given a sign of life since it was `seen`, or is buried
    already: a commit whose answer got lost is tried again.
    """
    buried = (
        connection.execute(
            update(worker)
            .where(worker.c.id == seen.id, worker.c.beats == seen.beats, worker.c.state != "dead")
            .values(state="dead")
        ).rowcount
        == 1
    )
    if buried and suspect is not None:
        connection.execute(
            update(document).where(document.c.id == suspect).values(crashes=document.c.crashes + 1)
        )
    return buried


def leader_id(connection: Connection) -> str | None:
    """The worker that feeds and sweeps now."""
    return connection.execute(
        select(leader.c.worker_id).where(leader.c.role == LEADER_ROLE)
    ).scalar()


def take_lead(connection: Connection, worker_id: str, *, instead_of: str | None) -> bool:
    """Become leader, if `instead_of` still is the leader (None: if nobody is)."""
    if instead_of is None:
        insert_new(connection, leader, [{"role": LEADER_ROLE, "worker_id": worker_id}])
    else:
        connection.execute(
            update(leader)
            .where(leader.c.role == LEADER_ROLE, leader.c.worker_id == instead_of)
            .values(worker_id=worker_id)
        )
    return leader_id(connection) == worker_id


def resign(connection: Connection, worker_id: str) -> None:
    """Leave the lead to whoever comes next."""
    connection.execute(delete(leader).where(leader.c.worker_id == worker_id))
