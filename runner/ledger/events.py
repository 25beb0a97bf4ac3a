"""What happened that a person may want to know later, written down as events."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert

from runner.ledger.tables import event


def note(
    connection: Connection,
    kind: str,
    message: str,
    *,
    now_us: int,
    batch_id: str | None = None,
    document_id: str | None = None,
) -> None:
    """Write an event down."""
    connection.execute(
        insert(event).values(
            at_us=now_us, kind=kind, batch_id=batch_id, document_id=document_id, message=message
        )
    )


def note_documents(
    connection: Connection, kind: str, message: str, *, document_ids: Sequence[str], now_us: int
) -> None:
    """Write the same event down for each of many documents."""
    if document_ids:
        connection.execute(
            insert(event),
            [
                {"at_us": now_us, "kind": kind, "document_id": document_id, "message": message}
                for document_id in document_ids
            ],
        )
