"""The file of the search index: `search.db` in the home, words and where they stand, but no texts.

It can be lost at any time: whatever is in it comes from the ledger, and what is damaged, of another
version or of another ledger is begun anew.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Another one where a piece (pieces.py) is made otherwise: what is in the index is taken out by
# making it again.
VERSION = 1
FILE = "search.db"
BUSY_TIMEOUT_S = 10.0
CACHE_KB = 32_000

# `texts` has the row number of `content`, `answers` that of `call`, `names` the id of a source.
_SCHEMA = """
CREATE TABLE place (ledger_id TEXT, seen_row INTEGER, seen_id TEXT, seen_source INTEGER);
CREATE TABLE name (no INTEGER PRIMARY KEY, value TEXT UNIQUE);
CREATE TABLE content (no INTEGER PRIMARY KEY, digest BLOB UNIQUE);
CREATE TABLE document (no INTEGER PRIMARY KEY, id TEXT UNIQUE, content INTEGER);
CREATE INDEX document_by_content ON document (content);
CREATE TABLE call (
  no INTEGER PRIMARY KEY, id TEXT UNIQUE, document INTEGER, content INTEGER, batch INTEGER,
  model INTEGER, prompt INTEGER, fault INTEGER, created_us INTEGER, cost_nusd INTEGER,
  has_answer INTEGER, has_message INTEGER
);
CREATE INDEX call_by_document ON call (document);
CREATE TABLE source (id INTEGER PRIMARY KEY, document INTEGER);
CREATE INDEX source_by_document ON source (document);
CREATE TABLE pending (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE dead (batch TEXT PRIMARY KEY, letters INTEGER) WITHOUT ROWID;
"""
TOKENIZER = "tokenize = 'unicode61 remove_diacritics 2'"
WORD_TABLES = {"texts": "words", "answers": "answer, message", "names": "words"}


class DamagedError(Exception):
    """The file is no index that can be used; it may be deleted."""


class Store:
    """One connection to the index of a home; `path` may be replaced by another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # made here so that SQLite's other files are as private as it
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._inode = path.stat().st_ino
        self._db = sqlite3.connect(
            path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise _judged(error) from error

    def _prepare(self) -> None:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",  # what a crash of the machine loses is indexed again
            "secure_delete = ON",
            f"cache_size = -{CACHE_KB}",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        if self._version() != VERSION:
            with self.writing() as db:
                if self._version() != VERSION:
                    make_anew(db)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @property
    def is_current(self) -> bool:
        """Whether the file at its place is still the one that was opened."""
        with suppress(OSError):
            return self.path.stat().st_ino == self._inode
        return False

    def wait_at_most(self, seconds: float) -> None:
        """How long to wait for another one who writes, instead of ten seconds."""
        self._db.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}").fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process writes beside; committed at its end, or undone."""
        with _judging():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A consistent view."""
        with _judging():
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("ROLLBACK")

    def compact(self) -> None:
        """Leave no trace of what was removed from it, and no empty space in its files."""
        with _judging():
            for table in WORD_TABLES:
                self._db.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")  # noqa: S608 - own names
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def make_anew(db: sqlite3.Connection) -> None:
    """Empty the index and give it its tables."""
    tables = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL%'"
    ).fetchall()
    tables += db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchall()
    for (name,) in tables:
        db.execute(f'DROP TABLE IF EXISTS "{name}"')
    for statement in _SCHEMA.split(";")[:-1]:
        db.execute(statement)
    for table, columns in WORD_TABLES.items():
        db.execute(
            f"CREATE VIRTUAL TABLE {table} USING fts5 ({columns}, content = '', {TOKENIZER})"
        )
    db.execute("INSERT INTO place VALUES (NULL, 0, NULL, 0)")
    db.execute(f"PRAGMA user_version = {VERSION}")


def open_store(home: Path) -> Store:
    """Open the index of a home, made anew when there is none or it is damaged.

    Raises sqlite3.OperationalError or OSError when it cannot be written: no room, no right, locked.
    """
    path = home / FILE
    try:
        return Store(path)
    except DamagedError:
        remove(path)
        return Store(path)


def remove(path: Path) -> None:
    """Delete an index; processes that have it open notice."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _judging() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _judged(error) from error


def _judged(error: sqlite3.DatabaseError) -> Exception:
    """A locked or full disk is the world's; anything else says that the file is no good."""
    if type(error) is sqlite3.DatabaseError or "malformed" in str(error):
        return DamagedError(str(error))
    return error
