"""One home under torture: its provider, its workers, its Redis, and what its ledger says."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select

from runner.config import Settings
from runner.crashpoints import VARIABLE
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.standing import state_counts
from runner.ledger.tables import attempt, document, worker
from runner.model import OPEN_STATES, AttemptState, DocumentState, Fault
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents

COMMAND = (sys.executable, "-m", "runner.cli")
SHIFTED = (sys.executable, "-m", "scripts.campaign.shifted")
SLOTS = 8
COMMAND_MAX_S = 60.0
CONFIG = """
[models."gpt-5-mini"]
rpm = 30000
timeout_s = 20
input_usd_per_mtok = 0.25
cached_usd_per_mtok = 0.025
output_usd_per_mtok = 2.0

[models."gpt-5"]
rpm = 30000
timeout_s = 20
input_usd_per_mtok = 0.25
cached_usd_per_mtok = 0.025
output_usd_per_mtok = 2.0
"""
# of a provider on an ordinary day; a document meets each at most once, so that all can end well
EVERYDAY_FAULTS = {
    "rules": [
        {"fault": "server_error_500", "rate": 0.02, "first": 1},
        {"fault": "drop_before_answer", "rate": 0.01, "first": 1},
        {"fault": "invalid_json", "rate": 0.02, "first": 1},
    ]
}


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that was planned and has no answer."""

    attempt_id: str
    document_id: str
    number: int  # of the document's calls


