"""What all printed shapes share: closed and frozen, exact money, times as ISO 8601 in UTC."""

from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from runner.budget import nusd_to_usd
from runner.cli.wording import iso


class Shape(BaseModel):
    """The base of them all; each is built when it is first used, as a command uses few of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class FieldErrorShape(Shape):
    """One thing that is wrong with a record; an empty path means the whole."""

    path: str
    message: str


def in_usd(nusd: int | None) -> Decimal | None:
    """Nano-dollars as exact dollars."""
    return None if nusd is None else nusd_to_usd(nusd)


def in_s(us: int | None) -> float | None:
    """Microseconds as seconds."""
    return None if us is None else us / 1e6


def as_iso(us: int | None) -> str | None:
    """A time in microseconds since the epoch, as ISO 8601 in UTC."""
    return None if us is None else iso(us)
