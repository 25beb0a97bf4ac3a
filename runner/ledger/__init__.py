"""The ledger: the database that is the truth about every document, attempt, record and cost."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from runner.ledger.clock import LedgerClock
from runner.ledger.engine import large_cache, ledger_id, open_engine, reading_engine
from runner.ledger.waiters import someone_waits
from runner.ledger.writer import GroupThread, Operation
from runner.log import log

A = TypeVar("A")
R = TypeVar("R")

__all__ = ["Ledger"]


class Ledger:
    """One process's access to the ledger: a writing thread, a reading thread, transactions.

    `write` and `read` group what many tasks ask for at once; `transaction` and `snapshot` are for
    commands that do one thing. Raises LedgerError when the ledger cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self._reading = reading_engine(self._engine)
        self.id = ledger_id(self._engine)
        self.trouble: str | None = None
        self.clock = LedgerClock()
        with self.snapshot() as connection:
            self.clock.look(connection)
        self._writer: GroupThread | None = None
        self._reader: GroupThread | None = None

    def _note_trouble(self, why: str | None) -> None:
        if why is not None and self.trouble is None:
            log("ledger_trouble", f"{why}; waiting until it can be written again")
        self.trouble = why

    async def write(self, operation: Operation[A, R], argument: A) -> R:
        """Commit one caller's operation together with those of others; answered once durable."""
        if self._writer is None:
            self._writer = GroupThread(
                self._engine, name="ledger-writer", on_trouble=self._note_trouble
            )
        return await self._writer.run(operation, argument)

    async def read(self, operation: Operation[A, R], argument: A) -> R:
        """Read for one caller together with others, from one snapshot."""
        if self._reader is None:
            self._reader = GroupThread(self._reading, name="ledger-reader")
        return await self._reader.run(operation, argument)

    async def write_one(self, action: Callable[[Connection], R]) -> R:
        """Commit a single action through the writing thread."""
        return await self.write(_run_actions, action)

    async def read_one(self, action: Callable[[Connection], R]) -> R:
        """Read with a single action through the reading thread."""
        return await self.read(_run_actions, action)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of this thread's own: committed at its end, or nothing of it."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A consistent view to read from."""
        with self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def bulk(self) -> Iterator[Callable[[], AbstractContextManager[Connection]]]:
        """What begins transactions as `transaction` does, for very many rows and one after another.

        Those of SQLite share a larger cache of pages until this ends.
        """
        if not self.is_sqlite:  # a connection each: one that idles for long may be lost
            yield self.transaction
            return
        with self._engine.connect() as connection, large_cache(connection):
            yield partial(_transaction_of, connection)

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody waits for the lock of SQLite's one writer; False on PostgreSQL."""
        return self.is_sqlite and someone_waits(Path(str(self._engine.url.database)))

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """A connection in no transaction, for the few statements that allow none around them."""
        # SQLite's driver opens no transactions here; were it told so, it would be told otherwise
        # when the connection goes back to its pool
        level = {} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        with self._engine.connect().execution_options(outside=True, **level) as connection:
            yield connection

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for this process to write."""
        return self._writer is not None and self._writer.has_callers

    def close(self) -> None:
        """Commit what is queued and let go of the database."""
        for thread in (self._writer, self._reader):
            if thread is not None:
                thread.close()
        self._engine.dispose()


@contextmanager
def _transaction_of(connection: Connection) -> Iterator[Connection]:
    with connection.begin():
        yield connection


def _run_actions(connection: Connection, actions: Sequence[Callable[[Connection], R]]) -> list[R]:
    return [action(connection) for action in actions]
