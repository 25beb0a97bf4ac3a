"""The leader's duties beside the arq worker: feed the road, sweep what got stuck, bury the dead."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from runner.alerts import Alerts
from runner.config import ModelSettings
from runner.crashpoints import Point, reach
from runner.heartbeat import ROAD, Heart, Judge
from runner.keys import Ticket
from runner.ledger import Ledger
from runner.ledger.ends import Finish, Settlement
from runner.ledger.feeding import (
    Feed,
    Orphan,
    Waiting,
    bring_forward,
    feed,
    free_answered,
    orphans,
    ready_tickets,
    take_back,
)
from runner.ledger.keypauses import end_what_is_over, is_over
from runner.ledger.outcomes import finish
from runner.ledger.trying import end_tries_of
from runner.ledger.workers import (
    TRYING,
    WorkerRow,
    bury,
    leader_id,
    living,
    resign,
    take_lead,
)
from runner.limiter import time_to_start_s
from runner.log import log
from runner.model import AttemptState, Failure, Fault, Policy
from runner.queue import ROAD_ERRORS, Road
from runner.retry import decide, record_attempt, signature
from runner.suspect import clear_suspect, suspect_of

BUSY_TICK_S = 0.05
IDLE_TICK_S = 0.2
BUSY_FED = 20  # every feeding is a commit: fewer documents than that wait for the next tick
LOOK_ROUND_S = 1.0
# documents on the road for each slot of the fleet: one in its slot, one on its way
WINDOW_PER_SLOT = 2
WINDOW_MIN = 20
# documents on the road that wait for their model's limits: of so many seconds, and at least
AHEAD_S = 2.0
READY_LEAST = 10
READY_PER_WORKER = 4


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who lives, as this process sees it."""

    workers: tuple[WorkerRow, ...] = ()
    leads: bool = False

    @property
    def window(self) -> int:
        """How many documents may be on the road and in calls."""
        return max(WINDOW_MIN, WINDOW_PER_SLOT * sum(worker.slots for worker in self.workers))


