"""What the end of a turn makes of its document's row."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from sqlalchemy import Connection, bindparam, update

from runner.ledger.ends import Finish, reads_again, was_called
from runner.ledger.secondreads import written_first
from runner.ledger.tables import document
from runner.model import (
    Again,
    AttemptState,
    BatchState,
    Charge,
    Dead,
    DocumentState,
    Done,
    Fault,
    FieldError,
    FirstRead,
    Purpose,
    Review,
    Unconfirmed,
)

_DOCUMENT_COLUMNS = (
    "state",
    "due_us",
    "ladder_step",
    "output_doubled",
    "attempts",
    "deferrals",
    "deferred_since_us",
    "reasks",
    "check_reasks",
    "ambiguous",
    "internal_errors",
    "reask_json",
    "first_read_json",
    "calls",
    "cost_nusd",
    "cost_known",
    "ambiguous_nusd",
    "reason",
    "message",
    "signature",
    "queued_us",
    "finished_us",
)


_FINISH_DOCUMENT = (
    update(document)
    .where(document.c.id == bindparam("key"))
    .values(
        {name: bindparam(f"new_{name}") for name in _DOCUMENT_COLUMNS}
        | {"lease_token": None, "worker_id": None}
    )
)


def finish_documents(
    connection: Connection,
    kept: Sequence[Finish],
    rows: Mapping[str, Any],
    attempts: Mapping[str, Any],
) -> Mapping[str, DocumentState]:
    """Write what the ends of turns make of their documents, before in `rows`; their states now."""
    values = [_document_values(one, rows[one.ticket.document_id], attempts) for one in kept]
    connection.execute(_FINISH_DOCUMENT, values)
    return {one["key"]: DocumentState(one["new_state"]) for one in values}


def _document_values(one: Finish, row: Any, attempts: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _DOCUMENT_COLUMNS}
    settlement = one.settlement
    if settlement is not None:
        values["calls"] -= settlement.state is AttemptState.NOT_SENT  # no call was made
        values["cost_nusd"] += settlement.cost_nusd or 0
        values["ambiguous_nusd"] += settlement.ambiguous_nusd
        # an ambiguous call without a hold had no known price: its worst case is unknown too
        unsure = settlement.state is AttemptState.AMBIGUOUS
        known = settlement.cost_nusd is not None or (
            unsure and attempts[settlement.attempt_id].hold_nusd is not None
        )
        values["cost_known"] = row.cost_known and known
    values |= _values_of_outcome(one, row)
    if _is_cancelled(one, row):
        values |= {"state": DocumentState.CANCELLED, "finished_us": one.now_us}
    return {"key": one.ticket.document_id} | {
        f"new_{name}": value for name, value in values.items()
    }


def _is_cancelled(one: Finish, row: Any) -> bool:
    """Whether its batch was, or it was only tried: then nobody waits for another call."""
    if row.batch_state == BatchState.CANCELLED:
        return not reads_again(one)
    return row.purpose == Purpose.TRY and isinstance(one.outcome, Again)


def _values_of_outcome(one: Finish, row: Any) -> dict[str, Any]:
    match one.outcome:
        case Done():
            return {
                "state": DocumentState.DONE,
                "attempts": row.attempts + 1,
                "reason": None,
                "message": None,
                "signature": None,
                "reask_json": None,
                "first_read_json": None,
                "finished_us": one.now_us,
            }
        case Unconfirmed(first=first):
            return _values_of_unconfirmed(first, one, row)
        case Again() as again:
            return _values_of_again(again, one, row)
        case Review(reason=reason, failure=failure):
            state = DocumentState.REVIEW
            reask_json = _errors_json(failure.errors)
        case Dead(reason=reason, failure=failure):
            state = DocumentState.DEAD
            reask_json = row.reask_json
        case _:
            assert_never(one.outcome)
    return {
        "state": state,
        "attempts": row.attempts + was_called(one),
        "reask_json": reask_json,
        "reason": reason,
        "message": failure.message,
        "signature": one.signature,
        "first_read_json": None,
        "finished_us": one.now_us,
    }


def _values_of_unconfirmed(first: FirstRead, one: Finish, row: Any) -> dict[str, Any]:
    """A second read begins with no re-asks behind it; calls and money count on."""
    return {
        "state": DocumentState.QUEUED,
        "due_us": one.now_us,
        "ladder_step": 0,
        "output_doubled": False,
        "attempts": row.attempts + 1,
        "deferred_since_us": None,
        "reasks": 0,
        "check_reasks": 0,
        "reask_json": None,
        "first_read_json": written_first(first),
        "reason": None,
        "message": None,
        "signature": None,
        "queued_us": one.now_us,
    }


def _values_of_again(again: Again, one: Finish, row: Any) -> dict[str, Any]:
    charged = again.charge is Charge.ATTEMPT
    same_model = again.ladder_step == row.ladder_step
    fault = again.failure.fault
    reask = fault in (Fault.INVALID_JSON, Fault.SCHEMA_INVALID)
    recheck = fault in (Fault.CHECK_FAILED, Fault.NOT_GROUNDED)
    return {
        "state": DocumentState.QUEUED,
        "due_us": one.now_us + round(again.delay_s * 1e6),
        "ladder_step": again.ladder_step,
        "output_doubled": again.output_doubled,
        "attempts": row.attempts + charged,
        "deferrals": row.deferrals + (not charged),
        "deferred_since_us": None if charged else (row.deferred_since_us or one.now_us),
        "reasks": row.reasks + reask if same_model else 0,
        "check_reasks": row.check_reasks + recheck if same_model else 0,
        "ambiguous": row.ambiguous + (fault is Fault.AMBIGUOUS),
        "internal_errors": row.internal_errors + (fault is Fault.INTERNAL_ERROR),
        "reask_json": _errors_json(again.reask) or (row.reask_json if same_model else None),
        "reason": fault,
        "message": again.failure.message,
        "signature": one.signature,
        "queued_us": one.now_us,
    }


def _errors_json(errors: Sequence[FieldError]) -> str | None:
    return json.dumps([(error.path, error.message) for error in errors]) if errors else None
