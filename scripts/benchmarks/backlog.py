"""Benchmark: a backlog of many documents, from its submission to a small batch behind it.

Real command lines over a home of its own: `runner submit` of a .jsonl, `runner status` and the
lists as a person calls them, a worker against a test provider of 300 ms, a batch of ten before and
behind the backlog, and a Redis that loses everything. Memory is the peak of each process.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis
from rich.console import Console
from rich.table import Table

from runner.config import Settings
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.standing import batch_standing, state_counts
from runner.ledger.submission import find_batch
from runner.model import DocumentState
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents
from scripts.benchmarks.homes import JOB, environment

COMMAND = (sys.executable, "-m", "runner.cli")
LATENCY_MS = 300
SLOTS = 50
SMALL = 10  # documents of the batch behind the backlog
WORK_S = 15.0  # how long the worker is watched
LOOKS = 5
BACK_MAX_S = 60.0
START_MAX_S = 30.0
POLL_S = 0.05
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    seconds: float
    peak_mb: float


def run(env: Mapping[str, str], *arguments: str) -> Ended:
    """Run a command to its end. Raises SystemExit with its words when it fails."""
    began_s = time.monotonic()
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [*COMMAND, *arguments], env=dict(env), stdout=subprocess.DEVNULL, stderr=words
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            raise SystemExit(f"{' '.join(arguments)}: {words.read().decode()}")
    return Ended(time.monotonic() - began_s, usage.ru_maxrss * 1024 / MB)


@contextmanager
def worker(env: Mapping[str, str]) -> Iterator[psutil.Process]:
    """A worker; at the end it is killed, as its backlog would keep it for hours."""
    process = subprocess.Popen(  # noqa: S603 - our own command line
        [*COMMAND, "work", "--concurrency", str(SLOTS)],
        env=dict(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Backlog:
    """One home with a backlog, and what is measured of it."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = environment(self.home, base_url)
        self.figures: dict[str, float] = {}

    def write(self, documents: int, *, seed: int = 1) -> Path:
        """A .jsonl of generated invoices."""
        path = self.folder / f"{documents}-{seed}.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for name, text in generate_documents(documents, seed=seed, size="small"):
                lines.write(json.dumps({"id": name, "text": text}) + "\n")
        return path

    def submit(self, path: Path, batch: str) -> Ended:
        """`runner submit` of a file."""
        return run(self.env, "submit", JOB, str(path), "--batch", batch)

    def look(self, *arguments: str) -> float:
        """Median seconds of a command from its start to its end."""
        return statistics.median(run(self.env, *arguments).seconds for _ in range(LOOKS))

    def redis_once_there(self) -> Redis:
        """A connection to this home's server, which a worker is starting or has started."""
        note = self.home / "redis" / "socket-path"
        wait(note.exists, most_s=START_MAX_S)
        return Redis.from_url(f"unix://{note.read_text(encoding='utf-8')}", socket_timeout=5)

    def ledger(self) -> Ledger:
        """The ledger beside the processes."""
        return Ledger(sqlite_url(Settings.load(env=self.env).ledger_path))


def done(ledger: Ledger) -> int:
    """Documents that are done."""
    with ledger.snapshot() as connection:
        return state_counts(connection, None)[DocumentState.DONE]


