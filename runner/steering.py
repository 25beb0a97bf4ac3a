"""What a person does to a batch, whoever asks: pause it, resume it with more money, cancel it."""

from decimal import Decimal

from sqlalchemy import Connection

from runner.budget import day_budget_nusd, format_usd, usd_to_nusd
from runner.config import Settings
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.control import Resumed, cancel_batch, raise_day_budget, resume_batch
from runner.ledger.money import day_limit_nusd, larger_limit_nusd
from runner.ledger.pausing import pause_batch
from runner.ledger.submission import Batch
from runner.model import BatchState
from runner.pricing import refuse_unknown_prices


def pause(ledger: Ledger, found: Batch, *, why: str) -> None:
    """Call for no more documents of it; calls in flight finish. Raises UsageError if cancelled."""
    _refuse_cancelled(found, "pause")
    with ledger.transaction() as connection:
        pause_batch(connection, found.id, why, now_us=ledger.clock.us(), by_person=True)


def resume(
    ledger: Ledger,
    found: Batch,
    *,
    settings: Settings,
    budget_usd: Decimal | None = None,
    day_budget_usd: Decimal | None = None,
) -> Resumed:
    """Let it go on, with a new budget of its own or of today when one is given.

    The pause of a key that holds it ends for every batch; `others` names those that go on too.
    Raises UsageError when it is cancelled, when a budget cannot be kept because a price is unknown,
    and for a budget of today below the present one.
    """
    _refuse_cancelled(found, "resume")
    budget_nusd = _limit_nusd(settings, found, budget_usd, option="--budget-usd")
    day_nusd = _limit_nusd(settings, found, day_budget_usd, option="--day-budget-usd")
    others: tuple[str, ...] = ()
    with ledger.transaction() as connection:
        at_us = ledger.clock.us()
        if day_nusd is not None:
            _refuse_less_than_today(settings, connection, day_nusd, at_us=at_us)
            others = raise_day_budget(connection, day_nusd, now_us=at_us)
        resumed = resume_batch(connection, found, budget_nusd=budget_nusd, now_us=at_us)
    names = dict.fromkeys((*others, *resumed.others))
    return Resumed(key=resumed.key, others=tuple(name for name in names if name != found.name))


def cancel(ledger: Ledger, found: Batch) -> int:
    """End every document of it that is not done, for good; how many ended at once.

    Raises UsageError when all have ended.
    """
    with ledger.transaction() as connection:
        return cancel_batch(connection, found, now_us=ledger.clock.us())


def _limit_nusd(
    settings: Settings, found: Batch, limit_usd: Decimal | None, *, option: str
) -> int | None:
    if limit_usd is None:
        return None
    refuse_unknown_prices(settings, found.models, limit=option)
    return usd_to_nusd(limit_usd)


def _refuse_less_than_today(
    settings: Settings, connection: Connection, limit_nusd: int, *, at_us: int
) -> None:
    """Raise UsageError when today's budget is larger already: the larger one would count."""
    present_nusd = larger_limit_nusd(
        day_limit_nusd(connection, now_us=at_us), day_budget_nusd(settings)
    )
    if present_nusd is not None and limit_nusd < present_nusd:
        raise UsageError(
            f"the budget of today is {format_usd(present_nusd)} already: give --day-budget-usd "
            "more than that, or lower day_usd under [budget] in runner.toml and start the workers "
            "again"
        )


def _refuse_cancelled(found: Batch, what: str) -> None:
    if found.state is BatchState.CANCELLED:
        raise UsageError(
            f"batch {found.name} is {found.state.value} and cannot {what}; "
            "submit its inputs under another --batch name"
        )
