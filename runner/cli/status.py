"""`runner status`: how the queue, its batches and its workers stand; needs the ledger only."""

import shlex
import time
from collections.abc import Sequence

import click
from sqlalchemy import Connection

from runner.budget import day_budget_nusd
from runner.cli.commands import Command, json_option
from runner.cli.limits import look_at_limits, say_limits
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.batches import BatchShape
from runner.cli.shapes.status import (
    PausedKeyShape,
    QueueShape,
    StatusShape,
    TodayShape,
    WorkerShape,
)
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import duration, several, short_time, usd
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.ledger.keypauses import all_key_pauses
from runner.ledger.money import DAY, Day, day_of, day_scope
from runner.ledger.pausing import held_by
from runner.ledger.speed import RECENT_CALLS, documents_per_s
from runner.ledger.standing import all_batches, batch_standing, queue_standing
from runner.ledger.submission import Batch
from runner.model import BatchState

BATCHES_MAX = 20

COLUMNS = (
    Column("batch"),
    Column("state"),
    Column("done", right=True),
    Column("dead", right=True),
    Column("review", right=True),
    Column("cancelled", right=True),
    Column("running", right=True),
    Column("spent", right=True),
    Column("ETA", right=True),
)
WORKER_COLUMNS = (
    Column("worker pid", right=True),
    Column("host"),
    Column("state"),
    Column("in flight", right=True),
    Column("slots", right=True),
    Column("last beat", right=True),
    Column("note", folds=True),
)


@click.command(
    cls=Command,
    example=("runner status", "runner status june", "runner status --watch"),
)
@click.argument("batch", required=False)
@click.option("--watch", is_flag=True, help="Show it live until Ctrl-C.")
@json_option
@pass_session
def status(session: Session, /, *, batch: str | None, watch: bool, as_json: bool) -> None:
    """Show how the queue stands: depth, progress of each batch, spend, limits, workers.

    Without BATCH, the newest batches are shown. `delayed` documents wait until they may be tried
    again and are part of `queued`. It reads the ledger alone and works while Redis is away.
    """
    if watch:
        if as_json:
            raise UsageError("--watch is for people: give either it or --json")
        _watch(session, batch)
        return
    if batch is None and not session.has_ledger:
        shape = _nothing_yet(day_nusd=day_budget_nusd(session.settings))
    else:
        with session.ledger() as ledger:
            shape = _look(ledger, batch, day_nusd=day_budget_nusd(session.settings))
    if as_json:
        say_json(shape)
        return
    _say_queue(shape.queue)
    _say_today(shape.today)
    say_batches(shape.batches)
    _say_paused_keys(shape.paused_keys)
    say_limits(shape.limits)
    _say_workers(shape)


def _watch(session: Session, batch: str | None) -> None:
    from runner.cli.statuswatch import Seen, watch_status  # noqa: PLC0415 - few looks are live

    day_nusd = day_budget_nusd(session.settings)
    with session.ledger() as ledger:

        def look() -> Seen:
            shape = _look(ledger, batch, day_nusd=day_nusd)
            with ledger.snapshot() as connection:
                calls = list_calls(connection, CallFilter(limit=RECENT_CALLS))
            return Seen(shape, [call for call in calls if call.fault is not None])

        watch_status(look)


