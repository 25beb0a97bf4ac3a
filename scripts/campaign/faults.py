"""Every fault that the campaign injects into a running home, and the promise that it tests."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
from redis.exceptions import RedisError

from runner.crashpoints import Point
from scripts.campaign.home import EVERYDAY_FAULTS, InFlight, TorturedHome

KILLED = -signal.SIGKILL
LEASE_S = 10.0  # a worker that is silent for so long is taken for dead
OUTAGE = {"rules": [{"fault": "unavailable_503", "rate": 1.0}]}
HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Injected:
    """What was done. `undo`, if there is one, is due after `lasts_s`.

    `in_flight` are the calls that a worker was waiting for which was `killed`, or stopped until
    others took it for dead.
    """

    what: str
    lasts_s: float = 0.0
    undo: Callable[[], object] | None = None
    in_flight: Sequence[InFlight] = ()
    killed: bool = False
    redis_lost: bool = False


Inject = Callable[[TorturedHome], Injected | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; `weight` is how often it is drawn beside the others."""

    name: str
    promise: str
    weight: int
    inject: Inject


# ------------------------------------------------------------ workers


def kill_worker(home: TorturedHome) -> Injected | None:
    """Kill -9 a worker, wherever it is."""
    victim = home.some_worker()
    if victim is None:
        return None
    victim.kill()
    victim.wait()
    orphans = home.calls_in_flight([victim.pid])
    what = f"kill -9 of worker {victim.pid}, {len(orphans)} calls"
    return Injected(what, in_flight=orphans, killed=True)


def crash_at_a_point(home: TorturedHome) -> Injected | None:
    """Replace a worker by one that kills itself at a named point of its turn."""
    victim = home.some_worker()
    if victim is None:
        return None
    point, nth = home.rng.choice(list(Point)), home.rng.randint(1, 6)
    home.set_trap(f"{point}:kill:{nth}")
    victim.kill()
    victim.wait()
    orphans = home.calls_in_flight([victim.pid])
    what = f"crash at {point}, pass {nth}, of a new worker"
    return Injected(what, in_flight=orphans, killed=True)


def stop_worker(home: TorturedHome) -> Injected | None:
    """SIGSTOP beyond the lease, then SIGCONT."""
    victim = home.some_worker()
    if victim is None:
        return None
    victim.send_signal(signal.SIGSTOP)
    home.stopped.add(victim.pid)

    def go_on() -> None:
        home.stopped.discard(victim.pid)
        with suppress(ProcessLookupError):
            victim.send_signal(signal.SIGCONT)

    in_flight = home.calls_in_flight([victim.pid])
    return Injected(f"SIGSTOP of worker {victim.pid}", LEASE_S + 3, go_on, in_flight)


def drain_worker(home: TorturedHome) -> Injected | None:
    """SIGTERM: it finishes its calls and ends."""
    victim = home.some_worker()
    if victim is None:
        return None
    victim.terminate()
    return Injected(f"SIGTERM to worker {victim.pid}")


def shift_clock(home: TorturedHome) -> Injected | None:
    """Replace a worker by one whose clock is wrong by an hour."""
    victim = home.some_worker()
    if victim is None:
        return None
    shift_s = home.rng.choice([-HOUR_S, HOUR_S])
    home.set_clock(shift_s)
    victim.terminate()
    return Injected(f"a new worker's clock is wrong by {shift_s:+} s")


# ------------------------------------------------------------ Redis


def kill_redis(home: TorturedHome) -> Injected | None:
    """Kill -9; it comes back with its files."""
    return Injected("kill -9 of Redis", redis_lost=True) if home.kill_redis() else None


def empty_redis(home: TorturedHome) -> Injected | None:
    """Kill -9, and its files are gone."""
    if not home.kill_redis():
        return None
    shutil.rmtree(home.redis_folder / "appendonlydir", ignore_errors=True)
    return Injected("Redis killed and its files removed", redis_lost=True)


def flush_redis(home: TorturedHome) -> Injected | None:
    """FLUSHALL."""
    with home.redis() as redis:
        redis.flushall()
    return Injected("FLUSHALL", redis_lost=True)


