"""One document through one turn in this process: its answer streamed; no queue, no Redis."""

import asyncio
import os
import random
from dataclasses import dataclass

from runner.config import Settings
from runner.crashpoints import arm
from runner.endpoints import Endpoints
from runner.heartbeat import Heart
from runner.keys import Ticket
from runner.lanes import Lanes
from runner.ledger import Ledger
from runner.ledger.submission import Batch, BatchPlan
from runner.ledger.trying import begin_try, end_try
from runner.ledger.workers import TRYING
from runner.limiter import Limiter
from runner.model import SourceText
from runner.pacing import Pacer
from runner.pinned import PinnedJobs
from runner.pipeline import Pipeline, Tools
from runner.prices import PriceList
from runner.stream import Stream
from runner.suspect import Suspect
from runner.turns.turn import Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How a try ended; `why` says what kept it from an outcome, when it has none."""

    batch: Batch
    document_id: str
    ended: Ended
    why: str


class Trial:
    """Tries one document: one call at most, in the ledger as any other; `stream` hears its answer.

    The document belongs to this process until it has ended: no worker is given it. What would be
    asked again ends cancelled, and so does what was never called for.
    """

    def __init__(self, settings: Settings, ledger: Ledger, stream: Stream) -> None:
        self._settings = settings
        self._ledger = ledger
        self._stream = stream
        self._hindrances: list[str] = []
        self._turn: asyncio.Task[Ended] | None = None
        self._interrupts = 0

    def interrupt(self) -> None:
        """End the call: it may have been paid. One whose answer is here ends by itself.

        Asked a second time, leave at once: an answer that is kept is read by a worker then.
        """
        self._interrupts += 1
        if self._turn is not None and (self._interrupts > 1 or not self._stream.is_complete):
            self._turn.cancel()

    async def run(self, plan: BatchPlan, text: SourceText) -> Tried:
        """Try the document of this text; all is written down when this returns.

        Raises what kept it from being written down: the sweep of a worker ends the document then.
        """
        arm(os.environ)
        heart = Heart(self._ledger, slots=0, clock_s=self._ledger.clock.s)
        heart.state, heart.in_flight = TRYING, 1
        await heart.register()
        beating = asyncio.create_task(heart.beat_forever())
        try:
            tried = await self._try(heart, plan, text)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        heart.state, heart.in_flight = "stopped", 0
        await heart.beat()
        return tried

    async def _try(self, heart: Heart, plan: BatchPlan, text: SourceText) -> Tried:
        worker_id, now_us = heart.row.id, self._ledger.clock.us()
        batch, ticket = await self._ledger.write_one(
            lambda connection: begin_try(connection, plan, text, worker_id=worker_id, now_us=now_us)
        )
        ended = await self._take(heart, ticket)
        now_us = self._ledger.clock.us()
        found = await self._ledger.write_one(
            lambda connection: end_try(connection, batch.id, now_us=now_us)
        )
        why = found.pause_reason or "; ".join(self._hindrances)
        return Tried(batch=found, document_id=ticket.document_id, ended=ended, why=why)

    async def _take(self, heart: Heart, ticket: Ticket) -> Ended:
        endpoints = Endpoints(self._settings, stream=self._stream)
        limiter = Limiter(self._settings)
        suspect = Suspect(self._settings.home)
        pipeline = Pipeline(
            Tools(
                ledger=self._ledger,
                jobs=PinnedJobs(self._settings.job_folders),
                settings=self._settings,
                lanes=Lanes(self._settings),
                pacer=Pacer(limiter),
                provider_for=endpoints.provider_for,
                prices=PriceList(self._settings),
                suspect=suspect,
                worker_id=lambda: heart.row.id,
                on_hindrance=self._hindrances.append,
                rng=random.Random(),  # noqa: S311 - jitter, not secrets
                streams=True,
                clock_s=self._ledger.clock.s,
            )
        )
        try:
            if self._interrupts:
                return None
            self._turn = asyncio.create_task(pipeline.run_turn(ticket))
            return await self._turn
        except asyncio.CancelledError:
            if self._interrupts:
                return None  # interrupted before the turn had begun
            raise
        finally:
            await endpoints.aclose()
            await limiter.aclose()
            suspect.close()
