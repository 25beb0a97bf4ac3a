"""Writes how attempts ended, and moves their money from held to spent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from runner.ledger.ends import Finish, Settlement, fault_of, is_charged
from runner.ledger.money import move_money, scopes_of
from runner.ledger.tables import attempt

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


def settle_attempts(
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
    fault, message = fault_of(one.outcome)
    return {
        "key": settlement.attempt_id,
        "new_state": settlement.state,
        "new_cost_nusd": settlement.cost_nusd,
        "new_ambiguous_nusd": settlement.ambiguous_nusd,
        "new_fault": fault,
        "new_charged": is_charged(one),
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
