"""After a call: the raw answer made durable, then the outcome, its record and its money, in bulk.

Every write carries the lease token of the claim; a stale one changes no row and is answered False.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from sqlalchemy import Connection, bindparam, select, update

from runner.keys import Ticket, content_digest
from runner.lanes import Lane
from runner.ledger import blobs
from runner.ledger.alerts import is_mostly_spent
from runner.ledger.dialect import insert_new
from runner.ledger.events import note
from runner.ledger.evidence import written_evidence
from runner.ledger.keypauses import Told, conclude_probes
from runner.ledger.money import move_money, scopes_of
from runner.ledger.sampling import is_sampled
from runner.ledger.secondreads import written_first
from runner.ledger.suspicion import Ended, Suspicion, note_configuration_faults
from runner.ledger.tables import attempt, batch, document, record
from runner.ledger.tallying import count_ends
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
    Outcome,
    Purpose,
    RawAnswer,
    Review,
    Unconfirmed,
    Usage,
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one attempt ended: what it cost, what it used, and how long its reading took."""

    attempt_id: str
    state: AttemptState  # CONCLUDED, AMBIGUOUS or NOT_SENT
    cost_nusd: int | None  # none at an unknown price
    ambiguous_nusd: int = 0
    usage: Usage | None = None
    response_us: int | None = None
    parse_us: int | None = None
    total_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of a turn: its outcome, and the settlement of its attempt.

    Without a lease token (nothing was called) the ticket must still be ready.
    """

    ticket: Ticket
    outcome: Outcome
    signature: str
    now_us: int
    lease_token: str | None = None
    settlement: Settlement | None = None
    model: str = ""
    prompt_id: str = ""
    lane: Lane | None = None  # who was, or would have been, asked: what a key is paused by
    ceiling_nusd: int | None = None  # of the document's present life
    audit_percent: float = 0.0  # of done documents, drawn for a person's audit
    record_attempt_id: str | None = None  # what gave its record; none: the attempt that ended


def finish(connection: Connection, finishes: Sequence[Finish]) -> list[bool]:
    """Write outcomes, records, money and pauses; False where the lease was lost meanwhile."""
    rows = {
        row.id: row
        for row in connection.execute(
            select(
                document,
                batch.c.state.label("batch_state"),
                batch.c.simulated,
                batch.c.purpose,
                batch.c.alike_fault,
                batch.c.alike_documents_json,
            )
            .join(batch, batch.c.id == document.c.batch_id)
            .where(document.c.id.in_([one.ticket.document_id for one in finishes]))
            .with_for_update()
        )
    }
    # by document: of two ends of one turn in one group, the first one counts
    kept: dict[str, Finish] = {}
    for one in finishes:
        if _holds(one, rows.get(one.ticket.document_id)):
            kept.setdefault(one.ticket.document_id, one)
    if kept:
        _write_ends(connection, list(kept.values()), rows)
    return [kept.get(one.ticket.document_id) is one for one in finishes]


def _write_ends(connection: Connection, kept: Sequence[Finish], rows: Mapping[str, Any]) -> None:
    attempts = _settle(connection, kept, rows)
    values = [_document_values(one, rows[one.ticket.document_id], attempts) for one in kept]
    connection.execute(_FINISH_DOCUMENT, values)
    _write_records(connection, kept, rows, attempts)
    states = {one["key"]: DocumentState(one["new_state"]) for one in values}
    count_ends(connection, kept, states=states, rows=rows, attempts=attempts)
    _alert_of_ceilings(connection, kept, rows)
    now_us = kept[0].now_us
    ended = [(rows[one.ticket.document_id], one) for one in kept]
    note_configuration_faults(
        connection,
        [
            Ended(row.id, row.batch_id, one.outcome, one.lane)
            for row, one in ended
            if row.purpose != Purpose.TRY  # it leaves nothing that a pause could spare
        ],
        {row.batch_id: Suspicion.of_batch(row) for row, _ in ended},
        now_us=now_us,
    )
    told = {
        row.id: Told(_fault_of(one.outcome)[0], _was_called(one), one.lane) for row, one in ended
    }
    conclude_probes(connection, told, now_us=now_us)


def _holds(one: Finish, row: Any) -> bool:
    if row is None or row.turn != one.ticket.turn:
        return False
    if one.lease_token is None:
        return bool(row.state == DocumentState.READY)
    return bool(row.state == DocumentState.RUNNING and row.lease_token == one.lease_token)


_SETTLE_ATTEMPT = (
    update(attempt)
    .where(attempt.c.id == bindparam("key"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "state",
                "cost_nusd",
                "ambiguous_nusd",
                "fault",
                "charged",
                "message",
                "input_tokens",
                "cached_tokens",
                "cache_write_tokens",
                "output_tokens",
                "reasoning_tokens",
                "service_tier",
                "response_us",
                "parse_us",
                "total_us",
            )
        }
    )
)


def _settle(
    connection: Connection, kept: Sequence[Finish], rows: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Move the money of every attempt that ended; what the gate had written of each."""
    settled = [(one, one.settlement) for one in kept if one.settlement is not None]
    if not settled:
        return {}
    attempts = {
        row.id: row
        for row in connection.execute(
            select(
                attempt.c.id,
                attempt.c.number,
                attempt.c.model,
                attempt.c.prompt_id,
                attempt.c.hold_nusd,
                attempt.c.created_us,
                attempt.c.queue_wait_us,
                attempt.c.limiter_wait_us,
            ).where(attempt.c.id.in_([settlement.attempt_id for _, settlement in settled]))
        )
    }
    connection.execute(
        _SETTLE_ATTEMPT, [_attempt_values(one, settlement) for one, settlement in settled]
    )
    held: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    unsure: Counter[str] = Counter()
    for one, settlement in settled:
        row, call = rows[one.ticket.document_id], attempts[settlement.attempt_id]
        # of the day of its claim, where its hold is, however late it ends
        for scope in scopes_of(row.batch_id, simulated=row.simulated, at_us=call.created_us):
            held[scope] -= call.hold_nusd or 0
            cost[scope] += settlement.cost_nusd or 0
            unsure[scope] += settlement.ambiguous_nusd
    move_money(connection, held=held, settled=cost, ambiguous=unsure)
    return attempts