@dataclass
class TorturedHome:
    """Starts and restarts workers in one folder, and knows all that is true of them."""

    folder: Path
    workers_wanted: int
    rng: random.Random
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)  # pids under SIGSTOP
    _next_trap: str = ""
    _next_shift_s: int = 0

    def __enter__(self) -> Self:
        (self.folder / "runner.toml").write_text(CONFIG, encoding="utf-8")
        self.provider = ProviderProcess(
            latency_ms=200,
            latency_sigma=0.5,
            seed=self.rng.randrange(1_000_000),
            faults=EVERYDAY_FAULTS,
            input_usd_per_mtok="0.25",
            cached_usd_per_mtok="0.025",
            output_usd_per_mtok="2",
        )
        self.provider.start()
        self.ledger = Ledger(sqlite_url(Settings.load(env=self.env).ledger_path))
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.workers:
            with suppress(ProcessLookupError):
                one.kill()
            one.wait()
        with suppress(ProcessLookupError):
            os.kill(self.provider.pid, signal.SIGCONT)
        self.provider.stop()
        self.ledger.close()

    @property
    def home(self) -> Path:
        """RUNNER_HOME."""
        return self.folder / "home"

    @property
    def env(self) -> dict[str, str]:
        """The environment of every command, without settings of the person's own."""
        own = ("RUNNER_", "OPENAI_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return kept | {
            "RUNNER_HOME": str(self.home),
            "RUNNER_CONFIG": str(self.folder / "runner.toml"),
            "OPENAI_API_KEY": "test-key-of-no-worth",
            "OPENAI_BASE_URL": self.provider.base_url,
        }

    def tell_provider(self, **changes: Any) -> None:
        """Change the provider's settings; one that hangs goes on, as it could not hear."""
        os.kill(self.provider.pid, signal.SIGCONT)
        self.provider.control(**changes)

    # ------------------------------------------------------------ commands

    def call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(  # noqa: S603 - our own command line
            [*COMMAND, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=COMMAND_MAX_S,
            check=False,
        )

    def submit(self, documents: int, *, seed: int) -> Path:
        """Submit generated invoices; the file they are in."""
        path = self.folder / "documents.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for name, text in generate_documents(documents, seed=seed, size="small"):
                lines.write(json.dumps({"id": name, "text": text}) + "\n")
        done = self.call("submit", "invoice", str(path))
        if done.returncode:
            raise RuntimeError(f"submit ended with {done.returncode}: {done.stderr}")
        return path

    def retry_dead_letters(self, operators: int) -> list[int]:
        """So many people retry all dead letters at once; how many each of them queued again."""
        command = [*COMMAND, "dead", "retry", "--yes", "--json"]
        both = [
            subprocess.Popen(  # noqa: S603 - our own command line
                command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            for _ in range(operators)
        ]
        printed = [one.communicate(timeout=COMMAND_MAX_S)[0] for one in both]
        return [json.loads(text)["retried"] for text in printed]

    # ------------------------------------------------------------ workers

    def keep_workers(self) -> list[int]:
        """Start what is missing of the workers; exit codes of those that had ended."""
        codes = []
        for one in list(self.workers):
            if (code := one.poll()) is not None:
                self.workers.remove(one)
                self.stopped.discard(one.pid)
                codes.append(code)
        while len(self.workers) < self.workers_wanted:
            self.workers.append(self._start_worker())
        return codes

    def set_trap(self, trap: str) -> None:
        """The next worker that starts meets this trap."""
        self._next_trap = trap

    def set_clock(self, shift_s: int) -> None:
        """The next worker that starts has a clock that is wrong by so much."""
        self._next_shift_s = shift_s

    def _start_worker(self) -> "subprocess.Popen[bytes]":
        command: Sequence[str] = COMMAND
        if self._next_shift_s:
            command = (*SHIFTED, str(self._next_shift_s))
        env = self.env | ({VARIABLE: self._next_trap} if self._next_trap else {})
        self._next_trap, self._next_shift_s = "", 0
        with (self.folder / "workers.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command line
                [*command, "work", "--concurrency", str(SLOTS)],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def some_worker(self, *, at_work: bool = False) -> "subprocess.Popen[bytes] | None":
        """A worker that runs; `at_work`: and has entered itself in the ledger."""
        running = [
            one for one in self.workers if one.poll() is None and one.pid not in self.stopped
        ]
        if at_work:
            with self.ledger.snapshot() as connection:
                begun = set(connection.execute(select(worker.c.pid)).scalars())
            running = [one for one in running if one.pid in begun]
        return self.rng.choice(running) if running else None

    def calls_in_flight(self, pids: Collection[int]) -> list[InFlight]:
        """The calls of these processes that have no answer, those taken for lost included."""
        query = (
            select(attempt.c.id, attempt.c.document_id, attempt.c.number)
            .join(worker, worker.c.id == attempt.c.worker_id)
            .where(
                worker.c.pid.in_(pids),
                (attempt.c.state == AttemptState.INTENT) | (attempt.c.fault == Fault.WORKER_LOST),
            )
        )
        with self.ledger.snapshot() as connection:
            return [InFlight(*row) for row in connection.execute(query)]

    def are_taken_up(self, orphans: Collection[InFlight]) -> bool:
        """Whether each of these calls is followed by another one, or its document has ended."""
        query = (
            select(document.c.id, document.c.state, func.max(attempt.c.number).label("number"))
            .join(attempt, attempt.c.document_id == document.c.id)
            .where(document.c.id.in_({one.document_id for one in orphans}))
            .group_by(document.c.id, document.c.state)
        )
        with self.ledger.snapshot() as connection:
            found = {row.id: row for row in connection.execute(query)}
        return all(
            found[one.document_id].state not in OPEN_STATES
            or found[one.document_id].number > one.number
            for one in orphans
        )

    # ------------------------------------------------------------ Redis

    @property
    def redis_folder(self) -> Path:
        """Where the embedded server keeps its files."""
        return self.home / "redis"

    def redis_pid(self) -> int | None:
        """The embedded server, while it runs."""
        with suppress(OSError, ValueError, KeyError):
            noted = json.loads((self.redis_folder / "server.pid").read_text(encoding="utf-8"))
            if psutil.pid_exists(noted["pid"]):
                return int(noted["pid"])
        return None

    def kill_redis(self) -> bool:
        """Kill -9 the server; False when it does not run."""
        pid = self.redis_pid()
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    @contextmanager
    def redis(self) -> Iterator[Redis]:
        """A connection of the campaign's own. Raises RedisError when the server is away."""
        note = self.redis_folder / "socket-path"
        if not note.exists():
            raise RedisError("the server has not started yet")
        connection = Redis.from_url(
            f"unix://{note.read_text(encoding='utf-8')}", socket_timeout=2, socket_connect_timeout=2
        )
        try:
            yield connection
        finally:
            connection.close()

    # ------------------------------------------------------------ what is true

    def states(self) -> dict[DocumentState, int]:
        """Documents by state."""
        with self.ledger.snapshot() as connection:
            return state_counts(connection, None)

    def open_documents(self) -> int:
        """Documents that have not ended."""
        states = self.states()
        return sum(states[state] for state in OPEN_STATES)

    def calls(self) -> int:
        """Calls so far, as the ledger counts them."""
        with self.ledger.snapshot() as connection:
            return int(connection.execute(select(func.count()).select_from(attempt)).scalar_one())


def wait_for(seconds: float, *, tick_s: float = 0.1) -> Iterator[float]:
    """Moments at which to look, with the seconds gone by, until `seconds` are over."""
    began_s = time.monotonic()
    while (gone_s := time.monotonic() - began_s) < seconds:
        yield gone_s
        time.sleep(tick_s)
