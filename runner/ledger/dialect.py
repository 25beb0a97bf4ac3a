"""The few statements that SQLite and PostgreSQL spell differently, and rows in bulk."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Table, func, select

T = TypeVar("T")

# SQLite allows 32,766 variables a statement; a chunk of ids stays far below.
CHUNK = 500
# Values for so many rows go into one statement of SQLite: a quarter faster than one a row.
ROWS_AT_ONCE = 500


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet; repeating it changes nothing.

    All rows have the columns of the first one.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        _insert_postgresql(connection, table, rows)
        return
    names = tuple(rows[0])
    pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
    insert_many(connection, table, names, [pick(row) for row in rows])


def insert_many(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    *,
    shared: Mapping[str, Any] | None = None,
) -> None:
    """As `insert_new`, for very many rows: the values of `names`, and what all of them share."""
    shared = shared or {}
    if connection.dialect.name != "sqlite":
        written = [dict(zip(names, row, strict=True)) | dict(shared) for row in rows]
        if written:
            _insert_postgresql(connection, table, written)
        return
    # As the driver takes them: SQLAlchemy's own way costs as much as SQLite's.
    columns, first = (*shared, *names), tuple(shared.values())
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    for start in range(0, whole, ROWS_AT_ONCE):
        flat = (*first, *chain.from_iterable(rows[start : start + ROWS_AT_ONCE]))
        statement = _sqlite_insert(table, columns, len(first), ROWS_AT_ONCE)
        connection.exec_driver_sql(statement, flat)
    if whole < len(rows):
        statement = _sqlite_insert(table, columns, len(first), 1)
        connection.exec_driver_sql(statement, [first + row for row in rows[whole:]])


def _insert_postgresql(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - a tenth of every command's start

    connection.execute(postgresql.insert(table).on_conflict_do_nothing(), list(rows))


def one_of(
    connection: Connection, column: Column[str], texts: Sequence[str]
) -> ColumnElement[bool]:
    """Whether a column has one of many texts."""
    if connection.dialect.name != "sqlite":
        return column.in_(texts)
    # as one parameter: to spell out a thousand takes as long as to look them up
    listed = func.json_each(json.dumps(texts)).table_valued("value")
    return column.in_(select(listed.c.value))


@lru_cache
def _sqlite_insert(table: Table, columns: tuple[str, ...], shared: int, rows: int) -> str:
    """Its first parameters stand in every row: what is bound once need not be bound for each."""
    names = ", ".join(f'"{name}"' for name in columns)
    again = [f"?{place}" for place in range(1, shared + 1)]
    row = f"({', '.join([*again, *('?' * (len(columns) - shared))])})"
    places = ", ".join([row] * rows)
    return f'INSERT INTO "{table.name}" ({names}) VALUES {places} ON CONFLICT DO NOTHING'  # noqa: S608 - names of our own tables


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
