"""`runner status --watch`: the live screen, looked at anew every second until Ctrl-C."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.cli.interrupts import Interrupts
from runner.cli.limits import limit_note, limit_part
from runner.cli.shapes.batches import BatchShape
from runner.cli.shapes.status import LimitShape, StatusShape, WorkerShape
from runner.cli.sparkline import bar, sparkline
from runner.cli.terminal import console, plain
from runner.cli.wording import duration, iso, several, short_time, usd
from runner.errors import UsageError
from runner.ledger.calls import AttemptRow
from runner.ledger.money import DAY
from runner.model import BatchState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LOOK_EVERY_S = 1.0
TICK_S = 0.05
LOOK_SHARE = 5  # a look that takes long is taken less often
HISTORY_MAX = 600  # looks
SPEED_OVER_S = 10.0
BAR_WIDTH = 18
ERRORS_SHOWN = 6
MESSAGE_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: how everything stands, and the newest calls that failed."""

    status: StatusShape
    errors: Sequence[AttemptRow]


@dataclass(slots=True)
class Past:
    """What the screen has seen so far, the newest last."""

    at_s: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    depth: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    running: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    ended: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    speed: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def note(self, status: StatusShape, *, now_s: float) -> None:
        """Remember a look."""
        queue = status.queue
        self.at_s.append(now_s)
        self.depth.append(queue.queued + queue.ready)
        self.running.append(queue.running)
        self.ended.append(queue.done + queue.review + queue.dead + queue.cancelled)
        self.speed.append(self._speed())

    def _speed(self) -> float:
        """Documents ended a second over the last seconds; 0 until there are two looks."""
        for at_s, ended in zip(self.at_s, self.ended, strict=True):
            passed_s = self.at_s[-1] - at_s
            if passed_s <= SPEED_OVER_S:
                return max(0.0, self.ended[-1] - ended) / passed_s if passed_s > 0 else 0.0
        return 0.0


def watch_status(look: Callable[[], Seen]) -> None:
    """Show the screen until Ctrl-C. Raises UsageError when stdout is no terminal."""
    if not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal; `runner status --json` is for programs")
    from rich.live import Live  # noqa: PLC0415 - only a live screen needs it

    past = Past()
    screen = console(sys.stdout)
    interrupts = Interrupts()
    with (
        interrupts.heard(),
        Live(console=screen, screen=True, auto_refresh=False, transient=True) as live,
    ):
        while not interrupts.count:
            began_s = time.monotonic()
            seen = look()
            past.note(seen.status, now_s=time.monotonic())
            live.update(render(seen, past, width=screen.width), refresh=True)
            look_at_s = time.monotonic() + max(
                LOOK_EVERY_S, LOOK_SHARE * (time.monotonic() - began_s)
            )
            while not interrupts.count and time.monotonic() < look_at_s:
                time.sleep(TICK_S)


def render(seen: Seen, past: Past, *, width: int) -> "RenderableType":
    """The whole screen for a terminal of this width."""
    from rich.console import Group  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    status = seen.status
    parts: list[RenderableType] = [
        Text("runner status   Ctrl-C ends", style="bold"),
        Text(),
        _flow(status, past, width=width),
        Text(_today(status)),
    ]
    for name, table in (
        ("batches", _batches(status.batches)),
        ("limits", _limits(status.limits)),
        ("workers", _workers(status.workers)),
        ("last errors", _errors(seen.errors)),
    ):
        if table is not None:
            parts += [Text(), Text(name, style="bold"), table]
    paused = list(_paused(status))
    if paused:
        parts += [Text(), Text("paused", style="bold yellow"), *map(Text, paused)]
    return Group(*parts)


def _flow(status: StatusShape, past: Past, *, width: int) -> "Table":
    queue = status.queue
    table = _grid()
    room = max(10, min(HISTORY_MAX, width - 60))
    waits = "" if queue.oldest_age_s is None else f"the oldest {duration(queue.oldest_age_s)}"
    rows = (
        ("waiting", f"{queue.queued + queue.ready:,}", past.depth, waits),
        ("running", f"{queue.running:,}", past.running, ""),
        ("ended/s", f"{past.speed[-1]:.1f}" if past.speed else "", past.speed, ""),
    )
    for name, now, series, note in rows:
        table.add_row(name, now, sparkline(series, width=room), note)
    ended = f"{queue.done:,} done, {queue.review:,} to review, {queue.dead:,} dead"
    table.add_row("ended", "", ended, "")
    return table


