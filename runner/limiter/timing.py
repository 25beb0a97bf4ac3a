"""Where the calendar's clock stands, and how long before its start a caller is let go."""

import math

LEAD_S = (0.05, 0.4)  # at least, and at most
LEAD_ROOM = 1.5
LEAD_FADES = 0.02
CLOCK_TRUSTED_S = 30.0


class Lead:
    """How long before its start a caller is let go: what comes before a call takes that long.

    The longest time of late counts, and fades: one slow commit is soon followed by others.
    """

    def __init__(self) -> None:
        self.s = sum(LEAD_S) / 2

    def note(self, early_s: float) -> None:
        """A caller was ready so long before its start; negative: too late."""
        needed_s = self.s - early_s
        faded_s = self.s + (needed_s * LEAD_ROOM - self.s) * LEAD_FADES
        self.s = min(LEAD_S[1], max(LEAD_S[0], needed_s * LEAD_ROOM, faded_s))


class Clock:
    """How far Redis's clock is ahead, by the quickest question of late (Cristian 1989)."""

    def __init__(self) -> None:
        self.ahead_us = 0.0
        self._error_s = math.inf
        self._at_s = -math.inf

    def note(self, now_us: int, *, asked_s: float, answered_s: float) -> None:
        """A reply that came between two moments of the loop."""
        error_s = (answered_s - asked_s) / 2
        if error_s <= self._error_s or answered_s - self._at_s > CLOCK_TRUSTED_S:
            self.ahead_us = now_us - (asked_s + answered_s) / 2 * 1e6
            self._error_s, self._at_s = error_s, answered_s

    def loop_s(self, calendar_us: int) -> float:
        """A moment of the calendar in the loop's time."""
        return (calendar_us - self.ahead_us) / 1e6

    def calendar_us(self, loop_s: float) -> int:
        """A moment of the loop in the calendar's time."""
        return round(loop_s * 1e6 + self.ahead_us)
