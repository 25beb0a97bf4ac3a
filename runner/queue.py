"""The road: document ids in an arq queue in Redis, and who holds which; never the truth.

An id that a worker has started is moved out of the queue's head by its score: `HELD + number` of
that worker. So ids that wait for rate do not hide free ones from arq's polls, and the ids a dead
worker held are found by one range query.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from arq.worker import Worker, func
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runner.errors import ConfigError
from runner.keys import Ticket, queue_name

# Scores of waiting ids lie a day in the past of Redis's clock, so that a worker whose clock is
# wrong by hours still sees them; held ids lie in the year 2100.
WAITING_SINCE_MS = 86_400_000
HELD = 4_102_444_800_000
PAYLOAD_TTL_MS = 86_400_000
CONNECTIONS = 32
# arq's own limit on a job; the call's deadline ends it long before
JOB_TIMEOUT_S = 7_200
POLL_S = 0.05
SAFE_POLICY = "noeviction"
# so long an id is left to the worker it falls to
LEFT_TO_OTHERS_S = 0.5
HOLD_TOGETHER_S = 0.02

ROAD_ERRORS = (RedisError, OSError)

Extract = Callable[[Ticket], Awaitable[None]]
Place = Callable[[], tuple[int, int]]


def _dumps(payload: dict[str, Any]) -> bytes:
    # of an exception, which arq puts into the result of an expired job, only the kind
    return json.dumps(payload, default=lambda foreign: type(foreign).__name__).encode()


def _loads(payload: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(payload)
    return loaded


class _SharingWorker(Worker):
    """An arq worker that begins with the ids that fall to it, and leaves the others a moment.

    Plain arq workers all reach for every id, and all but one in vain: with eight of them it was 60
    Redis calls a document instead of 24. An id falls to a worker by its hash; what that one has not
    begun within `LEFT_TO_OTHERS_S`, because it is full or gone, anybody takes.
    """

    place: Place = staticmethod(lambda: (0, 1))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._first_seen_s: dict[bytes, float] = {}

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Begin with those of the ids that are for this worker to begin."""
        await super().start_jobs(self._mine(job_ids))

    def _mine(self, job_ids: list[bytes]) -> list[bytes]:
        rank, workers = self.place()
        now_s = time.monotonic()
        self._first_seen_s = {job_id: self._first_seen_s.get(job_id, now_s) for job_id in job_ids}
        return [
            job_id
            for job_id, seen_s in self._first_seen_s.items()
            if crc32(job_id) % workers == rank or now_s - seen_s > LEFT_TO_OTHERS_S
        ]


