"""Finds calls by words: the index proposes, newest first, and the ledger says what is still so."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from runner.ledger import Ledger, blobs
from runner.ledger.callfilters import ANY_FAULT, CallFilter, prompt_ids
from runner.ledger.indexable import Indexable, calls_of_documents, names_of
from runner.ledger.tables import batch
from runner.search.pieces import CHARS_MAX, answer_piece, message_piece, name_piece, text_piece
from runner.search.snippets import Snippet, snippets
from runner.search.store import Store

# texts that are read to show where in them the words stand; a hit in further ones shows no words
SHOWN_MAX_BYTES = 8_000_000
PAGES_MAX = 20  # of proposals that turn out to be gone


@dataclass(frozen=True, slots=True)
class Hit:
    """A call that has the words; a document that ended without a call has no attempt id."""

    attempt_id: str | None
    document_id: str
    where: str  # answer, message, source, text
    snippet: Snippet | None


def find(store: Store, ledger: Ledger, query: str, wanted: CallFilter) -> list[Hit]:
    """The newest calls that the query hits, at most `wanted.limit`."""
    hits: list[Hit] = []
    with store.reading() as db, ledger.snapshot() as connection:
        narrowed = _conditions(db, connection, wanted)
        if narrowed is None:
            return []
        before = None
        for _ in range(PAGES_MAX):
            rows = _propose(db, query, narrowed, before=before, limit=wanted.limit - len(hits))
            hits += _confirmed(connection, query, rows)
            if not rows or len(hits) == wanted.limit:
                break
            before = rows[-1][0]
    return hits


def _conditions(
    db: sqlite3.Connection, connection: Connection, wanted: CallFilter
) -> list[tuple[str, list[Any]]] | None:
    """The filter in terms of the index; None when no call can meet it."""
    found: list[tuple[str, list[Any]]] = []
    for column, values in _named(connection, wanted):
        numbers = _numbers(db, values)
        if not numbers:
            return None
        found.append((f"c.{column} IN ({', '.join('?' * len(numbers))})", numbers))
    if wanted.document_id is not None:
        found.append(("c.document = (SELECT no FROM document WHERE id = ?)", [wanted.document_id]))
    if wanted.fault == ANY_FAULT:
        found.append(("c.fault IS NOT NULL", []))
    for condition, value in (
        ("c.created_us >= ?", wanted.since_us),
        ("c.created_us < ?", wanted.until_us),
        ("c.cost_nusd >= ?", wanted.min_cost_nusd),
    ):
        if value is not None:
            found.append((condition, [value]))
    return found


def _named(connection: Connection, wanted: CallFilter) -> Iterator[tuple[str, Sequence[str]]]:
    if wanted.batch_id is not None:
        yield "batch", [wanted.batch_id]
    if wanted.job is not None:
        of_job = select(batch.c.id).where(batch.c.job == wanted.job)
        yield "batch", list(connection.execute(of_job).scalars())
    if wanted.prompt is not None:
        yield "prompt", prompt_ids(connection, wanted.prompt, job=wanted.job)
    if wanted.model is not None:
        yield "model", [wanted.model]
    if wanted.fault not in (None, ANY_FAULT):
        assert wanted.fault is not None
        yield "fault", [wanted.fault]


def _numbers(db: sqlite3.Connection, values: Sequence[str]) -> list[Any]:
    found = (db.execute("SELECT no FROM name WHERE value = ?", (one,)).fetchone() for one in values)
    return [row[0] for row in found if row is not None]


# Each list of hits is made once, whatever the filter; calls are then looked through newest first.
_PROPOSE = """
SELECT c.no, c.id, d.id FROM call AS c JOIN document AS d ON d.no = c.document
WHERE (c.no IN (SELECT rowid FROM answers WHERE answers MATCH ?1)
   OR c.content IN (SELECT rowid FROM texts WHERE texts MATCH ?1)
   OR c.document IN (SELECT document FROM source
                     WHERE id IN (SELECT rowid FROM names WHERE names MATCH ?1)))