def roll_redis_back(home: TorturedHome) -> Injected | None:
    """Take a copy of its files; later kill it and put the old copy in their place."""
    files, old = home.redis_folder / "appendonlydir", home.folder / "old-redis"
    if not files.exists() or old.exists():
        return None
    with suppress(OSError, shutil.Error):  # a file may be replaced while it is copied
        shutil.copytree(files, old)

    def put_back() -> None:
        home.kill_redis()
        shutil.rmtree(files, ignore_errors=True)
        old.rename(files)

    return Injected("Redis rolled back to an old copy", 3.0, put_back, redis_lost=True)


def stop_redis(home: TorturedHome) -> Injected | None:
    """SIGSTOP for some seconds: connections stay open, nothing answers."""
    pid = home.redis_pid()
    if pid is None:
        return None
    os.kill(pid, signal.SIGSTOP)
    seconds = home.rng.choice([2.0, 4.0, 8.0])

    def go_on() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return Injected(f"SIGSTOP of Redis for {seconds:g} s", seconds, go_on)


def drop_connections(home: TorturedHome) -> Injected | None:
    """CLIENT KILL of every connection."""
    with home.redis() as redis:
        killed = redis.client_kill_filter(_type="normal", skipme=True)
    return Injected(f"CLIENT KILL of {killed} connections")


def fill_redis(home: TorturedHome) -> Injected | None:
    """Out of memory: every write is refused for a while."""

    def limit(value: str) -> None:
        with suppress(RedisError), home.redis() as redis:
            redis.config_set("maxmemory", value)

    limit("1")
    return Injected("Redis out of memory", 3.0, lambda: limit("0"))


# ------------------------------------------------------------ disk


def fill_disk(home: TorturedHome) -> Injected | None:
    """No file of a worker may grow any more, the ledger's log among them.

    One that is just starting would only say so and end, as it should.
    """
    victim = home.some_worker(at_work=True)
    if victim is None:
        return None
    process = psutil.Process(victim.pid)
    process.rlimit(resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))

    def make_room() -> None:
        with suppress(psutil.Error):
            everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            process.rlimit(resource.RLIMIT_FSIZE, everything)

    return Injected(f"full disk for worker {victim.pid}", 3.0, make_room)


# ------------------------------------------------------------ the provider, and people


def provider_out(home: TorturedHome) -> Injected | None:
    """Every call is answered with 503 for a moment."""
    home.tell_provider(faults=OUTAGE)
    return Injected("the provider is out", 2.0, lambda: home.tell_provider(faults=EVERYDAY_FAULTS))


def provider_hangs(home: TorturedHome) -> Injected | None:
    """SIGSTOP of the provider for a moment."""
    pid = home.provider.pid
    os.kill(pid, signal.SIGSTOP)
    return Injected("the provider hangs", 2.0, lambda: os.kill(pid, signal.SIGCONT))


def two_operators(home: TorturedHome) -> Injected | None:
    """Two people retry all dead letters at once."""
    retried = home.retry_dead_letters(2)
    return Injected(f"two operators retried {retried[0]} and {retried[1]} dead letters")


KINDS = (
    Kind("kill_worker", "G2", 8, kill_worker),
    Kind("crash_point", "G2", 8, crash_at_a_point),
    Kind("stop_worker", "G4", 2, stop_worker),
    Kind("kill_redis", "G5", 3, kill_redis),
    Kind("empty_redis", "G5", 2, empty_redis),
    Kind("flush_redis", "G5", 3, flush_redis),
    Kind("roll_redis_back", "G5", 2, roll_redis_back),
    Kind("stop_redis", "G5", 1, stop_redis),
    Kind("drop_connections", "G5", 3, drop_connections),
    Kind("fill_redis", "G6", 2, fill_redis),
    Kind("fill_disk", "G6", 3, fill_disk),
    Kind("shift_clock", "G8", 3, shift_clock),
    Kind("provider_out", "G9", 1, provider_out),
    Kind("provider_hangs", "G11", 1, provider_hangs),
    Kind("two_operators", "G19", 2, two_operators),
    Kind("drain_worker", "G20", 4, drain_worker),
)
PROMISES = tuple(dict.fromkeys(kind.promise for kind in KINDS))


def try_to_inject(kind: Kind, home: TorturedHome) -> Injected | None:
    """Inject one; None when there was nothing to hit at that moment."""
    with suppress(RedisError, psutil.Error, ProcessLookupError, subprocess.TimeoutExpired):
        return kind.inject(home)
    return None
