"""The way in: `search` brings the index up to date as far as time allows, and asks it."""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter
from runner.ledger.indexable import last_row
from runner.search.finding import Hit, find
from runner.search.indexing import CALLS_FIRST, CALLS_MAX, take_bite
from runner.search.query import match_query
from runner.search.reading import read_through
from runner.search.store import FILE, DamagedError, Store, open_store, remove

CATCH_UP_MAX_S = 0.1  # a worker keeps the index up; here somebody waits
READ_THROUGH_MAX_S = 10.0
BITE_MAX_S = 0.2  # a longer one would be over too long after the time that was given


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, newest first, and what was not looked at."""

    hits: tuple[Hit, ...]
    behind: int = 0  # calls that were begun and are not in the index yet
    is_complete: bool = True  # else ends of calls, dead letters or names may be missing as well
    read_back_to_us: int | None = None  # without an index: older calls were not read


def search(
    ledger: Ledger,
    home: Path,
    words: str,
    wanted: CallFilter,
    *,
    catch_up_max_s: float = CATCH_UP_MAX_S,
) -> Found:
    """The newest calls with these words in answer, error message, source name or document.

    The index of a ledger on SQLite is brought up to date first, for `catch_up_max_s` and one bite
    more at most; what is found says whether it could be. A ledger on PostgreSQL has none, nor has a
    home that cannot be written: there the newest calls, and no documents without any, are read
    through for at most ten seconds. Raises UsageError when the words cannot be searched for.
    """
    query = match_query(words)
    if ledger.is_sqlite:
        try:
            return _by_index(ledger, home, query, wanted, catch_up_max_s=catch_up_max_s)
        except (sqlite3.OperationalError, OSError):
            pass  # no room, no right: what was asked can be answered all the same
    hits, back_to_us = read_through(ledger, query, wanted, most_s=READ_THROUGH_MAX_S)
    return Found(tuple(hits), read_back_to_us=back_to_us)


def _by_index(
    ledger: Ledger, home: Path, query: str, wanted: CallFilter, *, catch_up_max_s: float
) -> Found:
    try:
        return _ask(ledger, open_store(home), query, wanted, catch_up_max_s=catch_up_max_s)
    except DamagedError:
        remove(home / FILE)
        return _ask(ledger, open_store(home), query, wanted, catch_up_max_s=catch_up_max_s)


def _ask(
    ledger: Ledger, store: Store, query: str, wanted: CallFilter, *, catch_up_max_s: float
) -> Found:
    try:
        store.wait_at_most(catch_up_max_s)
        lag = catch_up(store, ledger, most_s=catch_up_max_s)
        hits = tuple(find(store, ledger, query, wanted))
        return Found(hits, behind=lag.calls, is_complete=lag.is_none)
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class Lag:
    """How far an index is behind its ledger."""

    calls: int  # that were begun, and are not in it
    is_none: bool = False  # all is in it: ends of calls, dead letters and names too


def catch_up(store: Store, ledger: Ledger, *, most_s: float) -> Lag:
    """Index what is new, until all of it is or time is over; what is left."""
    until_s = time.monotonic() + most_s
    calls = CALLS_FIRST
    while True:
        try:
            bite = take_bite(store, ledger, calls_max=calls)
        except sqlite3.OperationalError:
            if not _can_be_read(store):
                raise
            # no room to write, or another one writes: it is still asked
            return Lag(lag(store, ledger))
        if bite.behind == 0 and bite.taken == 0:
            return Lag(0, is_none=True)
        if (left_s := until_s - time.monotonic()) <= 0:
            return Lag(bite.behind)
        if bite.seconds < min(BITE_MAX_S, left_s) / 2:
            calls = min(CALLS_MAX, 2 * calls)


def _can_be_read(store: Store) -> bool:
    with store.reading() as db:
        return db.execute("SELECT ledger_id FROM place").fetchone()[0] is not None


def lag(store: Store, ledger: Ledger) -> int:
    """How many calls were begun behind where the index ends."""
    with store.reading() as db, ledger.snapshot() as connection:
        (seen,) = db.execute("SELECT seen_row FROM place").fetchone()
        return max(0, last_row(connection) - int(seen))