def _attempt_values(one: Finish, settlement: Settlement) -> dict[str, Any]:
    usage = settlement.usage
    fault, message = _fault_of(one.outcome)
    return {
        "key": settlement.attempt_id,
        "new_state": settlement.state,
        "new_cost_nusd": settlement.cost_nusd,
        "new_ambiguous_nusd": settlement.ambiguous_nusd,
        "new_fault": fault,
        "new_charged": _is_charged(one),
        "new_message": message,
        "new_input_tokens": usage and usage.input_tokens,
        "new_cached_tokens": usage and usage.cached_tokens,
        "new_cache_write_tokens": usage and usage.cache_write_tokens,
        "new_output_tokens": usage and usage.output_tokens,
        "new_reasoning_tokens": usage and usage.reasoning_tokens,
        "new_service_tier": usage and usage.service_tier,
        "new_response_us": settlement.response_us,
        "new_parse_us": settlement.parse_us,
        "new_total_us": settlement.total_us,
    }


def _is_charged(one: Finish) -> bool:
    if isinstance(one.outcome, Again):
        return one.outcome.charge is Charge.ATTEMPT
    return _was_called(one)


def _fault_of(outcome: Outcome) -> tuple[Fault | None, str | None]:
    match outcome:
        case Done() | Unconfirmed():
            return None, None
        case Again(failure=failure) | Review(failure=failure) | Dead(failure=failure):
            return failure.fault, failure.message
        case _:
            assert_never(outcome)


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
        return not _reads_again(one)
    return row.purpose == Purpose.TRY and isinstance(one.outcome, Again)


def _reads_again(one: Finish) -> bool:
    """Whether the stored answer of this turn waits for another one, which will settle it."""
    return one.lease_token is not None and one.settlement is None


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
        "attempts": row.attempts + _was_called(one),
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


def _was_called(one: Finish) -> bool:
    return one.settlement is not None and one.settlement.state is not AttemptState.NOT_SENT


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


def _write_records(
    connection: Connection,
    kept: Sequence[Finish],
    rows: Mapping[str, Any],
    attempts: Mapping[str, Any],
) -> None:
    written = [
        _record_row(one, one.outcome, rows[one.ticket.document_id], attempts)
        for one in kept
        if isinstance(one.outcome, Done | Review)
        and rows[one.ticket.document_id].batch_state != BatchState.CANCELLED
    ]
    insert_new(connection, record, written)


def _alert_of_ceilings(
    connection: Connection, kept: Sequence[Finish], rows: Mapping[str, Any]
) -> None:
    """Note the call with which a document has spent most of its ceiling: one in each life."""
    for one in kept:
        if one.ceiling_nusd is None or one.settlement is None:
            continue
        row, settlement = rows[one.ticket.document_id], one.settlement
        before_nusd = row.cost_nusd + row.ambiguous_nusd - row.spent_before_nusd
        spent_nusd = before_nusd + (settlement.cost_nusd or 0) + settlement.ambiguous_nusd
        if is_mostly_spent(spent_nusd, one.ceiling_nusd) and not is_mostly_spent(
            before_nusd, one.ceiling_nusd
        ):
            note(
                connection,
                "ceiling_alert",
                f"{spent_nusd / 1e9:.6f} of its ceiling of {one.ceiling_nusd / 1e9:.6f} USD spent",
                batch_id=row.batch_id,
                document_id=row.id,
                now_us=one.now_us,
            )


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
