"""Takes out of the search index what is about to leave the ledger.

The index keeps no texts, so it can only forget what it is shown once more: all this is done in a
transaction of the ledger in which the texts are still there. Doing it twice takes out nothing
twice.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from runner.ledger import blobs
from runner.ledger.indexable import Indexable, calls_of_documents, names_of
from runner.search.pieces import answer_piece, message_piece, name_piece, text_piece


def forget_bodies(
    db: sqlite3.Connection, connection: Connection, document_ids: Sequence[str]
) -> None:
    """Forget texts and answers; messages and the names of sources can still be searched for.

    A text stays as long as another document that is not forgotten has it.
    """
    _forget_words(db, connection, document_ids, keep_messages=True)


def forget_texts(
    db: sqlite3.Connection, connection: Connection, document_ids: Sequence[str]
) -> None:
    """Forget only texts."""
    digests = [call.text_digest for call in calls_of_documents(connection, document_ids)]
    bodies = blobs.fetch(connection, digests)
    for document_id in document_ids:
        _forget_text(db, document_id, bodies)


def forget_all(
    db: sqlite3.Connection,
    connection: Connection,
    document_ids: Sequence[str],
    *,
    names_too: bool,
) -> None:
    """Forget texts, answers and messages, and the names of sources if these go too."""
    _forget_words(db, connection, document_ids, keep_messages=False)
    if names_too:
        _forget_names(db, connection, document_ids)


def knows(db: sqlite3.Connection, document_ids: Sequence[str]) -> bool:
    """Whether anything that one of these documents said can still be searched for."""
    said = (
        "SELECT 1 FROM document LEFT JOIN call ON call.document = document.no "
        "WHERE document.id = ? AND (document.content IS NOT NULL OR has_answer OR has_message)"
    )
    return any(db.execute(said, (id_,)).fetchone() is not None for id_ in document_ids)


def _forget_words(
    db: sqlite3.Connection,
    connection: Connection,
    document_ids: Sequence[str],
    *,
    keep_messages: bool,
) -> None:
    calls = calls_of_documents(connection, document_ids)
    bodies = _bodies(connection, calls)
    for call in calls:
        _forget_call(db, call, bodies, keep_message=keep_messages)
    for document_id in document_ids:
        _forget_text(db, document_id, bodies)


def _bodies(connection: Connection, calls: Sequence[Indexable]) -> Mapping[bytes, bytes]:
    answers = [call.answer_digest for call in calls]
    return blobs.fetch(connection, answers + [call.text_digest for call in calls])


def _forget_call(
    db: sqlite3.Connection,
    call: Indexable,
    bodies: Mapping[bytes, bytes],
    *,
    keep_message: bool,
) -> None:
    found = db.execute(
        "SELECT call.no, has_answer, has_message FROM call JOIN document ON document.no = document "
        "WHERE call.id IS ? AND document.id = ?",
        (call.attempt_id, call.document_id),
    ).fetchone()
    if found is None:
        return
    no, has_answer, has_message = found
    answer = answer_piece(call, bodies) if has_answer else ""
    message = message_piece(call) if has_message else ""
    if not answer and (keep_message or not message):
        return
    db.execute(
        "INSERT INTO answers (answers, rowid, answer, message) VALUES ('delete', ?, ?, ?)",
        (no, answer, message),
    )
    kept = keep_message and message != ""
    if kept:
        db.execute("INSERT INTO answers (rowid, answer, message) VALUES (?, '', ?)", (no, message))
    db.execute("UPDATE call SET has_answer = 0, has_message = ? WHERE no = ?", (kept, no))


def _forget_text(db: sqlite3.Connection, document_id: str, bodies: Mapping[bytes, bytes]) -> None:
    found = db.execute(
        "SELECT document.no, content.no, digest FROM document "
        "JOIN content ON content.no = document.content WHERE document.id = ?",
        (document_id,),
    ).fetchone()
    if found is None:
        return
    document, content, digest = found
    db.execute("UPDATE document SET content = NULL WHERE no = ?", (document,))
    db.execute("UPDATE call SET content = NULL WHERE document = ?", (document,))
    others = db.execute("SELECT 1 FROM document WHERE content = ? LIMIT 1", (content,)).fetchone()
    if others is None and digest in bodies:
        db.execute(
            "INSERT INTO texts (texts, rowid, words) VALUES ('delete', ?, ?)",
            (content, text_piece(bodies[digest])),
        )
        db.execute("DELETE FROM content WHERE no = ?", (content,))


def _forget_names(
    db: sqlite3.Connection, connection: Connection, document_ids: Sequence[str]
) -> None:
    for name in names_of(connection, document_ids):
        deleted = db.execute("DELETE FROM source WHERE id = ?", (name.id,))
        if deleted.rowcount:
            db.execute(
                "INSERT INTO names (names, rowid, words) VALUES ('delete', ?, ?)",
                (name.id, name_piece(name.name)),
            )
