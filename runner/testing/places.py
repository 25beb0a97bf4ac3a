"""The places of a server: so many requests are served at once, and the others wait in line."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """First come, first served; `count` None is as many places as there are requests."""

    def __init__(self, *, count: int | None) -> None:
        self._count = count
        self._serving = 0
        self._line: deque[asyncio.Future[None]] = deque()

    def resize(self, count: int | None) -> None:
        """Have that many places from now on; who is being served stays."""
        self._count = count
        self._call_in()

    @property
    def full(self) -> bool:
        """Whether a newcomer has to wait."""
        return self._count is not None and self._serving >= self._count

    @asynccontextmanager
    async def one(self) -> AsyncIterator[int]:
        """A place, after those who came earlier; gives how many are being served with this one."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._call_in()
        try:
            await turn
            yield self._serving
        finally:
            if turn in self._line:  # left before its turn came
                self._line.remove(turn)
            else:
                self._serving -= 1
            self._call_in()

    def _call_in(self) -> None:
        while self._line and not self.full:
            turn = self._line.popleft()
            self._serving += 1
            if not turn.done():
                turn.set_result(None)
