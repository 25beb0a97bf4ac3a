"""The few statements that SQLite and PostgreSQL spell differently, and rows in bulk."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, select

T = TypeVar("T")

# SQLite allows 32,766 variables a statement; a chunk of ids stays far below.
CHUNK = 500
# Values for so many rows go into one statement of SQLite: a quarter faster than one a row.
ROWS_AT_ONCE = 250


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet; repeating it changes nothing.

    All rows have the columns of the first one.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - a tenth of the start

        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), list(rows))
        return
    # As the driver takes them: SQLAlchemy's own way costs as much as SQLite's.
    names = tuple(rows[0])
    pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
    values = [pick(row) for row in rows]
    whole = len(values) - len(values) % ROWS_AT_ONCE
    for some in chunks(values[:whole], ROWS_AT_ONCE):
        flat = tuple(chain.from_iterable(some))
        connection.exec_driver_sql(_sqlite_insert(table, names, ROWS_AT_ONCE), flat)
    if whole < len(values):
        connection.exec_driver_sql(_sqlite_insert(table, names, 1), values[whole:])


@lru_cache
def _sqlite_insert(table: Table, names: tuple[str, ...], rows: int) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    row = f"({', '.join('?' * len(names))})"
    places = ", ".join([row] * rows)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES {places} ON CONFLICT DO NOTHING'  # noqa: S608 - names of our own tables


def one_at_a_time(connection: Connection, what: str) -> None:
    """Until this transaction ends, no other one does `what`: for reading a value and then adding.

    On SQLite every writing transaction is alone anyway.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(what))))


def many_at_a_time(connection: Connection, what: str) -> None:
    """Until this transaction ends, nobody does `what` in `one_at_a_time`; others may do as this."""
    if connection.dialect.name != "sqlite":
        connection.execute(select(func.pg_advisory_xact_lock_shared(func.hashtext(what))))


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists of at most `size`."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
