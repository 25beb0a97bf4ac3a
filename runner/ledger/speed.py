"""How fast a batch goes, as far as its newest calls tell, and when it may end."""

from collections.abc import Sequence

from runner.ledger.calls import AttemptRow
from runner.ledger.standing import BatchStanding
from runner.model import BatchState

RECENT_CALLS = 1_000
RECENT_S = 300.0


def documents_per_s(calls: Sequence[AttemptRow], *, now_us: int) -> float | None:
    """The speed of a batch by its newest calls: those that gave a record, over the time they span.

    None when the last `RECENT_S` seconds tell nothing.
    """
    recent = [call for call in calls if now_us - call.created_us <= RECENT_S * 1e6]
    good = {call.document_id for call in recent if call.fault is None and call.total_us}
    if not good:
        return None
    span_s = (now_us - min(call.created_us for call in recent)) / 1e6
    return round(len(good) / span_s, 3) if span_s > 0 else None


def eta_s(found: BatchStanding, *, documents_per_s: float | None) -> float | None:
    """How long the rest of a batch takes at this speed; None while it stands still or grows."""
    goes_on = found.batch.submitted and found.batch.state is BatchState.ACTIVE
    if not documents_per_s or not found.open or not goes_on:
        return None
    return round(found.open / documents_per_s, 1)