class Road:
    """One ledger's queue on one Redis. Every method may raise one of `ROAD_ERRORS`."""

    def __init__(self, url: str, *, ledger_id: str) -> None:
        self._ledger_id = ledger_id
        self._queue = queue_name(ledger_id)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=None,
            socket_timeout=10,
            socket_connect_timeout=5,
            retry=Retry(ExponentialBackoff(cap=1, base=0.05), retries=3),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
        )
        self._redis = ArqRedis(
            connection_pool=pool,
            job_serializer=_dumps,
            job_deserializer=_loads,
            default_queue_name=self._queue,
        )
        self._to_hold: dict[str, float] = {}
        self._holding: asyncio.Task[None] | None = None

    async def ping(self) -> None:
        """Raise when Redis does not answer."""
        await self._redis.ping()

    async def refuse_unsafe(self) -> str | None:
        """Raise ConfigError for a Redis that may drop ids unseen; a warning of one that forgets."""
        memory = await self._redis.info("memory")
        policy = memory.get("maxmemory_policy", SAFE_POLICY)
        if policy != SAFE_POLICY:
            raise ConfigError(
                f"Redis has maxmemory-policy {policy}: it would drop ids unseen, and documents "
                f"would wait for the sweep to find them; CONFIG SET maxmemory-policy {SAFE_POLICY} "
                "there, or start with --allow-unsafe-redis"
            )
        persistence = await self._redis.info("persistence")
        if persistence.get("aof_enabled"):
            return None
        return "Redis keeps no append-only file: its restart delays documents by seconds"

    async def push(self, tickets: Sequence[Ticket]) -> None:
        """Put tickets on the road in their order, in one round trip."""
        if not tickets:
            return
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        scores: dict[str, float] = {}
        async with self._redis.pipeline(transaction=False) as pipe:
            for offset, ticket in enumerate(tickets):
                arq_id = ticket.arq_id(self._ledger_id)
                payload = serialize_job("extract", (), {}, None, now_ms, serializer=_dumps)
                pipe.psetex(job_key_prefix + arq_id, PAYLOAD_TTL_MS, payload)
                scores[arq_id] = now_ms - WAITING_SINCE_MS + offset / 1000
            pipe.zadd(self._queue, scores)
            await pipe.execute()

    async def missing(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Those of the tickets that nobody will start: not on the road, or begun and not held.

        A worker holds an id a moment after it began it. One that died in that moment leaves arq's
        mark on it, and no other worker would begin it for `JOB_TIMEOUT_S`.
        """
        if not tickets:
            return []
        arq_ids = [ticket.arq_id(self._ledger_id) for ticket in tickets]
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(self._queue, arq_ids)
            pipe.mget([in_progress_key_prefix + arq_id for arq_id in arq_ids])
            scores, begun = await pipe.execute()
        return [
            ticket
            for ticket, score, mark in zip(tickets, scores, begun, strict=True)
            if score is None or (mark is not None and score < HELD)
        ]

    def hold(self, ticket: Ticket, *, number: int) -> None:
        """Mark a ticket as held by worker `number`, soon and together with others."""
        self._to_hold[ticket.arq_id(self._ledger_id)] = HELD + number
        if self._holding is None or self._holding.done():
            self._holding = asyncio.create_task(self._hold_all())

    async def _hold_all(self) -> None:
        while self._to_hold:  # more may come while the last marks are on their way
            await asyncio.sleep(HOLD_TOGETHER_S)
            marks, self._to_hold = self._to_hold, {}
            with suppress(*ROAD_ERRORS):  # only hints: the claim decides, the sweep finds the rest
                await self._redis.zadd(self._queue, marks, xx=True)

    async def held(self) -> dict[int, list[Ticket]]:
        """Tickets by the number of the worker that holds them."""
        rows = await self._redis.zrangebyscore(self._queue, HELD, "+inf", withscores=True)
        by_number: dict[int, list[Ticket]] = {}
        for arq_id, score in rows:
            try:
                ticket = Ticket.from_arq_id(arq_id.decode())
            except ValueError:
                continue  # none of ours: arq drops it when its time comes
            by_number.setdefault(int(score) - HELD, []).append(ticket)
        return by_number

    async def forget(self, tickets: Iterable[Ticket]) -> None:
        """Remove every trace of these tickets."""
        arq_ids = [ticket.arq_id(self._ledger_id) for ticket in tickets]
        if not arq_ids:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self._queue, *arq_ids)
            for arq_id in arq_ids:
                pipe.delete(
                    job_key_prefix + arq_id,
                    in_progress_key_prefix + arq_id,
                    retry_key_prefix + arq_id,
                )
            await pipe.execute()

    async def depth(self) -> int:
        """Ids on the road, held ones included."""
        return int(await self._redis.zcard(self._queue))

    def make_worker(self, extract: Extract, *, slots: int, place: Place = lambda: (0, 1)) -> Worker:
        """Build an arq worker that hands each id's ticket to `extract`; `slots` at a time.

        `place` says which one of how many workers this is now, from 0.

        It handles no signals, keeps no results and prints no arguments: draining is the caller's,
        the outcome is in the ledger.
        """

        async def run(ctx: dict[str, Any]) -> None:
            await extract(Ticket.from_arq_id(ctx["job_id"]))

        worker = _SharingWorker(
            functions=[func(run, name="extract")],
            queue_name=self._queue,
            redis_pool=self._redis,
            handle_signals=False,
            max_jobs=slots,
            queue_read_limit=max(slots, 100),
            job_timeout=JOB_TIMEOUT_S,
            keep_result=0,
            max_tries=1_000_000,
            poll_delay=POLL_S,
            log_results=False,
            job_serializer=_dumps,
            job_deserializer=_loads,
        )
        worker.place = place
        return worker

    async def close(self) -> None:
        """Let go of the connections."""
        if self._holding is not None:
            await asyncio.gather(self._holding, return_exceptions=True)
        await self._redis.aclose(close_connection_pool=True)