def _today(status: StatusShape) -> str:
    today = status.today
    spent = today.cost_usd + today.ambiguous_usd
    if today.budget_usd is None:
        return f"today    {usd(spent)}"
    share = float(spent / today.budget_usd) if today.budget_usd else 1.0
    return f"today    {usd(spent)} of {usd(today.budget_usd)}  {bar(share, width=BAR_WIDTH)}"


def _batches(batches: Sequence[BatchShape]) -> "Table | None":
    if not batches:
        return None
    table = _grid()
    for one in batches:
        ended = one.done + one.review + one.dead + one.cancelled
        share = ended / one.accepted if one.accepted else 0.0
        spent = usd(one.cost_usd)
        if one.budget_usd is not None:
            spent += f" of {usd(one.budget_usd)}"
        speed = "" if one.documents_per_s is None else f"{one.documents_per_s:.1f}/s"
        table.add_row(
            plain(one.batch, chars_max=40),
            bar(share, width=BAR_WIDTH),
            f"{ended:,}/{one.accepted:,}",
            _ends(one),
            spent,
            speed if one.running or one.ready else "",
            "" if one.eta_s is None else f"ETA {duration(one.eta_s)}",
            "paused" if one.state is BatchState.PAUSED else "",
        )
    return table


def _ends(one: BatchShape) -> str:
    parts = ((one.dead, "dead"), (one.review, "to review"), (one.running, "running"))
    return ", ".join(f"{count:,} {name}" for count, name in parts if count)


def _limits(limits: Sequence[LimitShape]) -> "Table | None":
    if not limits:
        return None
    table = _grid()
    for one in limits:
        use = one.use
        shares = [
            used / limit
            for used, limit in ((use.requests, use.requests_limit), (use.tokens, use.tokens_limit))
            if limit
        ]
        table.add_row(
            plain(f"{one.model} at {one.server}", chars_max=50),
            bar(max(shares), width=BAR_WIDTH) if shares else "",
            limit_part(use.requests, use.requests_limit, window_s=use.window_s) or "",
            limit_part(use.tokens, use.tokens_limit, window_s=use.window_s) or "",
            f"{use.calls} at once",
            limit_note(one),
        )
    return table


def _workers(workers: Sequence[WorkerShape]) -> "Table | None":
    if not workers:
        return None
    table = _grid()
    for one in workers:
        table.add_row(
            f"{one.host} {one.pid}",
            bar(one.in_flight / one.slots if one.slots else 0.0, width=BAR_WIDTH),
            f"{one.in_flight}/{one.slots}",
            "lost" if one.lost else one.state,
            f"beat {duration(one.beat_age_s)} ago",
            plain(one.note or "", chars_max=MESSAGE_CHARS_MAX),
        )
    return table


def _errors(errors: Sequence[AttemptRow]) -> "Table | None":
    if not errors:
        return None
    table = _grid()
    for one in errors[:ERRORS_SHOWN]:
        table.add_row(
            short_time(iso(one.created_us)),
            one.fault or "",
            plain(one.message or "", chars_max=MESSAGE_CHARS_MAX),
            one.document_id,
        )
    return table


def _paused(status: StatusShape) -> "list[str]":
    lines = []
    for key in status.paused_keys:
        lines.append(plain(f"{key.name} since {short_time(key.since)}: {key.reason}"))
        if key.batches:
            held = several(len(key.batches), "batch waits", "batches wait")
            lines.append(f"  {held}: runner batch resume {key.batches[0]}")
    for one in status.batches:
        if one.state is BatchState.PAUSED and one.pause_scope is None:
            lines.append(plain(f"{one.batch}: {one.pause_reason}"))
            lines.append(f"  runner batch resume {one.batch}")
        elif one.state is BatchState.PAUSED and (one.pause_scope or "").startswith(DAY):
            lines.append(plain(f"{one.batch}: {one.pause_reason}"))
    return lines


def _grid() -> "Table":
    from rich.table import Table  # noqa: PLC0415 - as above

    return Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
