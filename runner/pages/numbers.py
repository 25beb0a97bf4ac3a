"""How pages write amounts, times and plain data: the filters of every template."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runner.budget import format_usd, usd_to_nusd
from runner.wording import duration, several

NOTHING = "\u2013"


def usd(nusd: int | None) -> str:
    """Nano-dollars; a price nobody knows is said to be unknown."""
    return "unknown" if nusd is None else format_usd(nusd)


def dollars(amount: Decimal | None) -> str:
    """US dollars; a price nobody knows is said to be unknown."""
    return usd(None if amount is None else usd_to_nusd(amount))


def moment(us: int | None) -> str:
    """A time in microseconds since the epoch, to the second, in UTC."""
    if us is None:
        return NOTHING
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"


def seconds(us: int | None) -> str:
    """A span in microseconds."""
    return NOTHING if us is None else f"{us / 1e6:,.3f} s"


def count(number: int | None) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if number is None else f"{number:,}"


def percent(share: float | None) -> str:
    """A share of 1."""
    return NOTHING if share is None else f"{100 * share:.1f} %"


def value(data: Any) -> str:
    """A value of a record as a person reads it."""
    if data is None:
        return "null"
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def span(seconds: float | None) -> str:
    """A span in seconds as a person says it."""
    return NOTHING if seconds is None else duration(seconds)


FILTERS: Mapping[str, Callable[..., str]] = {
    "usd": usd,
    "dollars": dollars,
    "moment": moment,
    "seconds": seconds,
    "count": count,
    "percent": percent,
    "value": value,
    "span": span,
    "several": several,
}
