"""The Python face of the calendar in Redis: one lane's question, and the reply to it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from runner.config import ModelSettings
from runner.keys import calendar_keys
from runner.limiter.limits import is_adaptive, of_window

CALENDAR_ERRORS = (RedisError, OSError)

# How unequally late calls reach the provider after the start they were given. With the slots of
# the log it costs less than two per cent of a window of 10 s, and a third of a per cent of 60 s.
JITTER_US = 100_000
SLOTS_PER_WINDOW = 400
CREDIT_PARTS = 20  # what was not used of a twentieth of a window (a second at most) is caught up
CREDIT_MAX_US = 1_000_000
# How far ahead starts are given: longer than the pause between two questions, and no more, because
# what was given is not taken back from a process that dies.
HORIZON_US = 600_000
PROBE_US = 10_000_000
TIMEOUT_S = 2.0
CONNECTIONS = 4


class Kind(StrEnum):
    """What the end of a call says about its lane."""

    OK = "ok"
    FAILED = "failed"  # the provider is in trouble
    REFUSED = "refused"  # over a limit
    SLOW = "slow"  # ramped up too fast


@dataclass(frozen=True, slots=True)
class Correction:
    """What a grant is to count instead: differences, at the start that was given."""

    start_us: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Heard:
    """One call's verdict on its lane."""

    kind: Kind
    start_us: int
    retry_after_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened since the last report; heard once, however often it is sent."""

    seq: int
    corrections: Sequence[Correction] = ()
    heard: Sequence[Heard] = ()
    done: int = 0
    work: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one process wants to know of one lane."""

    process: str
    report: Report
    waiting: int
    in_flight: int  # under way, or granted and not begun
    oldest_us: int  # how long the first in line has waited
    ahead_us: int  # of the calendar, granted to this process and not begun
    wishes: Sequence[int]  # tokens
    told_requests: int | None = None  # a minute, as the provider's headers say
    told_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSeen:
    """What the fleet has seen of an adaptive lane since its concurrency was last set."""

    number: int
    done: int
    work: int
    errors: int
    slow: int
    peak: int
    elapsed_us: int
    limit: int
    knee: str  # empty before the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The calendar's word, `now_us` by its own clock; starts are distances from then."""

    now_us: int
    starts_us: tuple[int, ...]
    costs_us: tuple[int, ...]
    paused_us: int
    open: bool  # the breaker
    probe_us: int
    opened: bool  # by this very question
    run_us: int  # since the first of the failures in succession
    allowed: int | None  # calls of this process at once; none: as many as it likes
    paced: bool  # there are limits on requests or tokens
    epoch: EpochSeen | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One lane's three hashes, see calendar.lua, and what time it is there."""

    state: Mapping[str, str]
    slots: Mapping[str, str]
    crew: Mapping[str, str]
    now_us: int


class Calendar:
    """The calendars of all lanes of one ledger. Every method may raise one of CALENDAR_ERRORS."""

    def __init__(
        self, url: str, *, ledger_id: str, clock_us: Callable[[], int] | None = None
    ) -> None:
        """`clock_us` replaces Redis's clock, for tests in virtual time."""
        self._ledger_id = ledger_id
        self._clock_us = clock_us
        self._redis = Redis.from_url(
            url,
            max_connections=CONNECTIONS,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), retries=1),
        )
        self._calendar = self._redis.register_script(_script("calendar.lua"))
        self._tune = self._redis.register_script(_script("tune.lua"))

    async def ask(self, lane: str, limits: ModelSettings, question: Question) -> Reply:
        """Report, and get starts for a beginning of the wishes, in their order."""
        asked = _asked(limits, question)
        if self._clock_us is not None:
            asked["now_us"] = self._clock_us()
        keys = list(calendar_keys(self._ledger_id, lane))
        now_us, reply = await self._calendar(keys=keys, args=[json.dumps(asked)])
        return _reply(int(now_us), json.loads(reply))

    async def tune(self, lane: str, *, epoch: int, limit: int, knee: str) -> bool:
        """Set an adaptive lane's concurrency; False when that epoch is over already."""
        state, *_ = calendar_keys(self._ledger_id, lane)
        now = () if self._clock_us is None else (self._clock_us(),)
        return bool(await self._tune(keys=[state], args=[epoch, limit, knee, *now]))

    async def read(self, lane: str) -> Written:
        """A lane's calendar as it is written in Redis."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in calendar_keys(self._ledger_id, lane):
                pipe.hgetall(key)
            pipe.time()
            state, slots, crew, (seconds, micros) = await pipe.execute()
        return Written(
            state=_text(state),
            slots=_text(slots),
            crew=_text(crew),
            now_us=seconds * 1_000_000 + micros if self._clock_us is None else self._clock_us(),
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()


def _script(name: str) -> str:
    return files("runner.limiter").joinpath(name).read_text(encoding="utf-8")


def _asked(limits: ModelSettings, question: Question) -> dict[str, Any]:
    window_us = round(limits.window_s * 1e6)
    report = question.report
    asked: dict[str, Any] = {
        "process": question.process,
        "seq": report.seq,
        "window_us": window_us,
        "jitter_us": JITTER_US,
        "slot_us": window_us // SLOTS_PER_WINDOW,
        "credit_us": min(CREDIT_MAX_US, window_us // CREDIT_PARTS),
        "horizon_us": HORIZON_US,
        "probe_us": PROBE_US,
        "waiting": question.waiting,
        "in_flight": question.in_flight,
        "oldest_us": question.oldest_us,
        "ahead_us": question.ahead_us,
        "settled": [(one.start_us, one.requests, one.tokens) for one in report.corrections],
        "outcomes": [(one.kind, one.start_us, one.retry_after_us) for one in report.heard],
        "done": report.done,
        "work": report.work,
        "wishes": list(question.wishes),
        "adaptive": is_adaptive(limits),
    }
    optional = {
        "requests": of_window(limits.rpm, window_s=limits.window_s),
        "tokens": of_window(limits.tpm, window_s=limits.window_s),
        "calls": limits.max_concurrency,
        "told_requests": of_window(question.told_requests, window_s=limits.window_s),
        "told_tokens": of_window(question.told_tokens, window_s=limits.window_s),
    }
    return asked | {name: value for name, value in optional.items() if value is not None}


def _reply(now_us: int, told: Mapping[str, Any]) -> Reply:
    epoch = told.get("epoch")
    return Reply(
        now_us=now_us,
        starts_us=tuple(map(int, told["starts"] or ())),
        costs_us=tuple(map(int, told["costs"] or ())),
        paused_us=int(told["paused_us"]),
        open=told["open"],
        probe_us=int(told["probe_us"]),
        opened=told["opened"],
        run_us=int(told["run_us"]),
        allowed=None if told.get("allowed") is None else int(told["allowed"]),
        paced=told["paced"],
        epoch=None if epoch is None else _epoch(epoch),
    )


def _epoch(told: Mapping[str, Any]) -> EpochSeen:
    counts = {name: int(value) for name, value in told.items() if name != "knee"}
    return EpochSeen(knee=told["knee"], **counts)


def _text(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in raw.items()}
