"""Group commit: many callers, one transaction; each answered after it, and none ever lost."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from runner.errors import LedgerError
from runner.ledger import Ledger, writer
from runner.ledger.engine import is_transient, open_engine, sqlite_url
from runner.ledger.tables import event
from runner.ledger.writer import GATHER_MAX_S, GATHER_S

LONG_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(sqlite_url(path))
    yield ledger
    ledger.close()


def note_all(connection: Connection, kinds: Sequence[str]) -> list[int]:
    """Write events; answers with the size of the group."""
    rows = [{"at_us": 0, "kind": kind, "message": ""} for kind in kinds]
    connection.execute(insert(event), rows)
    if "bad" in kinds:
        raise ValueError("this caller's fault")
    return [len(kinds)] * len(kinds)


def count_all(connection: Connection, _: Sequence[None]) -> list[int]:
    counted = connection.execute(select(func.count()).select_from(event)).scalar_one()
    return [counted] * len(_)


def kinds_in(path: Path) -> list[str]:
    """What another process would see."""
    with sqlite3.connect(path) as other:
        rows = other.execute("SELECT kind FROM event ORDER BY id").fetchall()
    other.close()
    return [kind for (kind,) in rows]


class Blocker:
    """Another connection that holds the write lock until told to let go."""

    def __init__(self, path: Path) -> None:
        self._other = sqlite3.connect(path, check_same_thread=False)
        self._other.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        """End the transaction."""
        self._other.rollback()
        self._other.close()


async def test_a_caller_is_answered_after_its_commit(ledger: Ledger, path: Path) -> None:
    await ledger.write(note_all, "one")
    assert kinds_in(path) == ["one"]
    assert await ledger.read(count_all, None) == 1


async def test_callers_that_come_together_share_transactions_and_keep_their_order(
    ledger: Ledger, path: Path
) -> None:
    blocker = Blocker(path)
    first = asyncio.create_task(ledger.write(note_all, "0"))
    async with asyncio.timeout(LONG_S):
        while not ledger.is_waited_for:  # noqa: ASYNC110 - a lock gives no signal
            await asyncio.sleep(0.005)
    others = [asyncio.create_task(ledger.write(note_all, str(n))) for n in range(1, 300)]
    await asyncio.sleep(0.05)
    blocker.let_go()
    assert await first == 1
    assert await asyncio.gather(*others) == [299] * 299
    assert kinds_in(path) == [str(number) for number in range(300)]


async def test_a_failing_caller_fails_alone_and_its_group_loses_nothing(
    ledger: Ledger, path: Path
) -> None:
    kinds = ["a", "bad", "b", "c"]
    ends = await asyncio.gather(
        *(ledger.write(note_all, kind) for kind in kinds), return_exceptions=True
    )
    assert [isinstance(end, ValueError) for end in ends] == [False, True, False, False]
    assert sorted(kinds_in(path)) == ["a", "b", "c"]


async def test_an_error_of_the_database_never_quotes_what_was_to_be_written(ledger: Ledger) -> None:
    def fail(connection: Connection) -> None:
        row = {"at_us": None, "kind": "k", "message": "a secret text"}
        connection.execute(insert(event).values(row))

    with pytest.raises(IntegrityError) as caught:
        await ledger.write_one(fail)
    assert "secret" not in str(caught.value)


async def test_a_cancelled_callers_operation_is_committed_all_the_same(
    ledger: Ledger, path: Path
) -> None:
    blocker = Blocker(path)
    caller = asyncio.create_task(ledger.write(note_all, "left"))
    await asyncio.sleep(0.05)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    blocker.let_go()
    await ledger.write(note_all, "stayed")
    assert kinds_in(path) == ["left", "stayed"]


async def test_a_database_locked_for_a_second_delays_and_loses_nothing(
    ledger: Ledger, path: Path
) -> None:
    blocker = Blocker(path)
    began_s = time.monotonic()
    threading.Timer(1.0, blocker.let_go).start()
    await asyncio.gather(*(ledger.write(note_all, str(number)) for number in range(50)))
    assert 0.9 < time.monotonic() - began_s < LONG_S
    assert len(kinds_in(path)) == 50


async def test_a_full_disk_is_waited_out_and_shown_meanwhile(
    ledger: Ledger, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = iter([True, True, False])
    troubles = []

    def while_full(connection: Connection) -> str:
        troubles.append(ledger.trouble)
        connection.execute(insert(event).values(at_us=0, kind="kept", message=""))
        if next(failures):
            raise OperationalError(
                "COMMIT", {}, sqlite3.OperationalError("database or disk is full")
            )
        return "written"

    assert await ledger.write_one(while_full) == "written"
    assert troubles[0] is None
    assert [trouble is not None and "full" in trouble for trouble in troubles[1:]] == [True, True]
    assert ledger.trouble is None
    assert kinds_in(path) == ["kept"]
    assert capsys.readouterr().err.count("waiting until it can be written") == 1


async def test_a_real_limit_of_the_files_size_is_waited_out(ledger: Ledger, path: Path) -> None:
    limited: list[int] = []

    def grow(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        # the third try finds room again
        room = 10_000_000 if len(limited) == 2 else pages
        limited.append(connection.exec_driver_sql(f"PRAGMA max_page_count = {room}").scalar_one())
        connection.execute(insert(event).values(at_us=0, kind="large", message="x" * 100_000))

    await ledger.write_one(grow)
    assert len(limited) == 3
    assert kinds_in(path) == ["large"]


async def test_closing_commits_what_is_queued(path: Path) -> None:
    ledger = Ledger(sqlite_url(path))
    blocker = Blocker(path)
    callers = [asyncio.create_task(ledger.write(note_all, str(number))) for number in range(20)]
    await asyncio.sleep(0.05)
    threading.Timer(0.2, blocker.let_go).start()
    await asyncio.to_thread(ledger.close)
    await asyncio.gather(*callers)
    assert len(kinds_in(path)) == 20
    with pytest.raises(LedgerError, match="closed"):
        await ledger.write(note_all, "late")
    ledger.close()


async def test_closing_while_the_disk_is_full_fails_every_caller_and_none_hangs(path: Path) -> None:
    ledger = Ledger(sqlite_url(path))
    tries = 0

    def full(connection: Connection, some: Sequence[int]) -> list[None]:
        nonlocal tries
        tries += 1
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    callers = [asyncio.create_task(ledger.write(full, number)) for number in range(9)]
    await asyncio.sleep(0.1)
    await asyncio.to_thread(ledger.close)
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(end) for end in ends] == [OperationalError] * 9
    assert tries < 9


def test_an_event_loop_that_is_gone_does_not_stop_the_writer(ledger: Ledger, path: Path) -> None:
    blocker = Blocker(path)
    loop = asyncio.new_event_loop()
    caller = loop.create_task(ledger.write(note_all, "left"))
    loop.run_until_complete(asyncio.sleep(0.05))
    caller.cancel()
    loop.run_until_complete(asyncio.gather(caller, return_exceptions=True))
    loop.close()
    blocker.let_go()
    assert asyncio.run(ledger.write(note_all, "next")) == 1
    assert kinds_in(path) == ["left", "next"]


async def test_two_writers_of_one_file_both_finish_and_lose_nothing(
    ledger: Ledger, path: Path
) -> None:
    other = Ledger(sqlite_url(path))

    async def write_one_after_another(one: Ledger, name: str) -> None:
        for number in range(25):
            await one.write(note_all, f"{name} {number}")

    writers = {
        f"{whose} {task}": one
        for whose, one in (("one", ledger), ("two", other))
        for task in range(8)
    }
    try:
        await asyncio.gather(*(write_one_after_another(one, name) for name, one in writers.items()))
    finally:
        other.close()
    kinds = kinds_in(path)
    assert len(kinds) == 25 * len(writers)
    for name in writers:
        own = [kind for kind in kinds if kind.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(25)]
    assert (ledger.trouble, other.trouble) == (None, None)


async def test_a_command_comes_through_beside_a_writer_that_never_rests(
    ledger: Ledger, path: Path
) -> None:
    over = asyncio.Event()

    async def write_on() -> None:
        while not over.is_set():
            await ledger.write(note_all, "writer")

    def command() -> None:
        other = Ledger(sqlite_url(path))
        for _ in range(20):
            with other.transaction() as connection:
                note_all(connection, ["command"])
        other.close()

    writing = [asyncio.create_task(write_on()) for _ in range(3)]
    try:
        await asyncio.to_thread(command)
    finally:
        over.set()
        await asyncio.gather(*writing)
    assert kinds_in(path).count("command") == 20


def test_an_error_at_the_beginning_of_a_transaction_is_translated_and_leaves_it_usable(
    path: Path,
) -> None:
    engine = open_engine(sqlite_url(path))
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        patience = raw.execute("PRAGMA busy_timeout").fetchone()

        def forbid_transactions(action: int, *_: object) -> int:
            return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else 0

        raw.set_authorizer(forbid_transactions)
        with pytest.raises(DatabaseError, match="not authorized"):
            connection.begin()
        raw.set_authorizer(None)
        assert raw.execute("PRAGMA busy_timeout").fetchone() == patience
    with engine.connect() as connection, connection.begin():
        note_all(connection, ["after"])
    engine.dispose()
    assert kinds_in(path) == ["after"]


@dataclass
class HandClock:
    """The time of a writer, moved by its operations; what it slept is what it gathered for."""

    now_s: float = 0.0
    slept_s: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """The time of now."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Note it, and let no time pass."""
        self.slept_s.append(seconds)


