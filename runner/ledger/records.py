"""Writes the records of what is done or waits for a person."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from runner.ledger.dialect import insert_new
from runner.ledger.ends import Finish
from runner.ledger.evidence import written_evidence
from runner.ledger.sampling import is_sampled
from runner.ledger.tables import record
from runner.model import BatchState, Done, Purpose, Review


def write_records(
    connection: Connection,
    kept: Sequence[Finish],
    rows: Mapping[str, Any],
    attempts: Mapping[str, Any],
) -> None:
    """Write a record for each document that is done or in review, unless its batch is cancelled."""
    written = [
        _record_row(one, one.outcome, rows[one.ticket.document_id], attempts)
        for one in kept
        if isinstance(one.outcome, Done | Review)
        and rows[one.ticket.document_id].batch_state != BatchState.CANCELLED
    ]
    insert_new(connection, record, written)


def _record_row(
    one: Finish, outcome: Done | Review, row: Any, attempts: Mapping[str, Any]
) -> dict[str, Any]:
    attempt_id = one.record_attempt_id or (one.settlement.attempt_id if one.settlement else "")
    # a rollback may have pinned the document to another prompt since its answer was asked for
    asked_with = attempts[attempt_id].prompt_id if attempt_id in attempts else one.prompt_id
    return {
        "document_id": one.ticket.document_id,
        "batch_id": row.batch_id,
        "attempt_id": attempt_id,
        "data_json": outcome.data_json,
        "flags_json": json.dumps(outcome.flags),
        "evidence_json": written_evidence(outcome.evidence),
        "sampled": _is_drawn(one, row),
        "model": one.model,
        "prompt_id": asked_with,
        "latency_us": max(0, one.now_us - row.created_us),
        "created_us": one.now_us,
    }


def _is_drawn(one: Finish, row: Any) -> bool:
    """Whether a person audits this record, by what the document is and not by what came of it."""
    return (
        isinstance(one.outcome, Done)
        and row.purpose == Purpose.RUN
        and is_sampled(row.text_digest, one.audit_percent)
    )
