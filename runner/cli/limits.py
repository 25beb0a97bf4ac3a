"""The part of `status` that tells how limits are used, and why nothing starts just now."""

from collections.abc import Sequence

from sqlalchemy import Connection

from runner.cli.shapes.status import LimitShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say
from runner.cli.wording import duration, several
from runner.laneuse import LaneUse
from runner.ledger.lanes import all_lanes

RECENT_US = 3_600_000_000
OLD_S = 10.0  # the leader looks every two seconds; what is older is of the past
REFUSED_LATELY_S = 300.0

COLUMNS = (
    Column("limits of"),
    Column("requests", right=True),
    Column("tokens", right=True),
    Column("at once", right=True),
    Column("waiting", right=True),
    Column("refused", right=True),
    Column("note", folds=True),
)


def look_at_limits(connection: Connection, *, now_us: int) -> tuple[LimitShape, ...]:
    """The lanes that were called within the hour."""
    rows = all_lanes(connection, since_us=now_us - RECENT_US)
    shapes = (LimitShape.of(row, now_us=now_us) for row in rows)
    return tuple(shape for shape in shapes if shape is not None)


def say_limits(limits: Sequence[LimitShape]) -> None:
    """Show them as a table, when there are any."""
    if not limits:
        return
    say("")
    say_table(COLUMNS, [_row(one) for one in limits])


def _row(one: LimitShape) -> tuple[object, ...]:
    use = one.use
    return (
        f"{one.model} at {one.server}",
        limit_part(use.requests, use.requests_limit, window_s=use.window_s),
        limit_part(use.tokens, use.tokens_limit, window_s=use.window_s),
        f"{use.calls}" if use.calls_limit is None else f"{use.calls}/{use.calls_limit}",
        use.waiting or None,
        use.refused or None,
        limit_note(one),
    )


def limit_note(one: LimitShape) -> str:
    """Why nothing starts just now, or how old the figures are."""
    if one.seen_s > OLD_S:
        return f"as of {duration(one.seen_s)} ago"
    return "; ".join(_notes(one.use))


def limit_part(used: int, limit: int | None, *, window_s: float) -> str | None:
    """What is used of a limit within its window; None without a limit."""
    if limit is None:
        return None
    window = "" if window_s == 60 else f" in {window_s:g} s"  # noqa: PLR2004 - a minute goes without saying
    return f"{used:,}/{limit:,}{window}"


def _notes(use: LaneUse) -> list[str]:
    """What a person should know: why nothing starts, and what was cut."""
    notes = []
    if use.breaker_open:
        notes.append(
            f"its calls fail: one is tried every 10 s, the next in {duration(use.probe_s)}"
        )
    if use.paused_s:
        notes.append(f"paused for {duration(use.paused_s)} after a refusal")
    if use.cut < 1:
        notes.append(f"limits cut to {use.cut:.0%} after refusals, growing back")
    if use.refused_s is not None and use.refused_s < REFUSED_LATELY_S and not use.paused_s:
        notes.append(f"{several(use.refused, 'refusal')}, the last {duration(use.refused_s)} ago")
    return notes
