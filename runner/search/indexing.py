"""Takes a ledger's new calls into the search index, a small bite at a time.

A bite is one transaction of the index: what was seen and where it ends are written together, so
that a bite cut off was none, and two processes that index at once take turns.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from runner.ledger import Ledger, blobs
from runner.ledger.indexable import (
    Indexable,
    SourceName,
    calls_after,
    calls_of_documents,
    calls_of_ids,
    dead_counts,
    dead_without_call,
    is_known,
    last_row,
    last_source,
    names_between,
    names_of,
)
from runner.search.pieces import answer_piece, message_piece, name_piece, text_piece
from runner.search.store import Store, make_anew

CALLS_MAX = 500
CALLS_FIRST = 50
TEXT_MAX_BYTES = 400_000  # of documents in one bite
SOURCES_PER_CALL = 20  # looked at; nearly all are of documents that wait, and passed over
PENDING_MAX = 500
DEAD_MAX = 500


@dataclass(frozen=True, slots=True)
class Bite:
    """What one bite took in, and how many calls were begun behind where it ends."""

    taken: int
    behind: int
    seconds: float
    cpu_s: float  # of them


def take_bite(store: Store, ledger: Ledger, *, calls_max: int = CALLS_FIRST) -> Bite:
    """Index the next calls, and those that have ended since they were seen; few enough is quick.

    An index of another ledger, or of one that was put back to an earlier state, is begun anew.
    Raises DamagedError, or sqlite3.OperationalError when it cannot be written.
    """
    began_s, began_cpu_s = time.monotonic(), time.thread_time()
    with store.writing() as db, ledger.snapshot() as connection:
        place = _place(db, connection, ledger)
        begun = _cut(calls_after(connection, place.seen_row, limit=calls_max))
        ended = [call for call in begun if call.is_settled]
        ended += _ended_meanwhile(db, connection)
        uncalled = [] if begun else _dead(db, connection)
        index_calls(db, connection, [*ended, *uncalled])
        _note_pending(db, begun)
        names = _new_names(db, connection, place.seen_source, calls_max * SOURCES_PER_CALL)
        if begun:
            last = (begun[-1].row, begun[-1].attempt_id)
            db.execute("UPDATE place SET seen_row = ?, seen_id = ?", last)
        seen_row = begun[-1].row if begun else place.seen_row
        behind = last_row(connection) - seen_row
    taken = len(begun) + len(ended) + len(uncalled) + names
    return Bite(taken, behind, time.monotonic() - began_s, time.thread_time() - began_cpu_s)


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a ledger was read."""

    seen_row: int
    seen_source: int


def _place(db: sqlite3.Connection, connection: Connection, ledger: Ledger) -> _Place:
    ledger_id, row, seen_id, source_id = db.execute("SELECT * FROM place").fetchone()
    is_same = ledger_id == ledger.id
    if is_same and (row == 0 or is_known(connection, row=row, attempt_id=seen_id)):
        return _Place(row, source_id)
    if ledger_id is not None:
        make_anew(db)
    db.execute("UPDATE place SET ledger_id = ?", (ledger.id,))
    return _Place(0, 0)


def _cut(calls: Sequence[Indexable]) -> list[Indexable]:
    """As many of these as have not too much text together, but one at least."""
    kept: list[Indexable] = []
    size = 0
    for call in calls:
        size += call.text_bytes
        if kept and size > TEXT_MAX_BYTES:
            break
        kept.append(call)
    return kept


def _ended_meanwhile(db: sqlite3.Connection, connection: Connection) -> list[Indexable]:
    """Calls that were under way when they were seen, and are not any more."""
    rows = db.execute("SELECT id FROM pending ORDER BY id LIMIT ?", (PENDING_MAX,)).fetchall()
    ended = _cut(calls_of_ids(connection, [id_ for (id_,) in rows])) if rows else []
    db.executemany("DELETE FROM pending WHERE id = ?", [(call.attempt_id,) for call in ended])
    return ended


def _note_pending(db: sqlite3.Connection, begun: Iterable[Indexable]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO pending VALUES (?)",
        [(call.attempt_id,) for call in begun if not call.is_settled],
    )


def _dead(db: sqlite3.Connection, connection: Connection) -> list[Indexable]:
    """Dead letters without a call, of batches that have other dead letters than before."""
    known = dict(db.execute("SELECT batch, letters FROM dead").fetchall())
    for batch_id, letters in dead_counts(connection).items():
        if known.get(batch_id) == letters:
            continue
        new = [id_ for id_ in dead_without_call(connection, batch_id) if not _is_indexed(db, id_)]
        if len(new) <= DEAD_MAX:
            db.execute("INSERT OR REPLACE INTO dead VALUES (?, ?)", (batch_id, letters))
        if new:
            found = calls_of_documents(connection, new[:DEAD_MAX])
            return [call for call in found if call.attempt_id is None]
    return []