"""


def _propose(
    db: sqlite3.Connection,
    query: str,
    narrowed: Sequence[tuple[str, list[Any]]],
    *,
    before: int | None,
    limit: int,
) -> list[tuple[int, str | None, str]]:
    """Numbers and ids of calls and their documents, newest first."""
    conditions = [*narrowed, *([] if before is None else [("c.no < ?", [before])])]
    sql = _PROPOSE + "".join(f" AND {condition}" for condition, _ in conditions)
    values = [value for _, some in conditions for value in some]
    return db.execute(f"{sql} ORDER BY c.no DESC LIMIT ?", (query, *values, limit)).fetchall()


def _confirmed(
    connection: Connection, query: str, rows: Sequence[tuple[int, str | None, str]]
) -> list[Hit]:
    """Those of the proposals whose stored texts have the words now."""
    calls = _calls(connection, [document_id for _, _, document_id in rows])
    present = [
        call
        for _, attempt_id, document_id in rows
        if (call := calls.get((document_id, attempt_id))) is not None
    ]
    return confirm(connection, query, present)


def _calls(
    connection: Connection, document_ids: Sequence[str]
) -> Mapping[tuple[str, str | None], Indexable]:
    found = calls_of_documents(connection, list(set(document_ids)))
    return {(call.document_id, call.attempt_id): call for call in found}


def confirm(connection: Connection, query: str, calls: Sequence[Indexable]) -> list[Hit]:
    """Those of the calls that the query hits, in their order, with the place that it hits."""
    found: dict[int, tuple[str, Snippet | None]] = {}
    for where, pieces in (
        ("answer", _answers(connection, calls)),
        ("source", _sources(connection, calls)),
    ):
        for number, snippet in snippets(query, pieces).items():
            told = "message" if snippet.is_of_other else where
            found.setdefault(number % len(calls), (told, snippet))
    rest = [number for number in range(len(calls)) if number not in found]
    found |= _in_texts(connection, query, calls, rest)
    return [
        Hit(calls[number].attempt_id, calls[number].document_id, *found[number])
        for number in sorted(found)
    ]


def _answers(connection: Connection, calls: Sequence[Indexable]) -> Iterator[tuple[int, str, str]]:
    bodies = blobs.fetch(connection, [call.answer_digest for call in calls])
    for number, call in enumerate(calls):
        yield number, answer_piece(call, bodies), message_piece(call)


def _sources(connection: Connection, calls: Sequence[Indexable]) -> Iterator[tuple[int, str, str]]:
    """Names of sources; their numbers stand for calls, modulo the number of calls."""
    places: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        places.setdefault(call.document_id, []).append(number)
    for round_, name in enumerate(names_of(connection, list(places))):
        for number in places[name.document_id]:
            yield round_ * len(calls) + number, name_piece(name.name), ""


def _in_texts(
    connection: Connection, query: str, calls: Sequence[Indexable], numbers: Sequence[int]
) -> dict[int, tuple[str, Snippet | None]]:
    """Hits in documents' texts; those beyond what is read are believed to the index."""
    read: dict[bytes, list[int]] = {}
    found: dict[int, tuple[str, Snippet | None]] = {}
    size = 0
    for number in numbers:
        digest = calls[number].text_digest
        if digest is None:
            continue
        if digest not in read and size > SHOWN_MAX_BYTES:
            found[number] = ("text", None)
            continue
        if digest not in read:
            size += min(calls[number].text_bytes, CHARS_MAX)
        read.setdefault(digest, []).append(number)
    texts = blobs.fetch(connection, read)
    digests = [digest for digest in read if digest in texts]
    pieces = ((place, text_piece(texts[digest]), "") for place, digest in enumerate(digests))
    for place, snippet in snippets(query, pieces).items():
        found |= dict.fromkeys(read[digests[place]], ("text", snippet))
    return found