async def gathered_s(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *took_s: float
) -> list[float]:
    """How long the writer waits for company before each of these commits and one more."""
    clock = HandClock()
    monkeypatch.setattr(writer, "time", clock)

    def take(connection: Connection, some: Sequence[float]) -> list[None]:
        clock.now_s += sum(some)
        return [None] * len(some)

    for seconds in (*took_s, 0.0):
        await ledger.write(take, seconds)
    return clock.slept_s


async def test_the_next_group_gathers_longer_after_a_slow_commit_up_to_a_bound(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = await gathered_s(ledger, monkeypatch, 0.03, 0.03, 0.03, 10.0)
    assert gathered[0] == GATHER_S
    assert GATHER_S < gathered[1] < gathered[2] < gathered[3] < 0.03
    assert gathered[4] == GATHER_MAX_S


async def test_gathering_comes_back_to_what_it_was_once_commits_are_quick_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = await gathered_s(ledger, monkeypatch, 10.0, 10.0, *[0.001] * 5)
    assert gathered[1:3] == [GATHER_MAX_S] * 2
    assert gathered[2:] == sorted(gathered[2:], reverse=True)
    assert gathered[-2:] == [GATHER_S] * 2


class _AnsweredError(Exception):
    """What a PostgreSQL driver raises: an error that names its class."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("anything")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("orig", "transient"),
    [
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("disk I/O error"), True),
        (sqlite3.OperationalError("no such table: document"), False),
        (_AnsweredError("40P01"), True),  # deadlock detected
        (_AnsweredError("53100"), True),  # disk full
        (_AnsweredError("57P01"), True),  # shutting down
        (_AnsweredError("42P01"), False),  # undefined table
    ],
)
def test_what_can_succeed_later_is_told_from_what_cannot(
    orig: BaseException, *, transient: bool
) -> None:
    assert is_transient(OperationalError("SQL", {}, orig)) is transient


def test_another_exception_is_never_transient() -> None:
    assert not is_transient(ValueError("database is locked"))
