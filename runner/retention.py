"""What leaves the ledger and the search index: bodies that are old, and contents to be erased.

The index forgets within the transaction of the ledger and is committed first: cut off between the
two, the same command does both again.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from runner.errors import LedgerError
from runner.ledger import Ledger, erasing, pruning
from runner.ledger.deadletters import purge_dead
from runner.ledger.pruning import Age
from runner.ledger.space import rewrite
from runner.ledger.sweeping import sweep
from runner.search.forgetting import forget_all, forget_bodies, forget_texts, knows
from runner.search.store import FILE, DamagedError, Store, make_anew, open_store, remove

R = TypeVar("R")

# what is done in one transaction of the ledger; the index is None where there is none
_Action = Callable[[Connection, sqlite3.Connection | None], R]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune dropped; bytes as they were stored (compressed)."""

    documents: int = 0
    calls: int = 0
    bodies: int = 0  # distinct ones
    stored_bytes: int = 0


def prune(
    ledger: Ledger,
    home: Path,
    age: Age,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Pruned:
    """Drop the bodies of old documents while workers go on; repeating it drops nothing twice.

    `on_progress` hears how many documents are done. One that is cut off is finished by the next.
    Raises LedgerError when the search index cannot be written.
    """
    documents = calls = 0
    after = ""
    while page := _page(ledger, age, after=after):
        ids, of_these = _with_index(ledger, home, _pruning(page, age, now_us=ledger.clock.us()))
        documents += ids
        calls += of_these
        after = page[-1]
        on_progress(documents)
    swept = sweep(ledger)
    if documents:
        _compact(ledger, home)
    return Pruned(documents, calls, swept.blobs, swept.stored_bytes)


def purge(ledger: Ledger, home: Path, document_ids: Sequence[str]) -> int:
    """Drop the texts of these dead letters, for good; how many there are."""
    now_us = ledger.clock.us()

    def action(connection: Connection, db: sqlite3.Connection | None) -> int:
        if db is not None:
            forget_texts(db, connection, document_ids)
        return purge_dead(connection, document_ids, now_us=now_us)

    purged = _with_index(ledger, home, action)
    sweep(ledger)
    return purged


def _page(ledger: Ledger, age: Age, *, after: str) -> list[str]:
    with ledger.snapshot() as connection:
        return pruning.prunable_page(connection, age, after=after)


def _pruning(page: Sequence[str], age: Age, *, now_us: int) -> _Action[tuple[int, int]]:
    def action(connection: Connection, db: sqlite3.Connection | None) -> tuple[int, int]:
        ids = pruning.still_prunable(connection, page, age)
        if db is not None:
            forget_bodies(db, connection, ids)
        return len(ids), pruning.prune(connection, ids, now_us=now_us)

    return action


def erase(ledger: Ledger, home: Path, document_ids: Sequence[str], *, names_too: bool) -> None:
    """Erase these documents, and leave no copy of what they said in the files of the home.

    Writers wait while the ledger is written anew. One that is cut off is finished by the next.
    Raises UsageError when one of the documents runs, LedgerError when a file cannot be cleaned.
    """
    now_us = ledger.clock.us()

    def action(connection: Connection, db: sqlite3.Connection | None) -> None:
        erasing.refuse_live(connection, document_ids)
        if db is not None:
            forget_all(db, connection, document_ids, names_too=names_too)
        erasing.erase(connection, document_ids, names_too=names_too, now_us=now_us)

    _with_index(ledger, home, action)
    sweep(ledger)
    _forget_for_sure(ledger, home, document_ids)
    rewrite(ledger)


def _forget_for_sure(ledger: Ledger, home: Path, document_ids: Sequence[str]) -> None:
    """Begin the index anew, if a worker took them in between the commits of index and ledger."""

    def action(_: Connection, db: sqlite3.Connection | None) -> None:
        if db is not None and knows(db, document_ids):
            make_anew(db)

    _with_index(ledger, home, action)
    _compact(ledger, home)


def _compact(ledger: Ledger, home: Path) -> None:
    if ledger.is_sqlite:
        with _explaining():
            store = open_store(home)
            try:
                store.compact()
            finally:
                store.close()


def _with_index(ledger: Ledger, home: Path, action: _Action[R]) -> R:
    """Do something to ledger and index at once; a damaged index is begun anew, and it is done."""
    try:
        return _try_with_index(ledger, home, action)
    except DamagedError:
        remove(home / FILE)
        return _try_with_index(ledger, home, action)


def _try_with_index(ledger: Ledger, home: Path, action: _Action[R]) -> R:
    if not ledger.is_sqlite:
        with ledger.transaction() as connection:
            return action(connection, None)
    with _explaining():
        store: Store = open_store(home)
        try:
            with ledger.transaction() as connection, store.writing() as db:
                return action(connection, db)
        finally:
            store.close()


@contextmanager
def _explaining() -> Iterator[None]:
    """Turn the trouble of the index's file into the person's words."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise LedgerError(
            f"the search index could not be written: {error}; make room, or end what holds "
            f"{FILE}, and repeat this command"
        ) from error
