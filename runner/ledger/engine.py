"""Opens the ledger's database: pragmas, transactions that lock at their start, migrations."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from runner.errors import LedgerError
from runner.ledger.dialect import one_at_a_time
from runner.ledger.tables import meta
from runner.ledger.waiters import waiting

BUSY_TIMEOUT_MS = 30_000
# 32 MB of log are copied into the file together: with the 4 MB of SQLite, pages that a submission
# dirties at random are written several times over.
CHECKPOINT_PAGES = 8_000
BUSY_PAUSES_S = (0.001, 0.004)
LARGE_CACHE_KB = 64_000
SCHEMA_VERSION = "0007"
MIGRATIONS = Path(__file__).parent / "migrations"

# PostgreSQL's classes: connection lost, deadlock or serialization, no room, shutting down, disk.
_TRANSIENT_SQLSTATES = ("08", "40", "53", "57", "58")

_migration_lock = threading.Lock()


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite ledger at `path`."""
    return f"sqlite:///{path}"


def open_engine(url: str) -> Engine:
    """Open, and when needed create or migrate, the ledger at `url`.

    Raises LedgerError when the database cannot be reached or was written by a newer runner.
    """
    try:
        engine = _make_engine(url)
        try:
            with _migration_lock:
                _migrate(engine)
        except BaseException:
            engine.dispose()
            raise
    except (SQLAlchemyError, OSError) as error:
        shown = make_url(url).render_as_string(hide_password=True)
        raise LedgerError(
            f"ledger {shown}: {error}; check that the folder exists, is writable and has room"
        ) from error
    return engine


def _make_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    _make_private_file(Path(str(parsed.database)))
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        hide_parameters=True,  # they are texts and answers: no error message may quote them
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # created here so that SQLite's journal files inherit 0600
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _configure_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # the driver's own transaction handling would begin late, without a lock
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: a transaction that read first and wrote later could fail
    # with SQLITE_BUSY_SNAPSHOT, which no timeout cures.
    options = connection.get_execution_options()
    if options.get("outside"):
        return
    if options.get("read_only"):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite's own waiting sleeps up to 100 ms between two tries, and whoever tries more often goes
    # first: beside seven other writers some waited for two seconds. Here all try equally often.
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    if not execute_fairly(raw, "BEGIN IMMEDIATE", give_up_s=BUSY_TIMEOUT_MS / 1000):
        # once more, so that its error is SQLAlchemy's, which tells a full disk from a bug
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def execute_fairly(raw: sqlite3.Connection, statement: str, *, give_up_s: float) -> bool:
    """Try a statement that needs a lock as often as every writer tries; whether it was done.

    It tries no longer than `give_up_s`, and once when something else than a lock is in the way.
    """
    raw.execute("PRAGMA busy_timeout = 0")
    trouble = _try(raw, statement)
    if "locked" in trouble:
        with waiting(_file_of(raw)):
            trouble = _try_again(raw, statement, until_s=time.monotonic() + give_up_s)
    raw.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return not trouble


def _try_again(raw: sqlite3.Connection, statement: str, *, until_s: float) -> str:
    trouble = "locked"
    while "locked" in trouble and time.monotonic() < until_s:
        time.sleep(random.uniform(*BUSY_PAUSES_S))  # noqa: S311 - so that no two keep step
        trouble = _try(raw, statement)
    return trouble


def _file_of(raw: sqlite3.Connection) -> Path:
    [(file,)] = raw.execute("SELECT file FROM pragma_database_list WHERE name = 'main'")
    return Path(file)


def _try(raw: sqlite3.Connection, statement: str) -> str:
    """Execute a statement; what is wrong, empty when it has been done."""
    try:
        raw.execute(statement)
    except sqlite3.Error as error:
        return str(error) or type(error).__name__
    return ""


@contextmanager
def large_cache(connection: Connection) -> Iterator[None]:
    """Until this ends, a connection to SQLite holds more pages; what it writes is as durable."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    [(before,)] = raw.execute("PRAGMA cache_size")
    raw.execute(f"PRAGMA cache_size = -{LARGE_CACHE_KB}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA cache_size = {before}")


def reading_engine(engine: Engine) -> Engine:
    """The same database, its transactions read from one consistent view and lock nothing."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(read_only=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _schema_version(engine: Engine) -> str | None:
    with reading_engine(engine).connect() as connection, connection.begin():
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(engine: Engine) -> None:
    found = _schema_version(engine)
    if found == SCHEMA_VERSION:
        return
    if found is not None and found > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema {found}, newer than this runner's {SCHEMA_VERSION}; "
            "install the newer runner"
        )
    from alembic import command  # noqa: PLC0415 - 60 ms of imports that only a new ledger needs
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection, connection.begin():
        one_at_a_time(connection, "migrate")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def ledger_id(engine: Engine) -> str:
    """The id of this ledger, which prefixes its ids on a shared Redis."""
    with reading_engine(engine).connect() as connection, connection.begin():
        return str(connection.execute(select(meta.c.ledger_id)).scalar_one())


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction can succeed later: locked, full disk, connection lost."""
    if not isinstance(error, OperationalError):
        return False
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is not None:
        return sqlstate[:2] in _TRANSIENT_SQLSTATES
    words = str(error.orig).lower()
    return error.connection_invalidated or any(
        word in words for word in ("locked", "busy", "full", "disk i/o", "connection", "shutting")
    )
