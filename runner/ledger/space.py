"""Gives free space back to the disk, and leaves no copy of what was removed anywhere on it."""

import sqlite3
import time
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from runner.errors import LedgerError
from runner.ledger import Ledger
from runner.ledger.engine import BUSY_PAUSES_S, execute_fairly

LOCK_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Space:
    """What a ledger takes on disk: its file and its log, and how much of the file is empty."""

    file_bytes: int
    free_bytes: int


def space(ledger: Ledger) -> Space | None:
    """As it is now; None on PostgreSQL, whose files are its own."""
    if not ledger.is_sqlite:
        return None
    with ledger.outside() as connection:
        page_bytes = _pragma(connection, "page_size")
        return Space(
            file_bytes=_pragma(connection, "page_count") * page_bytes,
            free_bytes=_pragma(connection, "freelist_count") * page_bytes,
        )


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


def rewrite(ledger: Ledger) -> None:
    """Write the whole database anew: nothing removed is left in it, and nothing of it is empty.

    Whoever writes waits meanwhile (about 10 s a gigabyte), and for that long it takes up to three
    times its space. SQLite's `secure_delete` with an emptied log is not enough: pages that it
    rebuilt keep copies of cells that were moved (measured: a trace in 13 of 60 databases with
    random rows that were erased so). Raises LedgerError when the disk is full or the lock is never
    free.
    """
    if not ledger.is_sqlite:
        with ledger.outside() as connection:
            connection.exec_driver_sql("VACUUM")
        return
    with ledger.outside() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        if not execute_fairly(raw, "VACUUM", give_up_s=LOCK_MAX_S):
            _say_why(connection)
    empty_log(ledger)


def _say_why(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("VACUUM")
    except DBAPIError as error:
        raise LedgerError(
            f"the ledger was not written anew: {error.orig}; what was removed may still be on disk "
            "until this command is repeated"
        ) from error


def empty_log(ledger: Ledger) -> None:
    """Copy the whole log into the database and cut it to nothing: it holds pages as they were.

    Raises LedgerError when somebody keeps reading what is in it.
    """
    if not ledger.is_sqlite:
        return
    until_s = time.monotonic() + LOCK_MAX_S
    with ledger.outside() as connection:
        while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
            if time.monotonic() > until_s:
                raise LedgerError(
                    "the ledger's log could not be emptied: somebody has been reading for "
                    f"{LOCK_MAX_S:.0f} s; what was removed may still be in it until this command "
                    "is repeated"
                )
            time.sleep(BUSY_PAUSES_S[1])
