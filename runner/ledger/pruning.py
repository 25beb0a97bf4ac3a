"""Retention: the bodies of documents that ended long ago are dropped, all that is known stays.

Bodies are a document's text, and the requests and answers of its calls. Rows, costs, records,
messages and events stay. A body that something younger, or not ended, refers to stays for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    union_all,
    update,
)

from runner.ledger.blobs import REMOVAL
from runner.ledger.dialect import one_at_a_time
from runner.ledger.sweeping import REMOVED, list_unwanted
from runner.ledger.tables import attempt, blob, document, record, review
from runner.model import DocumentState

PAGE = 200  # documents in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """Whose bodies are dropped: of documents that ended before then, and for good.

    What waits for a person (dead letters, reviews, audits) is spared unless `dead_too`.
    """

    before_us: int
    dead_too: bool = False


@dataclass(frozen=True, slots=True)
class Prunable:
    """What a prune would drop; bytes as they are stored (compressed)."""

    documents: int
    calls: int
    stored_bytes: int


def _is_prunable(age: Age) -> ColumnElement[bool]:
    ended: ColumnElement[bool] = or_(
        document.c.state == DocumentState.CANCELLED,
        and_(document.c.state == DocumentState.DONE, ~_awaits_audit()),
    )
    if age.dead_too:
        ended = document.c.state.in_(
            [
                DocumentState.DONE,
                DocumentState.CANCELLED,
                DocumentState.DEAD,
                DocumentState.REVIEW,
            ]
        )
    return and_(
        ended,
        document.c.pruned_us.is_(None),
        document.c.erased_us.is_(None),
        document.c.finished_us < age.before_us,
    )


def _awaits_audit() -> ColumnElement[bool]:
    """Drawn for a person's audit, and nobody has decided on it yet."""
    sampled = exists().where(record.c.document_id == document.c.id, record.c.sampled.is_(True))
    decided = exists().where(review.c.document_id == document.c.id)
    return and_(sampled, ~decided)


def prunable(connection: Connection, age: Age) -> Prunable:
    """What `prune` would drop now."""
    is_old = case((_is_prunable(age), 1), else_=0)
    judged = select(document.c.id, document.c.text_digest, is_old.label("is_old")).cte("judged")
    documents = connection.execute(select(func.sum(judged.c.is_old))).scalar()
    calls = connection.execute(
        select(func.sum(judged.c.is_old)).join(attempt, attempt.c.document_id == judged.c.id)
    ).scalar()
    stored = connection.execute(
        select(func.sum(func.length(blob.c.zstd))).where(blob.c.digest.in_(_only_theirs(judged)))
    ).scalar()
    return Prunable(int(documents or 0), int(calls or 0), int(stored or 0))


def _only_theirs(judged: CTE) -> Select[Any]:
    """Every blob that old documents and their calls refer to, and no other ones."""
    of_calls = (
        select(column.label("digest"), judged.c.is_old).join(
            judged, judged.c.id == attempt.c.document_id
        )
        for column in (
            attempt.c.request_head_digest,
            attempt.c.request_tail_digest,
            attempt.c.answer_digest,
        )
    )
    of_texts = select(judged.c.text_digest.label("digest"), judged.c.is_old)
    refers = union_all(of_texts, *of_calls).subquery()
    digests = select(refers.c.digest).where(refers.c.digest.is_not(None))
    return digests.group_by(refers.c.digest).having(func.min(refers.c.is_old) == 1)


def prunable_page(connection: Connection, age: Age, *, after: str) -> list[str]:
    """Ids of the next documents that are old enough, in the order of ids; none behind the last."""
    query = select(document.c.id).where(_is_prunable(age), document.c.id > after)
    return list(connection.execute(query.order_by(document.c.id).limit(PAGE)).scalars())


_DROP_TEXT = (
    update(document)
    .where(document.c.id == bindparam("key"))
    .values(
        former_digest=func.coalesce(document.c.text_digest, document.c.former_digest),
        text_digest=None,
        pruned_us=bindparam("at"),
    )
)


def still_prunable(connection: Connection, ids: Sequence[str], age: Age) -> list[str]:
    """Those of the documents that are still to be pruned; nobody changes them until the end.

    One that was retried or decided on meanwhile is none of them.
    """
    one_at_a_time(connection, REMOVAL)
    query = select(document.c.id).where(document.c.id.in_(list(ids)), _is_prunable(age))
    return list(connection.execute(query.with_for_update()).scalars())


def prune(connection: Connection, ids: Sequence[str], *, now_us: int) -> int:
    """Let go of the bodies of these documents; how many calls they had.

    The next sweep drops what nothing else refers to.
    """
    if not ids:
        return 0
    digests = select(document.c.text_digest).where(document.c.id.in_(list(ids)))
    list_unwanted(connection, list(connection.execute(digests).scalars()))
    calls = drop_bodies(connection, ids)
    connection.execute(_DROP_TEXT, [{"key": id_, "at": now_us} for id_ in ids])
    return calls


def drop_bodies(connection: Connection, document_ids: Sequence[str]) -> int:
    """Let go of requests and answers of these documents' calls; how many calls that were."""
    theirs = attempt.c.document_id.in_(list(document_ids))
    rows = connection.execute(
        select(
            attempt.c.request_head_digest,
            attempt.c.request_tail_digest,
            attempt.c.answer_digest,
        ).where(theirs)
    ).all()
    connection.execute(
        update(attempt)
        .where(theirs)
        .values(request_head_digest=REMOVED, request_tail_digest=None, answer_digest=None)
    )
    list_unwanted(connection, [digest for row in rows for digest in row])
    return len(rows)
