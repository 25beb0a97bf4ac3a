"""Raw answers made durable before anything reads them, in bulk.

Every write carries the lease token of the claim; a stale one changes no row and is answered False.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from runner.keys import content_digest
from runner.ledger import blobs
from runner.ledger.tables import attempt, document
from runner.model import AttemptState, RawAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A raw answer to make durable before anything reads it."""

    attempt_id: str
    lease_token: str
    document_id: str
    answer: RawAnswer


_STORE_ANSWER = (
    update(attempt)
    .where(attempt.c.id == bindparam("key"), attempt.c.state == AttemptState.INTENT)
    .values(
        state=AttemptState.ANSWERED,
        answer_digest=bindparam("digest"),
        status=bindparam("http"),
        headers_json=bindparam("headers"),
        response_us=bindparam("elapsed"),
    )
)


def store_answers(connection: Connection, answers: Sequence[Answer]) -> list[bool]:
    """Make raw answers durable; False where the lease was lost meanwhile."""
    tokens = _tokens(connection, [one.document_id for one in answers])
    kept = [one for one in answers if tokens.get(one.document_id) == one.lease_token]
    if kept:
        blobs.store(connection, (one.answer.body for one in kept))
        connection.execute(
            _STORE_ANSWER,
            [
                {
                    "key": one.attempt_id,
                    "digest": content_digest(one.answer.body),
                    "http": one.answer.status,
                    "headers": json.dumps(dict(one.answer.headers)),
                    "elapsed": one.answer.elapsed_us,
                }
                for one in kept
            ],
        )
    return [tokens.get(one.document_id) == one.lease_token for one in answers]


def _tokens(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    rows = connection.execute(
        select(document.c.id, document.c.lease_token)
        .where(document.c.id.in_(list(ids)))
        .with_for_update()
    )
    return {row.id: row.lease_token for row in rows}
