"""Begins a batch, or finds it again and lets it go on where more money or a new day allows it."""

from runner import batches
from runner.ledger import Ledger
from runner.ledger.control import resume_batch
from runner.ledger.pausing import leave_past_days
from runner.ledger.submission import Batch, BatchPlan, open_batch
from runner.model import BatchState


def open_again(ledger: Ledger, plan: BatchPlan, *, known: Batch | None) -> Batch:
    """The plan's batch; one that its own spent budget paused goes on when the plan has more."""
    more = _raises_budget(ledger, plan, known)
    with ledger.transaction() as connection:
        leave_past_days(connection, now_us=ledger.clock.us())
        batch = open_batch(connection, plan, now_us=ledger.clock.us())
        if more:
            resume_batch(connection, batch, budget_nusd=None, now_us=ledger.clock.us())
    return batch


def _raises_budget(ledger: Ledger, plan: BatchPlan, known: Batch | None) -> bool:
    if plan.budget_nusd is None or known is None or known.state is not BatchState.PAUSED:
        return False
    if known.pause_scope is not None:
        return False  # a key or a day holds it, which its own budget does not mend
    before_nusd = batches.standing(ledger, known).limit_nusd
    return before_nusd is not None and plan.budget_nusd > before_nusd
