"""Dead letters: list, group, retry once however many ask, and purge."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from runner.ledger.blobs import REMOVAL
from runner.ledger.dialect import chunks, one_at_a_time
from runner.ledger.events import note, note_documents
from runner.ledger.sources import FIRST_NAME
from runner.ledger.sweeping import list_unwanted
from runner.ledger.tables import batch, document
from runner.model import BatchState, DeadReason, DocumentState


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadFilter:
    """Which dead letters are meant; all of them by default."""

    batch_id: str | None = None
    reason: str | None = None
    grep: str | None = None  # a part of the message, any case
    since_us: int | None = None
    until_us: int | None = None
    signature: str | None = None  # of one group
    document_ids: tuple[str, ...] = ()
    limit: int | None = None
    skip: int = 0  # so many of the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A document that ended without a record."""

    document_id: str
    batch_id: str
    batch_name: str
    job: str
    source: str
    reason: str
    message: str
    signature: str
    calls: int
    cost_nusd: int
    text_bytes: int
    finished_us: int
    has_text: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadGroup:
    """Dead letters that failed alike."""

    signature: str
    reason: str
    documents: int
    example_id: str


def _wanted(query: Select[tuple[object, ...]], wanted: DeadFilter) -> Select[tuple[object, ...]]:
    query = query.where(document.c.state == DocumentState.DEAD)
    if wanted.batch_id is not None:
        query = query.where(document.c.batch_id == wanted.batch_id)
    if wanted.reason is not None:
        query = query.where(document.c.reason == wanted.reason)
    if wanted.grep is not None:
        query = query.where(
            func.lower(document.c.message).contains(wanted.grep.lower(), autoescape=True)
        )
    if wanted.since_us is not None:
        query = query.where(document.c.finished_us >= wanted.since_us)
    if wanted.until_us is not None:
        query = query.where(document.c.finished_us <= wanted.until_us)
    if wanted.signature is not None:
        query = query.where(func.coalesce(document.c.signature, "") == wanted.signature)
    if wanted.document_ids:
        query = query.where(document.c.id.in_(wanted.document_ids))
    return query


def list_dead(connection: Connection, wanted: DeadFilter) -> list[DeadLetter]:
    """The newest dead letters first."""
    newest_first = (document.c.finished_us.desc(), document.c.id)
    columns = (
        document.c.id.label("document_id"),
        document.c.batch_id,
        batch.c.name.label("batch_name"),
        batch.c.job,
        FIRST_NAME.label("source"),
        document.c.reason,
        func.coalesce(document.c.message, "").label("message"),
        func.coalesce(document.c.signature, "").label("signature"),
        document.c.calls,
        document.c.cost_nusd,
        document.c.text_bytes,
        document.c.finished_us,
        document.c.text_digest.is_not(None).label("has_text"),
    )
    query: Select[tuple[object, ...]] = select(*columns)
    query = query.join(batch, batch.c.id == document.c.batch_id).order_by(*newest_first)
    if wanted.limit is None:
        query = _wanted(query, wanted)
    else:
        # chosen first: else the name of each that matches would be looked up
        chosen = _wanted(select(document.c.id), wanted).order_by(*newest_first)
        query = query.where(document.c.id.in_(chosen.limit(wanted.limit).offset(wanted.skip)))
    # by place, in the order of the columns: by name takes twice as long, and there may be thousands
    names = DeadLetter.__slots__
    rows: Sequence[Any] = connection.execute(query).all()
    return [DeadLetter(**dict(zip(names, row, strict=True))) for row in rows]


def group_dead(connection: Connection, wanted: DeadFilter) -> list[DeadGroup]:
    """Dead letters by error signature, the largest group first."""
    query = _wanted(
        select(
            func.coalesce(document.c.signature, "").label("signature"),
            document.c.reason,
            func.count().label("documents"),
            func.min(document.c.id).label("example_id"),
        ),
        wanted,
    ).group_by(document.c.signature, document.c.reason)
    groups = [DeadGroup(**row) for row in connection.execute(query).mappings()]
    return sorted(groups, key=lambda group: (-group.documents, group.signature))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Another prompt or ladder for retried documents than their batch's."""

    prompt_version: str
    prompt_id: str
    models: tuple[str, ...]


def new_life(*, pins: Pins | None, now_us: int) -> dict[str, Any]:
    """The columns of a document that is queued anew: calls and money stay, all else begins."""
    life = {
        "state": DocumentState.QUEUED,
        "due_us": now_us,
        "queued_us": now_us,
        "finished_us": None,
        "ladder_step": 0,
        "output_doubled": False,
        "attempts": 0,
        "deferrals": 0,
        "deferred_since_us": None,
        "crashes": 0,
        "reasks": 0,
        "check_reasks": 0,
        "ambiguous": 0,
        "internal_errors": 0,
        "reask_json": None,
        "first_read_json": None,
        "spent_before_nusd": document.c.cost_nusd + document.c.ambiguous_nusd,
    }
    if pins is None:
        return life
    return life | {
        "prompt_version": pins.prompt_version,
        "prompt_id": pins.prompt_id,
        "models_json": json.dumps(pins.models),
    }


def retry_dead(
    connection: Connection, ids: Sequence[str], *, pins: Pins | None, now_us: int
) -> list[str]:
    """Queue these dead letters again with a new life; the ids that this call retried.

    Two people at once retry once: only the one whose update finds the document dead is answered
    with its id. A document without text (unparsable) has nothing to send and stays dead, and so
    does one of a cancelled batch.
    """
    retried: list[str] = []
    life = new_life(pins=pins, now_us=now_us)
    for some in chunks(ids):
        rows = connection.execute(
            update(document)
            .where(
                document.c.id.in_(some),
                document.c.state == DocumentState.DEAD,
                document.c.reason != DeadReason.UNPARSABLE,
                document.c.text_digest.is_not(None),
                document.c.batch_id.in_(
                    select(batch.c.id).where(batch.c.state != BatchState.CANCELLED)
                ),
            )
            .values(life)
            .returning(document.c.id)
        ).scalars()
        retried += rows
    note_documents(connection, "dead_retried", "retried", document_ids=retried, now_us=now_us)
    return retried


def purge_dead(connection: Connection, ids: Iterable[str], *, now_us: int) -> int:
    """Let go of the text of these dead letters; rows, costs and reasons stay. How many are.

    The next sweep drops the texts that nothing else refers to.
    """
    purged = 0
    one_at_a_time(connection, REMOVAL)
    for some in chunks(ids):
        meant = (document.c.id.in_(some), document.c.state == DocumentState.DEAD)
        digests = connection.execute(select(document.c.text_digest).where(*meant)).scalars()
        list_unwanted(connection, list(digests))
        purged += connection.execute(
            update(document)
            .where(*meant)
            .values(
                former_digest=func.coalesce(document.c.text_digest, document.c.former_digest),
                text_digest=None,
            )
        ).rowcount
    note(connection, "dead_purged", f"{purged} dead letters purged", now_us=now_us)
    return purged
