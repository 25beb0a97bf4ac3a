"""Loads what a worker needs to know to take one document through one turn."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from runner.keys import Ticket
from runner.ledger import blobs
from runner.ledger.deadletters import Pins
from runner.ledger.secondreads import SecondPin, read_first, read_second_pin
from runner.ledger.tables import attempt, batch, document
from runner.model import (
    PROVIDER_FAULTS,
    AttemptState,
    DocumentState,
    FieldError,
    FirstRead,
    History,
    Purpose,
    RawAnswer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An attempt with a durable raw answer and no outcome: it is read again for free."""

    attempt_id: str
    model: str
    answer: RawAnswer
    hold_nusd: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that a worker needs to know to take one document through one turn."""

    ticket: Ticket
    batch_id: str
    job: str
    prompt_version: str
    prompt_id: str
    models: tuple[str, ...]
    simulated: bool
    text: str
    history: History  # of deferrals: as of its last write; `history_at` counts on
    deferred_since_us: int | None
    reask: tuple[FieldError, ...]
    last_fault: str | None  # what sent it back to the queue, if anything did
    calls: int
    spent_nusd: int  # in its present life, calls of unknown end at their worst
    created_us: int
    queued_us: int
    stored: StoredAnswer | None = None
    second: SecondPin | None = None  # what its batch pinned
    first: FirstRead | None = None  # what this turn is to confirm
    purpose: Purpose = Purpose.RUN

    @property
    def repeats(self) -> bool:
        """Whether its next call repeats a charged one that failed for the provider's reasons."""
        charged = self.history.attempts > 0 and self.deferred_since_us is None
        return charged and self.last_fault in PROVIDER_FAULTS

    def history_at(self, now_us: int) -> History:
        """Its present life with deferrals counted until `now_us`."""
        since_us = self.deferred_since_us
        if since_us is None:
            return self.history
        return replace(self.history, deferred_s=max(0, now_us - since_us) / 1e6)


def load(connection: Connection, tickets: Sequence[Ticket]) -> list[Work | None]:
    """What each ticket stands for; None when it is stale (another turn, or not ready)."""
    ids = [ticket.document_id for ticket in tickets]
    rows = {
        row.id: row
        for row in connection.execute(
            select(
                document,
                batch.c.job,
                batch.c.prompt_version.label("batch_prompt_version"),
                batch.c.prompt_id.label("batch_prompt_id"),
                batch.c.models_json.label("batch_models_json"),
                batch.c.second_read_json,
                batch.c.simulated,
                batch.c.purpose,
            )
            .join(batch, batch.c.id == document.c.batch_id)
            .where(document.c.id.in_(ids), document.c.state == DocumentState.READY)
        )
    }
    stored = _stored_answers(connection, [row.id for row in rows.values() if row.calls])
    texts = blobs.fetch(connection, (row.text_digest for row in rows.values()))
    return [
        _work(row, ticket, texts, stored.get(ticket.document_id))
        if (row := rows.get(ticket.document_id)) is not None and row.turn == ticket.turn
        else None
        for ticket in tickets
    ]


def _stored_answers(connection: Connection, ids: list[str]) -> dict[str, StoredAnswer]:
    if not ids:
        return {}
    rows = connection.execute(
        select(attempt).where(
            attempt.c.document_id.in_(ids), attempt.c.state == AttemptState.ANSWERED
        )
    ).all()
    bodies = blobs.fetch(connection, (row.answer_digest for row in rows))
    return {
        row.document_id: StoredAnswer(
            attempt_id=row.id,
            model=row.model,
            answer=RawAnswer(
                status=row.status,
                body=bodies[row.answer_digest],
                headers=json.loads(row.headers_json),
                elapsed_us=row.response_us,
            ),
            hold_nusd=row.hold_nusd,
        )
        for row in rows
    }


def _work(
    row: Any, ticket: Ticket, texts: Mapping[bytes, bytes], stored: StoredAnswer | None
) -> Work:
    second = read_second_pin(row.second_read_json)
    first = read_first(row.first_read_json)
    pins = _pins(row) if second is None or first is None else second
    return Work(
        ticket=ticket,
        batch_id=row.batch_id,
        job=row.job,
        prompt_version=pins.prompt_version,
        prompt_id=pins.prompt_id,
        models=pins.models,
        simulated=row.simulated,
        text=texts[row.text_digest].decode(),
        history=history_of(row),
        deferred_since_us=row.deferred_since_us,
        reask=tuple(FieldError(*pair) for pair in json.loads(row.reask_json or "[]")),
        last_fault=row.reason,
        calls=row.calls,
        spent_nusd=row.cost_nusd + row.ambiguous_nusd - row.spent_before_nusd,
        created_us=row.created_us,
        queued_us=row.queued_us,
        stored=stored,
        second=second,
        first=first,
        purpose=Purpose(row.purpose),
    )


def _pins(row: Any) -> Pins:
    return Pins(
        prompt_version=row.prompt_version or row.batch_prompt_version,
        prompt_id=row.prompt_id or row.batch_prompt_id,
        models=tuple(json.loads(row.models_json or row.batch_models_json)),
    )


def history_of(row: Any, *, now_us: int | None = None) -> History:
    """The present life of a document from its row; deferrals last until `now_us`."""
    since = row.deferred_since_us
    return History(
        attempts=row.attempts,
        deferrals=row.deferrals,
        deferred_s=0.0 if since is None or now_us is None else max(0, now_us - since) / 1e6,
        crashes=row.crashes,
        reasks=row.reasks,
        check_reasks=row.check_reasks,
        ambiguous=row.ambiguous,
        internal_errors=row.internal_errors,
        ladder_step=row.ladder_step,
        output_doubled=row.output_doubled,
    )
