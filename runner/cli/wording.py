"""Numbers, times and durations as people read them, and as the JSON of commands has them."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from runner.budget import format_usd, usd_to_nusd
from runner.errors import UsageError
from runner.wording import duration, several

__all__ = ["duration", "several"]  # what pages say in the same words

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+)\s*([smhdw])")
_AGE = re.compile(r"(\d+[smhdw]\s*)+")


def stuck_words(pid: int, *, after_s: float) -> str:
    """What is said of a worker that was killed because its event loop did not come round."""
    return (
        f"worker {pid} showed no life for {duration(after_s)} and was killed: is a check endless?"
    )


def usd(amount: Decimal | None) -> str:
    """An amount in US dollars for a person; `unknown` when a price is."""
    return "unknown" if amount is None else format_usd(usd_to_nusd(amount))


def cost_of_call(cost_usd: Decimal | None, ambiguous_usd: Decimal) -> str | None:
    """What a call has cost, or may have; None while nothing is known of that."""
    if cost_usd is not None:
        return usd(cost_usd)
    return f"up to {usd(ambiguous_usd)}" if ambiguous_usd else None


def iso(us: int) -> str:
    """A time (microseconds since the epoch) as ISO 8601 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(us / 1e6, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short_time(at: str) -> str:
    """An ISO time as a table has it: to the second, in UTC."""
    return at[:19].replace("T", " ")


def size(count: int) -> str:
    """Bytes as people read them: `734 bytes`, `12.3 MB`."""
    for unit_bytes, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.1f} {name}"
    return several(count, "byte")


def since_us(text: str, *, now_us: int, option: str = "--since") -> int:
    """The time that the option means: `90s`, `30m`, `2h`, `3d`, `1w` ago, or an ISO date or time.

    UTC unless it says otherwise. Raises UsageError for anything else, naming the option.
    """
    if ago := _AGO.fullmatch(text.strip().lower()):
        return now_us - int(ago[1]) * _UNITS_S[ago[2]] * 1_000_000
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is no time: give an age such as 30m, 2h or 3d, "
            "or a date such as 2026-11-23 or 2026-11-23T08:00"
        ) from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)


def age_us(text: str, *, option: str) -> int:
    """An age such as `90d`, `12h`, `30m` or `1d 12h`. Raises UsageError, naming the option."""
    written = text.strip().lower()
    if not _AGE.fullmatch(written):
        raise UsageError(f"{option} {text!r} is no age: give one such as 90d, 12h, 30m or 1d12h")
    return sum(int(number) * _UNITS_S[unit] for number, unit in _AGO.findall(written)) * 1_000_000