def _is_indexed(db: sqlite3.Connection, document_id: str) -> bool:
    return db.execute("SELECT 1 FROM document WHERE id = ?", (document_id,)).fetchone() is not None


def index_calls(db: sqlite3.Connection, connection: Connection, calls: Sequence[Indexable]) -> None:
    """Take these calls in, with their documents' texts and sources where these are new."""
    digests = [call.answer_digest for call in calls]
    digests += [call.text_digest for call in calls if not _has_content(db, call.text_digest)]
    bodies = blobs.fetch(connection, digests)
    new: list[str] = []
    for call in calls:
        content = _content(db, call.text_digest, bodies)
        document, is_new = _document(db, call.document_id, content)
        if is_new:
            new.append(call.document_id)
        _index_call(db, call, document, content, bodies)
    if new:
        _index_names(db, names_of(connection, new))


def _has_content(db: sqlite3.Connection, digest: bytes | None) -> bool:
    row = db.execute("SELECT 1 FROM content WHERE digest = ?", (digest,)).fetchone()
    return row is not None


def _content(
    db: sqlite3.Connection, digest: bytes | None, bodies: Mapping[bytes, bytes]
) -> int | None:
    """The number of a text, which is indexed when it is new; None of one that is gone."""
    if digest is None:
        return None
    found = db.execute("SELECT no FROM content WHERE digest = ?", (digest,)).fetchone()
    if found is not None:
        return int(found[0])
    if digest not in bodies:
        return None
    no = db.execute("INSERT INTO content (digest) VALUES (?)", (digest,)).lastrowid
    piece = text_piece(bodies[digest])
    db.execute("INSERT INTO texts (rowid, words) VALUES (?, ?)", (no, piece))
    return no


def _document(db: sqlite3.Connection, document_id: str, content: int | None) -> tuple[int, bool]:
    found = db.execute("SELECT no FROM document WHERE id = ?", (document_id,)).fetchone()
    if found is not None:
        db.execute("UPDATE document SET content = ? WHERE no = ?", (content, found[0]))
        return int(found[0]), False
    inserted = db.execute(
        "INSERT INTO document (id, content) VALUES (?, ?)", (document_id, content)
    )
    assert inserted.lastrowid is not None
    return inserted.lastrowid, True


def _index_call(
    db: sqlite3.Connection,
    call: Indexable,
    document: int,
    content: int | None,
    bodies: Mapping[bytes, bytes],
) -> None:
    if call.attempt_id is not None and _is_call(db, call.attempt_id):
        return
    answer, message = answer_piece(call, bodies), message_piece(call)
    numbers = (
        _number(db, name) for name in (call.batch_id, call.model, call.prompt_id, call.fault)
    )
    has = (answer != "", message != "")
    no = db.execute(
        "INSERT INTO call (id, document, content, batch, model, prompt, fault, created_us, "
        "cost_nusd, has_answer, has_message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (call.attempt_id, document, content, *numbers, call.created_us, call.cost_nusd, *has),
    ).lastrowid
    if any(has):
        db.execute(
            "INSERT INTO answers (rowid, answer, message) VALUES (?, ?, ?)", (no, answer, message)
        )


def _is_call(db: sqlite3.Connection, attempt_id: str) -> bool:
    return db.execute("SELECT 1 FROM call WHERE id = ?", (attempt_id,)).fetchone() is not None


def _number(db: sqlite3.Connection, value: str | None) -> int | None:
    """The number that a batch, model, prompt or fault has here."""
    if value is None:
        return None
    found = db.execute("SELECT no FROM name WHERE value = ?", (value,)).fetchone()
    if found is not None:
        return int(found[0])
    return db.execute("INSERT INTO name (value) VALUES (?)", (value,)).lastrowid


def _new_names(db: sqlite3.Connection, connection: Connection, seen: int, most: int) -> int:
    """Take in sources that came later than their document's first call; how many were looked at."""
    upto = min(seen + most, last_source(connection))
    if upto <= seen:
        return 0
    found = names_between(connection, seen, upto)
    _index_names(db, [name for name in found if _is_indexed(db, name.document_id)])
    db.execute("UPDATE place SET seen_source = ?", (upto,))
    return upto - seen


def _index_names(db: sqlite3.Connection, names: Iterable[SourceName]) -> None:
    for name in names:
        (document,) = db.execute(
            "SELECT no FROM document WHERE id = ?", (name.document_id,)
        ).fetchone()
        is_new = db.execute("INSERT OR IGNORE INTO source VALUES (?, ?)", (name.id, document))
        if is_new.rowcount:
            db.execute(
                "INSERT INTO names (rowid, words) VALUES (?, ?)", (name.id, name_piece(name.name))
            )
