"""The retry budget: another try at what failed takes only a small part of all calls."""

import asyncio
from collections import deque

from aiolimiter import AsyncLimiter

SHARE = 0.1  # of the first calls of the last minute
MINUTE_S = 60.0
POSTPONED_S = 5.0  # longer the more others were postponed in the last minute
POSTPONED_MAX_S = 120.0
FLOOR_EVERY_S = 5.0  # one retry of the whole fleet in so many seconds is always allowed


class RetryBudget:
    """One lane's retries in this process: 10 % of its first calls a minute, and a floor.

    Retries amplify trouble: five attempts each would answer an overload by five times the load
    (Google SRE book, "Handling Overload", gives the 10 %). Calls that show an answer's errors to
    the model are no retries. Times are those of the running event loop.
    """

    def __init__(self) -> None:
        self._first: deque[float] = deque()
        self._retries: deque[float] = deque()
        self._denied: deque[float] = deque()
        self._floor = AsyncLimiter(1, FLOOR_EVERY_S)
        self._processes = 1

    def set_share(self, processes: int) -> None:
        """From now on this process has 1 / `processes` of the floor."""
        if processes != self._processes:
            self._processes = processes
            self._floor = AsyncLimiter(1, FLOOR_EVERY_S * processes)

    def note_first(self) -> None:
        """A first call was made."""
        self._first.append(_now_s())
        self._forget()

    def has_room(self) -> bool:
        """Whether a retry may be made now."""
        self._forget()
        return self._within_share() or self._floor.has_capacity()

    async def take(self) -> bool:
        """Count a retry, if one may be made now. Never waits."""
        self._forget()
        if self._within_share():
            self._retries.append(_now_s())
            return True
        if self._floor.has_capacity():
            await self._floor.acquire()  # at once: nobody else is between the two
            return True
        return False

    def postpone(self) -> float:
        """A retry was denied: how many seconds it had better wait.

        Longer the more were denied in the last minute, so that they do not all come back at once.
        """
        self._forget()
        self._denied.append(_now_s())
        return min(POSTPONED_MAX_S, POSTPONED_S * len(self._denied))

    def _within_share(self) -> bool:
        return len(self._retries) + 1 <= SHARE * len(self._first)

    def _forget(self) -> None:
        horizon_s = _now_s() - MINUTE_S
        for calls in (self._first, self._retries, self._denied):
            while calls and calls[0] <= horizon_s:
                calls.popleft()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
