"""Migrations: an empty database becomes exactly the tables of the code, private on disk."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Inspector, create_engine, inspect, select, text

from runner.errors import LedgerError
from runner.ledger import Ledger
from runner.ledger.calls import source_names
from runner.ledger.engine import open_engine, sqlite_url
from runner.ledger.tables import WHERE, document, metadata
from tests.ledgers import World, ledger_url, write_as_before


def test_migrating_an_empty_database_gives_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    with ledger_url(tmp_path) as url:
        engine = open_engine(url)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            found = _conditions_of_indexes(inspect(connection))
        engine.dispose()
    assert found == {
        index.name: index.info[WHERE].lower()
        for table in metadata.sorted_tables
        for index in table.indexes
        if WHERE in index.info
    }


def _conditions_of_indexes(inspector: Inspector) -> dict[str | None, str]:
    """What partial indexes are of, by name, in the words of PostgreSQL."""
    options = {
        index["name"]: index.get("dialect_options", {})
        for table in metadata.tables
        for index in inspector.get_indexes(table)
    }
    wheres = {
        name: some.get("sqlite_where", some.get("postgresql_where"))
        for name, some in options.items()
    }
    return {
        name: f"{where}".lower().strip("()").replace("is 0", "is false").replace("is 1", "is true")
        for name, where in wheres.items()
        if where is not None
    }


def test_sources_of_before_are_found_by_their_documents(tmp_path: Path) -> None:
    world = World(Ledger(sqlite_url(tmp_path / "now.db")))
    for name in ("a", "b"):
        world.add(world.batch(name), "one", "two")
        world.add(world.batch(name), "three", "two", first_position=2)
    before = names_of_sources(world)
    assert sorted(before.values()) == [
        ("one",),
        ("one",),
        ("three",),
        ("three",),
        ("two",),
        ("two",),
    ]
    world.ledger.close()
    write_as_before(tmp_path / "now.db", tmp_path / "then.db", revision="0006")
    world.ledger = Ledger(sqlite_url(tmp_path / "then.db"))
    assert names_of_sources(world) == before
    world.ledger.close()


def names_of_sources(world: World) -> dict[str, tuple[str, ...]]:
    with world.ledger.snapshot() as connection:
        ids = connection.execute(select(document.c.id)).scalars().all()
        return {id_: source_names(connection, id_) for id_ in ids}


def test_opening_again_changes_nothing_and_gives_the_same_id(tmp_path: Path) -> None:
    with ledger_url(tmp_path) as url:
        ids = set()
        for _ in range(2):
            ledger = Ledger(url)
            ids.add(ledger.id)
            ledger.close()
        assert len(ids) == 1


def test_the_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger(sqlite_url(tmp_path / "home" / "ledger.db"))
        with ledger.transaction() as connection:
            connection.execute(text("UPDATE meta SET ledger_id = ledger_id"))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()
        }
    finally:
        os.umask(before)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    ledger.close()


def test_every_commit_is_durable_and_removed_text_is_overwritten(tmp_path: Path) -> None:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.db"))
    with ledger.transaction() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }
    ledger.close()


def test_a_ledger_of_a_newer_runner_is_refused_and_left_alone(tmp_path: Path) -> None:
    with ledger_url(tmp_path) as url:
        Ledger(url).close()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(LedgerError, match="schema 9999, newer than this runner's 0007"):
            Ledger(url)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version"))
            assert found.scalar() == "9999"
        engine.dispose()


def test_a_ledger_that_cannot_be_opened_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"file/ledger\.db.*check that the folder exists"):
        Ledger(sqlite_url(tmp_path / "file" / "ledger.db"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("no database at all" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(sqlite_url(tmp_path / "ledger.db"))


def _open(url: str) -> str:
    ledger = Ledger(url)
    ledger.close()
    return ledger.id


def test_processes_that_open_a_new_ledger_at_once_agree_on_one(tmp_path: Path) -> None:
    with ledger_url(tmp_path) as url, multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_open, [url] * 4))) == 1
