"""Keeps the search index up in the background: one worker of a fleet, a little at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from runner.ledger import Ledger
from runner.log import log
from runner.search.indexing import CALLS_FIRST, CALLS_MAX, Bite, take_bite
from runner.search.store import DamagedError, Store, open_store, remove

# Of processor time: on a busy machine a bite lasts longer, and the rest after it as much longer.
# Were it sized by how long it lasts, it would shrink there to a call, and never get anywhere.
BITE_MAX_S = 0.025
# how much of its time it takes: while documents run, and when all is quiet
WORKING_SHARE = 0.02
QUIET_SHARE = 0.5
LOOK_EVERY_S = 1.0  # when there was nothing to take in
YIELD_S = 0.05
YIELDS_MAX = 20  # then it takes its bite all the same: a ledger can be busy for days
BROKEN_WAIT_S = 30.0


class SearchKeeper:
    """Runs in every worker; only the one that leads indexes, and only a ledger on SQLite.

    It waits while others wait for the ledger, and whatever happens to its file harms nobody: it is
    looked at again half a minute later.
    """

    def __init__(
        self,
        ledger: Ledger,
        home: Path,
        *,
        leads: Callable[[], bool],
        is_quiet: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._home = home
        self._leads = leads
        self._is_quiet = is_quiet
        self._sleep = sleep
        self._store: Store | None = None
        self._calls = CALLS_FIRST

    async def run(self) -> None:
        """Index until cancelled."""
        try:
            while True:
                rest_s = await self._step()
                await self._sleep(rest_s)
        finally:
            self._close()

    async def _step(self) -> float:
        """Take one bite, if there is reason to; how long to rest after it."""
        if not self._ledger.is_sqlite or not self._leads():
            self._close()
            return LOOK_EVERY_S
        await self._let_writers_go_first()
        bite = await self._whole(asyncio.create_task(asyncio.to_thread(self._bite)))
        if bite is None:
            return BROKEN_WAIT_S
        share = QUIET_SHARE if self._is_quiet() else WORKING_SHARE
        rest_s = bite.seconds * (1 / share - 1)
        return rest_s if bite.behind or bite.taken else max(LOOK_EVERY_S, rest_s)

    async def _let_writers_go_first(self) -> None:
        for _ in range(YIELDS_MAX):
            if not self._ledger.is_busy:
                return
            await asyncio.sleep(YIELD_S)

    async def _whole(self, biting: "asyncio.Task[Bite | None]") -> Bite | None:
        """A bite's end; a thread cannot be cancelled, so a cancellation waits for it too."""
        try:
            return await asyncio.shield(biting)
        except asyncio.CancelledError:
            while not biting.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([biting])
            raise

    def _bite(self) -> Bite | None:
        """One bite; None when it failed."""
        try:
            bite = self._take_bite()
        except Exception as error:  # noqa: BLE001 - no trouble with an index may end a worker
            self._close()
            # the kind alone: words of a database may quote what was to be indexed
            why = type(error).__name__
            log("search_index", f"search index: {why}; again in {BROKEN_WAIT_S:.0f} s")
            return None
        self._calls = _next_size(self._calls, bite)
        return bite

    def _take_bite(self) -> Bite:
        if self._store is None or not self._store.is_current:
            self._close()
            self._store = open_store(self._home)
        try:
            return take_bite(self._store, self._ledger, calls_max=self._calls)
        except DamagedError:
            remove(self._store.path)  # begun anew by the next bite
            raise

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _next_size(calls: int, bite: Bite) -> int:
    """How many calls the next bite takes, so that it is over within its time."""
    if bite.cpu_s > BITE_MAX_S:
        return max(1, int(calls * BITE_MAX_S / bite.cpu_s))
    if bite.taken >= calls and bite.cpu_s < BITE_MAX_S / 2:
        return min(CALLS_MAX, 2 * calls)
    return calls
