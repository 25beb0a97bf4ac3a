"""Pairs the documents of two batches by their text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from runner.ledger.sources import FIRST_NAME
from runner.ledger.tables import document, record


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A document of one of the two batches."""

    document_id: str
    source: str
    state: str
    data_json: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A text, and the document that each batch has of it."""

    a: Member | None
    b: Member | None


def pairs(connection: Connection, a_id: str, b_id: str) -> Iterator[Pair]:
    """Every text of either batch once; what has no text (unparsable, erased) is left out."""
    rows_a, rows_b = (_rows(connection, batch_id) for batch_id in (a_id, b_id))
    a, b = next(rows_a, None), next(rows_b, None)
    while a is not None or b is not None:
        first = min(one.text_digest for one in (a, b) if one is not None)
        mine = a if a is not None and a.text_digest == first else None
        theirs = b if b is not None and b.text_digest == first else None
        yield Pair(a=_member(mine), b=_member(theirs))
        if mine is not None:
            a = next(rows_a, None)
        if theirs is not None:
            b = next(rows_b, None)


def _rows(connection: Connection, batch_id: str) -> Iterator[Any]:
    # what was pruned is still known by the digest that its text had
    digest = func.coalesce(document.c.text_digest, document.c.former_digest)
    yield from connection.execute(
        select(
            document.c.id,
            document.c.state,
            digest.label("text_digest"),
            FIRST_NAME.label("source"),
            record.c.data_json,
        )
        .outerjoin(record, record.c.document_id == document.c.id)
        .where(document.c.batch_id == batch_id, digest.is_not(None))
        .order_by(digest)
    )


def _member(row: Any) -> Member | None:
    if row is None:
        return None
    return Member(document_id=row.id, source=row.source, state=row.state, data_json=row.data_json)