def wait(condition: Callable[[], bool], *, most_s: float) -> float:
    """Seconds until it holds. Raises SystemExit when it does not in time."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > most_s:
            raise SystemExit(f"void: not within {most_s:g} s")
        time.sleep(POLL_S)
    return time.monotonic() - began_s


def solo(folder: Path, base_url: str) -> float:
    """How long a batch of ten takes alone, its worker running already."""
    backlog = Backlog(folder, base_url)
    run(backlog.env, "submit", JOB, str(backlog.write(1, seed=7)), "--batch", "first")
    ledger = backlog.ledger()
    with worker(backlog.env):
        wait(lambda: done(ledger) == 1, most_s=60)
        seconds = _small_batch(backlog, ledger)
    ledger.close()
    return seconds


def _small_batch(backlog: Backlog, ledger: Ledger) -> float:
    """From the submission of ten documents to the last of them."""
    path = backlog.write(SMALL, seed=9)
    began_s = time.monotonic()
    backlog.submit(path, "small")
    wait(lambda: _is_done(ledger, "small"), most_s=600)
    return time.monotonic() - began_s


def _is_done(ledger: Ledger, name: str) -> bool:
    with ledger.snapshot() as connection:
        batch = find_batch(connection, name)
        assert batch is not None
        return batch_standing(connection, batch).states[DocumentState.DONE] == SMALL


def measure(documents: int, folder: Path, base_url: str) -> dict[str, float]:
    """All figures of one backlog."""
    backlog = Backlog(folder, base_url)
    figures = backlog.figures
    tenth = Backlog(folder / "tenth", base_url)
    tenth.folder.mkdir()
    figures["submitter of a tenth, peak MB"] = tenth.submit(
        tenth.write(documents // 10), "tenth"
    ).peak_mb
    began_s = time.monotonic()
    path = backlog.write(documents)
    figures["rows generated/s"] = documents / (time.monotonic() - began_s)
    submitted = backlog.submit(path, "backlog")
    path.unlink()
    figures["submitted/s"] = documents / submitted.seconds
    figures["submitter, peak MB"] = submitted.peak_mb
    figures["status, s"] = backlog.look("status")
    figures["status BATCH, s"] = backlog.look("status", "backlog")
    figures["batch list, s"] = backlog.look("batch", "list")
    figures["dead list, s"] = backlog.look("dead", "list")
    ledger = backlog.ledger()
    with worker(backlog.env) as process:
        _watch(backlog, ledger)
        figures["batch of ten behind it, s"] = _small_batch(backlog, ledger)
        _lose_redis(backlog, ledger)
        figures["worker, peak MB"] = _peak_mb(process)
        figures["status while it works, s"] = backlog.look("status")
    ledger.close()
    ended = tenth.ledger()
    with worker(tenth.env) as process:
        wait(lambda: done(ended) >= SLOTS, most_s=60)
        time.sleep(WORK_S)
        figures["worker of a tenth, peak MB"] = _peak_mb(process)
    ended.close()
    return figures


def _watch(backlog: Backlog, ledger: Ledger) -> None:
    wait(lambda: done(ledger) > 0, most_s=60)
    before, began_s = done(ledger), time.monotonic()
    time.sleep(WORK_S)
    backlog.figures["done/s"] = (done(ledger) - before) / (time.monotonic() - began_s)
    with backlog.redis_once_there() as redis:
        backlog.figures["Redis, MB"] = redis.info("memory")["used_memory_peak"] / MB
        backlog.figures["ids on the road"] = sum(
            redis.zcard(key) for key in redis.scan_iter("arq:queue:*", _type="zset")
        )


def _lose_redis(backlog: Backlog, ledger: Ledger) -> None:
    """Empty it, then kill it and remove its files: seconds until documents end as before."""
    enough = 3 * SLOTS  # more than was in the slots when it happened
    with backlog.redis_once_there() as redis:
        redis.flushall()
    backlog.figures["at work after FLUSHALL, s"] = _back(ledger, enough)
    noted = json.loads((backlog.home / "redis" / "server.pid").read_text(encoding="utf-8"))
    os.kill(noted["pid"], signal.SIGKILL)
    for file in (backlog.home / "redis" / "appendonlydir").iterdir():
        file.unlink()
    backlog.figures["at work after it was lost, s"] = _back(ledger, enough)


def _back(ledger: Ledger, enough: int) -> float:
    before = done(ledger)
    return wait(lambda: done(ledger) >= before + enough, most_s=BACK_MAX_S)


def _peak_mb(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MB
    raise SystemExit("the worker is gone")


def show(documents: int, figures: Mapping[str, float]) -> None:
    """A table for people."""
    table = Table(f"a backlog of {documents:,} documents", "")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.0f}" if value >= 100 else f"{value:.2f}")  # noqa: PLR2004
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="backlog-") as folder,
        ProviderProcess(latency_ms=LATENCY_MS) as provider,
    ):
        alone = Path(folder) / "solo"
        alone.mkdir()
        figures = {"batch of ten alone, s": solo(alone, provider.base_url)}
        whole = Path(folder) / "whole"
        whole.mkdir()
        figures |= measure(options.documents, whole, provider.base_url)
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        show(options.documents, figures)


if __name__ == "__main__":
    main()