class Feeder:
    """Runs in every worker process; only the one that leads acts.

    A Redis that is away stops feeding and nothing else: what is not on the road is found missing
    and queued again once it is back.
    """

    def __init__(
        self,
        ledger: Ledger,
        road: Road,
        heart: Heart,
        *,
        home: Path,
        policy_of: Callable[[str, int], Policy],
        ceiling_of: Callable[[Orphan], int | None],
        alerts: Alerts,
        limits_of: Callable[[str], ModelSettings],
        clock_s: Callable[[], float] = time.time,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._limits_of = limits_of
        self._road = road
        self._heart = heart
        self._judge = Judge(host=heart.host, monotonic=time.monotonic)
        self._home = home
        self._policy_of = policy_of
        self._ceiling_of = ceiling_of
        self._alerts = alerts
        self._clock_s = clock_s
        self._rng = rng
        self._missing: set[Ticket] = set()
        self.fleet = Fleet()

    async def run(self) -> None:
        """Look round, sweep and feed until cancelled."""
        looked_s = -LOOK_ROUND_S
        while True:
            if time.monotonic() - looked_s >= LOOK_ROUND_S:
                looked_s = time.monotonic()
                await self._look_round()
            fed = await self._feed() if self.fleet.leads else 0
            await asyncio.sleep(BUSY_TICK_S if fed >= BUSY_FED else IDLE_TICK_S)

    async def retire(self) -> None:
        """Leave the lead to another worker at once; the last one takes what nobody holds back."""
        me = self._heart.row.id
        await self._ledger.write_one(lambda connection: resign(connection, me))
        if self.fleet.leads:
            await self._alerts.look()
        await self._alerts.finish()
        if any(worker.id != me for worker in self.fleet.workers):
            return
        left = await self._ledger.read_one(ready_tickets)
        await self._queue_again(left)
        with suppress(*ROAD_ERRORS):
            await self._road.forget(left)

    async def _look_round(self) -> None:
        me = self._heart.row.id
        workers = await self._ledger.read_one(lambda connection: living(connection, trying=True))
        others = [worker for worker in workers if worker.id != me]
        dead = self._judge.dead(others, trust_silence=self._heart.beats_freely)
        alive = tuple(one for one in workers if one not in dead and one.state != TRYING)
        leads = await self._take_or_keep_lead({worker.id for worker in alive})
        self.fleet = Fleet(workers=alive, leads=leads)
        set_back_us = self._ledger.clock.take_set_back_us()
        if leads:
            if set_back_us:
                await self._ledger.write_one(
                    lambda connection: bring_forward(connection, by_us=set_back_us)
                )
            spared = [one for one in dead if not await self._bury(one) and one.state != TRYING]
            self.fleet = Fleet(workers=(*alive, *spared), leads=True)
            await self._sweep()
            await self._let_go_on()
            await self._alerts.look()

    async def _take_or_keep_lead(self, alive: set[str]) -> bool:
        me = self._heart.row.id
        present = await self._ledger.read_one(leader_id)
        if present == me:
            return True
        if present is not None and present in alive:
            return False
        return await self._ledger.write_one(
            lambda connection: take_lead(connection, me, instead_of=present)
        )

    async def _bury(self, worker: WorkerRow) -> bool:
        # the note of a process on another host cannot be read here: nobody is charged then
        here = worker.host == self._heart.host
        suspect = suspect_of(self._home, worker.pid) if here else None
        now_us = self._now_us()

        def bury_it(connection: Connection) -> bool:
            buried = bury(connection, worker, suspect=suspect)
            if buried and worker.state == TRYING:
                end_tries_of(connection, worker.id, now_us=now_us)
            return buried

        buried = await self._ledger.write_one(bury_it)
        if buried:
            reach(Point.AFTER_BURY)
            if here:
                clear_suspect(self._home, worker.pid)
            log(
                "worker_gone",
                f"worker {worker.id} (pid {worker.pid}) is gone; taking over",
                gone=worker.id,
                document_id=suspect,
            )
        return buried

    async def _sweep(self) -> None:
        """Take back what dead workers left and what the road lost."""
        now_us = self._now_us()
        left = await self._ledger.read_one(lambda connection: orphans(connection, now_us=now_us))
        answered = [one for one in left if one.answered]
        if answered:
            await self._ledger.write_one(
                lambda connection: free_answered(connection, answered, now_us=now_us)
            )
        await asyncio.gather(
            *(
                self._ledger.write(finish, self._end_of_orphan(one))
                for one in left
                if not one.answered
            )
        )
        try:
            await self._sweep_road()
        except ROAD_ERRORS as error:
            self._heart.hinder(ROAD, f"Redis away: {error}")
        else:
            self._heart.hinder(ROAD, None)

    def _end_of_orphan(self, one: Orphan) -> Finish:
        """A call whose worker died: nobody knows how it ended, so it counts as paid."""
        failure = Failure(
            Fault.WORKER_LOST, f"worker {one.worker_id} was lost during the call; it may be billed"
        )
        policy = self._policy_of(one.job, len(one.models))
        history = record_attempt(one.history, failure)
        settlement = None
        if one.attempt_id is not None:
            settlement = Settlement(
                attempt_id=one.attempt_id,
                state=AttemptState.AMBIGUOUS,
                cost_nusd=None,
                ambiguous_nusd=one.hold_nusd or 0,
            )
        return Finish(
            ticket=one.ticket,
            outcome=decide(failure, history, policy, self._rng),
            signature=signature(failure),
            now_us=self._now_us(),
            lease_token=one.lease_token,
            settlement=settlement,
            model=one.model,
            prompt_id=one.prompt_id,
            ceiling_nusd=self._ceiling_of(one),
        )

    async def _let_go_on(self) -> None:
        """Let batches go on whose pause is over, and one document try each key that may work."""
        now_us = self._now_us()
        if not await self._ledger.read_one(lambda connection: is_over(connection, now_us=now_us)):
            return
        probes = await self._ledger.write_one(
            lambda connection: end_what_is_over(connection, now_us=now_us)
        )
        with suppress(*ROAD_ERRORS):  # what is ready and not on the road, the sweep queues again
            await self._road.push(probes)

    async def _sweep_road(self) -> None:
        held = await self._road.held()
        numbers = {worker.number for worker in self.fleet.workers}
        lost = [ticket for number, some in held.items() if number not in numbers for ticket in some]
        await self._queue_again(lost)
        await self._road.forget(lost)
        ready = await self._ledger.read_one(ready_tickets)
        missing = set(await self._road.missing(ready))
        # seen missing twice in succession: not merely fed, begun or finished this very moment
        stuck = missing & self._missing
        await self._queue_again(stuck)
        await self._road.forget(stuck)
        self._missing = missing - stuck

    async def _queue_again(self, tickets: "list[Ticket] | set[Ticket]") -> None:
        if tickets:
            now_us = self._now_us()
            await self._ledger.write_one(
                lambda connection: take_back(connection, tickets, now_us=now_us)
            )

    async def _feed(self) -> int:
        wish = Feed(
            worker_id=self._heart.row.id,
            window=self.fleet.window,
            now_us=self._now_us(),
            enough=self._enough,
        )
        tickets = await self._ledger.write(feed, wish)
        if tickets:
            reach(Point.AFTER_READY)
        try:
            await self._road.push(tickets)
        except ROAD_ERRORS as error:
            # they are ready and not on the road: the sweep queues them again
            self._heart.hinder(ROAD, f"Redis away: {error}")
            await asyncio.sleep(LOOK_ROUND_S)
        return len(tickets)

    def _enough(self, model: str, waiting: Waiting) -> bool:
        """Whether so much of a model waits on the road as its limits let start soon."""
        if waiting.documents < max(READY_LEAST, READY_PER_WORKER * len(self.fleet.workers)):
            return False
        ahead_s = time_to_start_s(
            self._limits_of(model), documents=waiting.documents, text_bytes=waiting.text_bytes
        )
        return ahead_s >= AHEAD_S

    def _now_us(self) -> int:
        return round(self._clock_s() * 1e6)
