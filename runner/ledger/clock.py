"""What time it is for everybody who uses one ledger: the time of its database's machine.

Documents wait until a moment that is written down. Were each process to trust its own clock, one
that is an hour ahead would hide documents from all others for that hour.
"""

import time
from collections.abc import Callable

from sqlalchemy import Connection, text

SET_BACK_S = 5.0  # less is the unevenness of looks, or a clock that is being slewed

_NOW = {
    # days since noon of 24 November 4714 BC, as SQLite counts them
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())"),
}


class LedgerClock:
    """That time, carried on between two looks by a clock that nobody sets.

    Before the first look it is the time of this machine.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead_s = time.time() - monotonic()
        self._has_looked = False
        self._set_back_s = 0.0

    def s(self) -> float:
        """Seconds since 1970."""
        return self._monotonic() + self._ahead_s

    def us(self) -> int:
        """Microseconds since 1970."""
        return round(self.s() * 1e6)

    def look(self, connection: Connection) -> None:
        """Ask the database what time it is there."""
        began_s = self._monotonic()
        there_s = float(connection.execute(_NOW[connection.dialect.name]).scalar_one())
        self._note(there_s - (began_s + self._monotonic()) / 2)

    def _note(self, ahead_s: float) -> None:
        back_s = self._ahead_s - ahead_s
        if self._has_looked and back_s > SET_BACK_S:
            self._set_back_s += back_s
        self._ahead_s, self._has_looked = ahead_s, True

    def take_set_back_us(self) -> int:
        """By how much the database's clock was set back since this was last asked."""
        taken_s, self._set_back_s = self._set_back_s, 0.0
        return round(taken_s * 1e6)
