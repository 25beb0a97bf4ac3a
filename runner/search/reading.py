"""Searches without an index: reads the newest calls through, for as long as a person waits."""

import time

from sqlalchemy import select

from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter, conditions
from runner.ledger.indexable import calls_of_ids
from runner.ledger.tables import attempt
from runner.search.finding import Hit, confirm

PAGE = 16  # calls at once, whose texts are in memory together


def read_through(
    ledger: Ledger, query: str, wanted: CallFilter, *, most_s: float
) -> tuple[list[Hit], int | None]:
    """The newest calls that the query hits; and, when time was over first, back to when it read."""
    hits: list[Hit] = []
    before = None
    until_s = time.monotonic() + most_s
    with ledger.snapshot() as connection:
        narrowed = list(conditions(connection, wanted))
        while len(hits) < wanted.limit:
            page = select(attempt.c.id).where(*narrowed)
            if before is not None:
                page = page.where(attempt.c.id < before)
            ids = list(connection.execute(page.order_by(attempt.c.id.desc()).limit(PAGE)).scalars())
            if not ids:
                return hits, None
            calls = calls_of_ids(connection, ids)[::-1]
            hits += confirm(connection, query, calls)
            before = ids[-1]
            if time.monotonic() > until_s and calls:
                return hits[: wanted.limit], calls[-1].created_us
    return hits[: wanted.limit], None
