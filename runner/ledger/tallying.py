"""What the ends of turns add to the tallies: each call to its own, each document to its record's.

The day is that of the call's claim, as it is for money; what ends without a call counts now.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from runner.ledger.ends import Finish, Settlement
from runner.ledger.tallies import FAULT, FAULTS_OF_ANSWERS, Count, More, Tally, TallyKey, count_in
from runner.model import Again, AttemptState, DocumentState, Done, Unconfirmed
from runner.spans import Step

_ENDS = {
    DocumentState.DONE: Count.DONE,
    DocumentState.REVIEW: Count.REVIEW,
    DocumentState.DEAD: Count.DEAD,
    DocumentState.CANCELLED: Count.CANCELLED,
}
_TOKENS = (
    Count.INPUT_TOKENS,
    Count.CACHED_TOKENS,
    Count.CACHE_WRITE_TOKENS,
    Count.OUTPUT_TOKENS,
    Count.REASONING_TOKENS,
)
REPAIRED_FLAG = "repaired"


def count_ends(
    connection: Connection,
    ends: Sequence[Finish],
    *,
    states: Mapping[str, DocumentState],
    rows: Mapping[str, Any],
    attempts: Mapping[str, Any],
) -> None:
    """Count calls that were settled and documents that ended, each once, as they are written.

    `states` are those of the documents now, `rows` the documents before, `attempts` what the gate
    had written of the calls.
    """
    more: defaultdict[TallyKey, More] = defaultdict(More)
    for one in ends:
        row = rows[one.ticket.document_id]
        call = None if one.settlement is None else attempts[one.settlement.attempt_id]
        if call is not None and one.settlement is not None:
            key = TallyKey.at(
                call.created_us,
                batch_id=row.batch_id,
                prompt_id=call.prompt_id,
                model=call.model,
            )
            _count_call(more[key].tally, one, one.settlement, call)
        if (ended := _ENDS.get(states[row.id])) is not None:
            key = TallyKey.at(
                one.now_us if call is None else call.created_us,
                batch_id=row.batch_id,
                prompt_id=one.prompt_id,
                model=one.model,
            )
            _count_document(more[key], one, ended)
    count_in(connection, more)


def _count_call(tally: Tally, one: Finish, settlement: Settlement, call: Any) -> None:
    counts = tally.counts
    fault = None if isinstance(one.outcome, Done | Unconfirmed) else one.outcome.failure.fault
    if fault is not None:
        counts[FAULT + fault.value] += 1
    counts[Count.COST_NUSD] += settlement.cost_nusd or 0
    counts[Count.AMBIGUOUS_NUSD] += settlement.ambiguous_nusd
    if settlement.state is AttemptState.NOT_SENT:
        return
    counts[Count.CALLS] += 1
    counts[Count.ANSWERS] += fault is None or fault in FAULTS_OF_ANSWERS
    counts[Count.RETRIES] += call.number > 1
    counts[Count.REASKED] += isinstance(one.outcome, Again) and bool(one.outcome.reask)
    unsure = settlement.state is AttemptState.AMBIGUOUS and call.hold_nusd is not None
    counts[Count.UNKNOWN_COSTS] += settlement.cost_nusd is None and not unsure
    if settlement.usage is not None:
        for name in _TOKENS:
            counts[name] += getattr(settlement.usage, name)
    for step, span_us in (
        (Step.QUEUE_WAIT, call.queue_wait_us),
        (Step.LIMITER_WAIT, call.limiter_wait_us),
        (Step.RESPONSE, settlement.response_us),
        (Step.PARSE, settlement.parse_us),
        (Step.TOTAL, settlement.total_us),
    ):
        tally.add_span(step, span_us)


def _count_document(more: More, one: Finish, ended: Count) -> None:
    more.tally.counts[ended] += 1
    if isinstance(one.outcome, Done) and ended is Count.DONE:
        more.tally.counts[Count.REPAIRED] += REPAIRED_FLAG in one.outcome.flags
        more.records.append(one.outcome.data_json)
