"""Intake: chunks are written in order beside the reading, and long transactions give way."""

import sys
import threading
import time
from base64 import b32encode
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import NoResultFound

from runner.interpreter import QUICK_S, quick_handover
from runner.keys import document_ids
from runner.ledger import Ledger, intake
from runner.ledger.engine import sqlite_url
from runner.ledger.intake import CHUNKS_WAITING, Intake
from runner.ledger.submission import Added, Named, name_documents
from runner.ledger.tables import document
from runner.ledger.waiters import someone_waits, waiting
from tests.ledgers import POSTGRES_URL, World, open_world, texts_of
from tests.test_ledger_writer import Blocker

DATABASE = "home/ledger.db"
sqlite_only = pytest.mark.skipif(POSTGRES_URL is not None, reason="SQLite's one writer")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.001)


def chunks_of(batch_id: str, count: int) -> list[list[Named]]:
    return [
        name_documents(batch_id, texts_of(f"{number} a", f"{number} b")) for number in range(count)
    ]


def intake_of(world: World, batch_id: str, on_added: Callable[[Added], None]) -> Intake:
    return Intake(world.ledger, batch_id, first_position=0, clock_us=world.tick, on_added=on_added)


def test_chunks_keep_their_order_and_are_durable_when_they_are_told(world: World) -> None:
    batch = world.batch()
    seen: list[tuple[int, bool]] = []

    def on_added(added: Added) -> None:
        seen.append((added.accepted, len(world.rows(batch)) >= 2 * len(seen) + 2))

    with intake_of(world, batch.id, on_added) as adding:
        for chunk in chunks_of(batch.id, 5):
            adding.put(chunk)
    assert seen == [(2, True)] * 5
    wanted = [one.document_id for chunk in chunks_of(batch.id, 5) for one in chunk]
    assert [row.id for row in world.rows(batch)] == wanted
    assert [row.position for row in world.rows(batch)] == list(range(10))


def visible_at_each_commit(world: World, database: Path) -> list[int]:
    """Put three chunks of two while nothing can be written; what others see as each is told."""
    batch = world.batch()
    seen: list[int] = []
    blocker = Blocker(database)
    with intake_of(world, batch.id, lambda _: seen.append(len(world.rows(batch)))) as adding:
        for chunk in chunks_of(batch.id, 3):
            adding.put(chunk)
        until(lambda: someone_waits(database))
        blocker.let_go()
    return seen


def test_the_interpreter_is_handed_over_quickly_while_an_intake_runs(world: World) -> None:
    before_s = sys.getswitchinterval()
    batch = world.batch()
    seen: list[float] = []
    with intake_of(world, batch.id, lambda _: seen.append(sys.getswitchinterval())) as adding:
        for chunk in chunks_of(batch.id, 2):
            adding.put(chunk)
    assert seen == pytest.approx([QUICK_S] * 2)
    assert sys.getswitchinterval() == before_s


def test_of_two_intakes_the_last_one_gives_the_interpreter_back() -> None:
    before_s = sys.getswitchinterval()
    with quick_handover:
        with quick_handover:
            pass
        assert sys.getswitchinterval() == pytest.approx(QUICK_S)
    assert sys.getswitchinterval() == before_s


@sqlite_only
def test_a_transaction_takes_all_that_is_at_hand(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "HOLD_MIN_S", 60.0)
    monkeypatch.setattr(intake, "HOLD_MAX_S", 60.0)
    assert visible_at_each_commit(world, tmp_path / DATABASE) == [6, 6, 6]


@sqlite_only
def test_a_transaction_ends_after_each_chunk_while_somebody_waits(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "HOLD_MIN_S", 60.0)
    monkeypatch.setattr(intake, "HOLD_MAX_S", 60.0)
    with waiting(tmp_path / DATABASE):
        assert visible_at_each_commit(world, tmp_path / DATABASE) == [2, 4, 6]


def test_the_first_documents_are_seen_soon_and_a_long_submission_commits_seldom() -> None:
    assert [intake.hold_s(since_s) for since_s in (0.0, 0.5, 4.0, 60.0)] == [0.25, 0.25, 1.0, 4.0]


@sqlite_only
def test_who_waits_to_write_is_seen_until_it_writes(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    ledger = Ledger(sqlite_url(database))
    assert not ledger.is_waited_for

    def write() -> None:
        with ledger.transaction() as connection:
            connection.execute(select(func.count()).select_from(document))

    blocker = Blocker(database)
    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: ledger.is_waited_for)
    blocker.let_go()
    writer.join()
    assert not ledger.is_waited_for
    ledger.close()


@sqlite_only
def test_a_note_that_cannot_be_written_keeps_nobody_from_waiting(tmp_path: Path) -> None:
    database = tmp_path / "no folder" / "ledger.db"
    with waiting(database):
        assert not someone_waits(database)


def test_what_fails_while_it_waits_is_told_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    with pytest.raises(OSError, match="disk full"), waiting(database):
        raise OSError("disk full")
    assert not someone_waits(database)


@sqlite_only
def test_the_larger_cache_is_given_back(tmp_path: Path) -> None:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.db"))

    def pages() -> object:
        with ledger.transaction() as connection:
            return connection.exec_driver_sql("PRAGMA cache_size").scalar()

    before = pages()
    with ledger.bulk() as begin, begin() as connection:
        assert connection.exec_driver_sql("PRAGMA cache_size").scalar() != before
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    assert pages() == before
    ledger.close()


def test_what_writing_raises_reaches_who_reads_and_ends_the_writing(world: World) -> None:
    chunks = chunks_of("none such", 2 * CHUNKS_WAITING + 2)
    told: list[Added] = []

    def put_all() -> None:
        with intake_of(world, "none such", told.append) as adding:
            for chunk in chunks:
                adding.put(chunk)

    with pytest.raises(NoResultFound):
        put_all()
    assert told == []


def test_an_error_at_the_last_chunk_is_raised_at_the_end(world: World) -> None:
    with pytest.raises(NoResultFound), intake_of(world, "none such", lambda _: None) as adding:
        adding.put(chunks_of("none such", 1)[0])


def test_what_was_put_before_an_error_of_the_reading_is_kept(world: World) -> None:
    batch = world.batch()

    def read() -> None:
        with intake_of(world, batch.id, lambda _: None) as adding:
            for chunk in chunks_of(batch.id, 3):
                adding.put(chunk)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read()
    assert len(world.rows(batch)) == 6


@given(batch_id=st.text(), content=st.binary())
def test_a_documents_id_is_the_hash_that_it_always_was(batch_id: str, content: bytes) -> None:
    digest = blake2b(digest_size=15)
    for part in (batch_id.encode("utf-8", "replace"), content):
        digest.update(len(part).to_bytes(8, "big") + part)
    name = document_ids(batch_id.encode("utf-8", "replace").decode())
    assert name(content) == "d" + b32encode(digest.digest()).decode().lower()
    assert name(content) == name(content)