def _nothing_yet(*, day_nusd: int | None) -> StatusShape:
    date = day_scope(time.time_ns() // 1_000).removeprefix(DAY)
    none_yet = Day(date, settled_nusd=0, ambiguous_nusd=0, held_nusd=0, limit_nusd=None)
    today = TodayShape.of(none_yet, by_settings_nusd=day_nusd)
    return StatusShape(queue=QueueShape.empty(), today=today, batches=(), workers=())


def _look(ledger: Ledger, id_or_name: str | None, *, day_nusd: int | None) -> StatusShape:
    only = None if id_or_name is None else find_batch(ledger, id_or_name)
    at_us = ledger.clock.us()
    with ledger.snapshot() as connection:
        queue = queue_standing(connection, now_us=at_us)
        return StatusShape(
            queue=QueueShape.of(queue),
            today=TodayShape.of(day_of(connection, now_us=at_us), by_settings_nusd=day_nusd),
            batches=look_at_batches(connection, only, limit=BATCHES_MAX, at_us=at_us),
            workers=tuple(WorkerShape.of(worker, now_us=at_us) for worker in queue.workers),
            paused_keys=_paused_keys(connection),
            limits=look_at_limits(connection, now_us=at_us),
        )


def look_at_batches(
    connection: Connection, only: Batch | None, *, limit: int, at_us: int
) -> tuple[BatchShape, ...]:
    """How one batch, or the newest ones, stand, with their speed."""
    wanted = all_batches(connection, limit=limit) if only is None else [only]
    calls = list_calls(connection, CallFilter(limit=RECENT_CALLS))
    return tuple(
        BatchShape.of(
            batch_standing(connection, one),
            documents_per_s=documents_per_s(
                [call for call in calls if call.batch_id == one.id], now_us=at_us
            ),
        )
        for one in wanted
    )


def _paused_keys(connection: Connection) -> tuple[PausedKeyShape, ...]:
    return tuple(
        PausedKeyShape.of(pause, list(held_by(connection, pause.scope).values()))
        for pause in all_key_pauses(connection)
    )


def _say_queue(queue: QueueShape) -> None:
    parts = [f"{queue.queued:,} queued", f"{queue.ready:,} ready", f"{queue.running:,} running"]
    if queue.delayed:
        parts[0] += f" ({queue.delayed:,} delayed)"
    if queue.oldest_age_s is not None:
        parts.append(f"the oldest waits {duration(queue.oldest_age_s)}")
    say("queue: " + ", ".join(parts))


def _say_today(today: TodayShape) -> None:
    if today.budget_usd is None and not today.cost_usd and not today.ambiguous_usd:
        return
    spent = usd(today.cost_usd + today.ambiguous_usd)
    say(f"today: {spent}" + (f" of {usd(today.budget_usd)}" if today.budget_usd else ""))


def say_batches(batches: Sequence[BatchShape]) -> None:
    """Show batches as a table, and why the paused ones are paused."""
    if not batches:
        talk("no batch yet: `runner run JOB INPUT` or `runner submit JOB INPUT` makes one")
        return
    say("")
    say_table(COLUMNS, [_batch_row(one) for one in batches])
    for one in batches:
        if one.state is BatchState.PAUSED:
            say(f"\n{one.batch} is paused: {one.pause_reason}")
            if not (one.pause_scope or "").startswith(DAY):  # its reason says what helps
                talk(f"`runner batch resume {one.batch}` lets it go on")


def _say_paused_keys(pauses: Sequence[PausedKeyShape]) -> None:
    """Show which keys the provider refuses, why, and what lets their batches go on."""
    for one in pauses:
        say(f"\n{one.name} is paused since {short_time(one.since)}: {one.reason}")
        if one.probe is not None:
            say(f"one document tries it again at {short_time(one.probe)} (UTC)")
        if one.batches:
            held = several(len(one.batches), "batch waits", "batches wait")
            name = shlex.quote(one.batches[0])
            talk(f"{held} for it: `runner batch resume {name}` lets them go on at once")


def _batch_row(one: BatchShape) -> tuple[object, ...]:
    is_open = bool(one.queued or one.ready or one.running)
    state = one.state.value
    if one.state is BatchState.ACTIVE:
        state = "active" if is_open else "finished"
    spent = usd(one.cost_usd)
    return (
        one.batch,
        state + (", simulated" if one.simulated else ""),
        f"{one.done:,}/{one.accepted:,}",
        one.dead or None,
        one.review or None,
        one.cancelled or None,
        one.running or None,
        spent if one.budget_usd is None else f"{spent} of {usd(one.budget_usd)}",
        None if one.eta_s is None else duration(one.eta_s),
    )


def _say_workers(shape: StatusShape) -> None:
    say("")
    if not shape.workers:
        waiting = shape.queue.queued + shape.queue.ready + shape.queue.running
        say("no worker is running")
        if waiting:
            talk(f"{several(waiting, 'document')} wait: `runner work` starts a worker")
        return
    rows = [
        (
            worker.pid,
            worker.host,
            "lost" if worker.lost else worker.state,
            worker.in_flight,
            worker.slots,
            f"{duration(worker.beat_age_s)} ago",
            worker.note,
        )
        for worker in shape.workers
    ]
    say_table(WORKER_COLUMNS, rows)
