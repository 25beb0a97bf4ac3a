"""What is told while somebody looks: one look at the ledger for all of them, every two seconds.

However many pages are open, the ledger is asked once; and a look that takes long is repeated less
often, so that looking never takes more than a thirtieth of a processor.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import astuple, fields
from typing import Any

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError

from runner.ledger import Ledger
from runner.ledger.money import day_of
from runner.ledger.standing import queue_standing
from runner.web.figures import figures
from runner.web.flow import Flow, Point

EVERY_S = 2.0
UNSEEN_EVERY_S = 10.0  # while nobody listens
SHARE_MAX = 30  # one part in so many of the time is spent looking
LISTENERS_MAX = 20
BEHIND_MAX = 30  # events that a browser may be behind before it is let go


class Live:
    """The looks, and those who listen to what they find."""

    def __init__(self, ledger: Ledger, *, day_limit_nusd: int | None) -> None:
        self._ledger = ledger
        self._day_limit_nusd = day_limit_nusd
        self._flow = Flow()
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._called = asyncio.Event()
        self._is_closed = False

    async def run(self) -> None:
        """Look until closed."""
        clock = asyncio.get_running_loop().time
        while not self._is_closed:
            began_s = clock()
            try:
                event = await anyio.to_thread.run_sync(self._look, abandon_on_cancel=True)
            except SQLAlchemyError as error:
                event = _event("trouble", f"the ledger cannot be read: {type(error).__name__}")
            self._tell(event)
            took_s = clock() - began_s
            every_s = EVERY_S if self._listeners else UNSEEN_EVERY_S
            self._called.clear()
            try:
                async with asyncio.timeout(max(every_s, SHARE_MAX * took_s) - took_s):
                    await self._called.wait()
            except TimeoutError:
                continue

    def _look(self) -> str:
        now_us = self._ledger.clock.us()
        with self._ledger.snapshot() as connection:
            queue = queue_standing(connection, now_us=now_us)
            day = day_of(connection, now_us=now_us)
            point = self._flow.look(connection, queue, now_us=now_us)
        told = figures(queue, day, day_limit_nusd=self._day_limit_nusd)
        return _event("look", {"point": astuple(point), "figures": told})

    def _tell(self, event: str | None) -> None:
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                queue.get_nowait()
                event_or_end = None
            else:
                event_or_end = event
            queue.put_nowait(event_or_end)

    async def listen(self) -> AsyncIterator[str]:
        """The past, and then each look; it ends when this is closed, or who listens is too slow."""
        yield _event("past", columns(self.points))
        queue: asyncio.Queue[str | None] = asyncio.Queue(BEHIND_MAX)
        self._listeners.add(queue)
        self._called.set()
        try:
            while not self._is_closed and (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.discard(queue)

    @property
    def points(self) -> Sequence[Point]:
        """The past hour, as far as it is known."""
        return tuple(self._flow.points)

    @property
    def is_full(self) -> bool:
        """Whether no one more can listen."""
        return self._is_closed or len(self._listeners) >= LISTENERS_MAX

    def close(self) -> None:
        """End the looks, and let everybody go who listens."""
        self._is_closed = True
        self._called.set()
        self._tell(None)


def columns(points: Iterable[Point]) -> dict[str, list[Any]]:
    """Points by column, as plots take them."""
    rows = [astuple(point) for point in points]
    return {one.name: [row[place] for row in rows] for place, one in enumerate(fields(Point))}


def _event(kind: str, said: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(said)}\n\n"
