"""Batches: how each stands, and pause, resume and cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner import steering
from runner.batches import get_batch, standing
from runner.errors import UsageError
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import EventRow, events, list_calls
from runner.ledger.deadletters import DeadFilter, DeadGroup, group_dead
from runner.ledger.money import DAY
from runner.ledger.speed import RECENT_CALLS, documents_per_s, eta_s
from runner.ledger.standing import BatchStanding, all_batches, batch_standing
from runner.ledger.submission import Batch
from runner.model import BatchState, DocumentState
from runner.web.desk import desk_of, done, form_of, look, page, work
from runner.wording import several

BATCHES_MAX = 100
EVENTS_MAX = 20
WHY_CHARS_MAX = 500
USD_MAX = Decimal(1_000_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """A batch as a row, with its speed."""

    standing: BatchStanding
    documents_per_s: float | None
    eta_s: float | None

    @property
    def state(self) -> str:
        """Active until nothing of it is open any more."""
        batch = self.standing.batch
        is_over = batch.state is BatchState.ACTIVE and batch.submitted and not self.standing.open
        return "finished" if is_over else batch.state.value

    @property
    def spent_nusd(self) -> int | None:
        """Settled and ambiguous; None when a call's price is unknown."""
        if not self.standing.cost_known:
            return None
        return self.standing.settled_nusd + self.standing.ambiguous_nusd

    @property
    def is_held_by_day(self) -> bool:
        """Whether the budget of a day holds it."""
        return (self.standing.batch.pause_scope or "").startswith(DAY)


def batch_lines(connection: Connection, wanted: Sequence[Batch], *, now_us: int) -> list[BatchLine]:
    """How these batches stand."""
    calls = list_calls(connection, CallFilter(limit=RECENT_CALLS))
    lines = []
    for one in wanted:
        found = batch_standing(connection, one)
        mine = [call for call in calls if call.batch_id == one.id]
        speed = documents_per_s(mine, now_us=now_us)
        lines.append(
            BatchLine(
                standing=found,
                documents_per_s=speed,
                eta_s=eta_s(found, documents_per_s=speed),
            )
        )
    return lines


async def list_(request: Request) -> Response:
    """The newest batches."""
    now_us = desk_of(request).ledger.clock.us()
    lines = await look(
        request,
        lambda connection: batch_lines(
            connection, all_batches(connection, limit=BATCHES_MAX), now_us=now_us
        ),
    )
    return page(request, "batches.html", lines=lines, most=BATCHES_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    """One batch with what went wrong in it and what happened to it."""

    line: BatchLine
    dead: Sequence[DeadGroup]
    events: Sequence[EventRow]


async def show(request: Request) -> Response:
    """One batch."""
    batch = await _meant(request)
    now_us = desk_of(request).ledger.clock.us()

    def read(connection: Connection) -> BatchPage:
        (line,) = batch_lines(connection, [batch], now_us=now_us)
        return BatchPage(
            line=line,
            dead=group_dead(connection, DeadFilter(batch_id=batch.id)),
            events=events(connection, batch_id=batch.id, limit=EVENTS_MAX),
        )

    return page(request, "batch.html", found=await look(request, read))


async def _meant(request: Request) -> Batch:
    ledger = desk_of(request).ledger
    return await work(lambda: get_batch(ledger, request.path_params["batch"]))


async def pause(request: Request) -> Response:
    """Call for no more documents of a batch."""
    ledger, batch = desk_of(request).ledger, await _meant(request)
    why = form_of(request).one("why")[:WHY_CHARS_MAX] or "paused by hand"
    await work(lambda: steering.pause(ledger, batch, why=why))
    return done(request, f"/batches/{batch.id}", f"{batch.name} is paused: {why}")


async def resume(request: Request) -> Response:
    """Let a batch go on, with a new budget where one is given."""
    desk, batch, form = desk_of(request), await _meant(request), form_of(request)
    budget_usd = _usd(form.one("budget_usd"))
    day_budget_usd = _usd(form.one("day_budget_usd"))
    resumed = await work(
        lambda: steering.resume(
            desk.ledger,
            batch,
            settings=desk.settings,
            budget_usd=budget_usd,
            day_budget_usd=day_budget_usd,
        )
    )
    others = f"; so do {', '.join(resumed.others)}" if resumed.others else ""
    key = f"; {resumed.key} is called again" if resumed.key else ""
    return done(request, f"/batches/{batch.id}", f"{batch.name} goes on{others}{key}")


def _usd(typed: str) -> Decimal | None:
    if not typed:
        return None
    try:
        amount = Decimal(typed)
    except InvalidOperation:
        raise UsageError(f"{typed[:40]!r} is no amount in US dollars, such as 12.50") from None
    if not amount.is_finite() or not 0 < amount <= USD_MAX:
        raise UsageError(f"a budget must be above 0 and at most {USD_MAX:,} USD, not {typed[:40]}")
    return amount


async def ask_to_cancel(request: Request) -> Response:
    """What cancelling would end, and the button that does it."""
    ledger, batch = desk_of(request).ledger, await _meant(request)
    found = await work(lambda: standing(ledger, batch))
    return page(request, "cancel.html", found=found)


async def cancel(request: Request) -> Response:
    """End every document of a batch that is not done."""
    ledger, batch = desk_of(request).ledger, await _meant(request)

    def do() -> tuple[int, int]:
        ended = steering.cancel(ledger, batch)
        return ended, standing(ledger, batch).states[DocumentState.RUNNING]

    ended, running = await work(do)
    words = f"{batch.name} is cancelled: {several(ended, 'document')} ended"
    if running:
        words += f"; {several(running, 'call')} in flight will finish and be recorded"
    return done(request, f"/batches/{batch.id}", words)
