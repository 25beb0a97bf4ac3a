"""The turns that a worker has under way: each outlives whoever waits for it, none fails unseen."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any

from runner.keys import Ticket


class Turns:
    """Runs the turn of each ticket once, however many wait for it.

    A turn that raises could not write down how it ended. The first such exception is kept, and
    `on_broken` is called, whether or not anybody still waits for that turn.
    """

    def __init__(
        self,
        run_turn: Callable[[Ticket], Coroutine[Any, Any, object]],
        *,
        on_broken: Callable[[], None],
    ) -> None:
        self._run_turn = run_turn
        self._on_broken = on_broken
        self._under_way: dict[Ticket, asyncio.Task[object]] = {}
        self.broken: BaseException | None = None

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._under_way

    def begin(self, ticket: Ticket) -> "asyncio.Task[object]":
        """The ticket's turn, under way already or from now on; shield what waits for it."""
        task = self._under_way.get(ticket)
        if task is None:
            task = asyncio.create_task(self._run_turn(ticket))
            self._under_way[ticket] = task
            task.add_done_callback(partial(self._ended, ticket))
        return task

    def _ended(self, ticket: Ticket, task: "asyncio.Task[object]") -> None:
        del self._under_way[ticket]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broken = self.broken or error
            self._on_broken()

    async def cancel(self, *, but: Collection[Ticket]) -> None:
        """Cancel the turns that are not among these, and wait until they have ended."""
        tasks = [task for ticket, task in self._under_way.items() if ticket not in but]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, *, within_s: float, cut_off: asyncio.Event) -> None:
        """Wait until all have ended; what has not in time, or at the cut-off, is cancelled."""
        if not self._under_way:
            return
        cutting = asyncio.create_task(cut_off.wait())
        ended = asyncio.gather(*self._under_way.values(), return_exceptions=True)
        either: list[asyncio.Future[Any]] = [cutting, ended]
        await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        cutting.cancel()
        await self.cancel(but=())
