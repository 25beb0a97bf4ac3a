"""Benchmark: what a document costs in CPU and time, beside a plain AsyncOpenAI + gather script.

The same generated invoices go to the same test provider, which answers at once, in turn by
- the runner: one worker process, ledger and Redis durable as in production;
- the plain script: AsyncOpenAI `.parse`, `asyncio.gather`, a semaphore; nothing is kept.
Then the runner's parts are measured apart: client, queue and ledger; the rest is what remains.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from runner.batches import Request, plan, submit
from runner.config import Settings
from runner.keys import Ticket, new_id
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.loaders import from_iterable
from runner.model import Call, RawAnswer
from runner.pinned import PinnedJobs
from runner.provider import OpenAIProvider
from runner.queue import Road
from runner.servers.valkey import use_valkey
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents
from scripts.benchmarks.homes import MODEL, check_all_done, environment, prepared, submit_all
from scripts.benchmarks.turns import Turns

SLOTS = 100
WORK = [sys.executable, "-m", "runner.cli", "work", "--until-empty"]


@dataclass(frozen=True)
class Figure:
    """What one way of doing all documents took."""

    cpu_s: float
    wall_s: float
    redis_cpu_s: float = 0.0


def run_runner(documents: list[tuple[str, str]], base_url: str, home: Path) -> Figure:
    """One worker process does a submitted batch; submission is not part of the figure."""
    env = environment(home, base_url)
    ledger = submit_all(documents, env)
    with use_valkey(home):
        redis = _server(home)
        redis_before = sum(redis.cpu_times()[:2])
        began_s = time.perf_counter()
        used = _child_cpu(
            [*WORK, "--concurrency", str(SLOTS)],
            env,
        )
        wall_s = time.perf_counter() - began_s
        redis_s = sum(redis.cpu_times()[:2]) - redis_before
    check_all_done(ledger, count=len(documents))
    ledger.close()
    return Figure(cpu_s=used, wall_s=wall_s, redis_cpu_s=redis_s)


def run_plain(documents: Path, base_url: str, home: Path) -> Figure:
    """The plain script in a process of its own."""
    began_s = time.perf_counter()
    used = _child_cpu(
        [sys.executable, "-m", "scripts.benchmarks.plain_gather", str(documents), str(SLOTS)],
        environment(home, base_url),
    )
    return Figure(cpu_s=used, wall_s=time.perf_counter() - began_s)


def _child_cpu(command: list[str], env: dict[str, str]) -> float:
    process = subprocess.Popen(command, env=env)  # noqa: S603 - our own command line
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{command}: exit {os.waitstatus_to_exitcode(status)}")
    process.returncode = 0
    return float(usage.ru_utime + usage.ru_stime)


def _server(home: Path) -> psutil.Process:
    found = json.loads((home / "redis" / "server.pid").read_text(encoding="utf-8"))
    return psutil.Process(found["pid"])


def measure_start(home: Path, base_url: str) -> float:
    """CPU seconds of a worker that finds nothing to do: interpreter, imports, ledger."""
    return _child_cpu(WORK, environment(home, base_url))


async def measure_client(bodies: list[bytes], base_url: str, home: Path) -> float:
    """CPU seconds of sending every request, and nothing else."""
    env = environment(home, base_url)
    provider = OpenAIProvider(Settings.load(env=env), env=env)
    gate = asyncio.Semaphore(SLOTS)

    async def one(body: bytes) -> None:
        async with gate:
            answer = await provider.call(Call(new_id("a"), MODEL, body, 60))
            assert isinstance(answer, RawAnswer)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(body) for body in bodies))

    used = await _cpu_of(all_of_them)
    await provider.aclose()
    return used


async def measure_queue(count: int, home: Path) -> float:
    """CPU seconds of taking every id from the road and doing nothing with it."""
    with use_valkey(home) as server:
        road = Road(server.url, ledger_id="bench")
        done = asyncio.Event()
        left = count

        async def nothing(ticket: Ticket) -> None:
            nonlocal left
            road.hold(ticket, number=1)
            left -= 1
            if left == 0:
                done.set()

        async def all_of_them() -> None:
            for start in range(0, count, 2 * SLOTS):
                some = range(start, min(count, start + 2 * SLOTS))
                await road.push([Ticket(f"d{number}", 1) for number in some])
            worker = road.make_worker(nothing, slots=SLOTS)
            working = asyncio.create_task(worker.async_run())
            await done.wait()
            await asyncio.sleep(0.1)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        used = await _cpu_of(all_of_them)
        await road.close()
    return used


async def measure_ledger(documents: list[tuple[str, str]], home: Path) -> float:
    """CPU seconds of taking every document through the ledger, with a ready answer."""
    ledger = Ledger(sqlite_url(home / "ledger.db"))
    planned, _ = plan(Request(job="invoice", batch="bench"), PinnedJobs(()))
    submit(ledger, planned, from_iterable(documents))
    body = random.Random(1).randbytes(300).hex()  # noqa: S311 - filling, no secret
    turns = Turns(
        ledger,
        slots=SLOTS,
        answer_to=lambda work: f"{body}{work.ticket.document_id}".encode(),
    )

    async def all_of_them() -> None:
        assert await turns.take_all() == len(documents)

    used = await _cpu_of(all_of_them)
    ledger.close()
    return used


async def _cpu_of(action: Callable[[], Awaitable[None]]) -> float:
    before = time.process_time()
    await action()
    return time.process_time() - before


def main() -> None:
    """Run both ways in turn, the parts apart, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    documents = list(generate_documents(options.documents, seed=1, size="small"))
    runner, plain = [], []
    with tempfile.TemporaryDirectory(prefix="bench") as folder, ProviderProcess() as server:
        root = Path(folder)
        file = root / "documents.json"
        file.write_text(json.dumps(documents), encoding="utf-8")
        for number in range(options.rounds):
            runner.append(run_runner(documents, server.base_url, root / f"r{number}"))
            plain.append(run_plain(file, server.base_url, root / f"p{number}"))
        parts = {
            "start": measure_start(root / "start", server.base_url),
            "client": asyncio.run(
                measure_client(
                    [call.body for call in prepared(documents)], server.base_url, root / "client"
                )
            ),
            "queue": asyncio.run(measure_queue(len(documents), root / "queue")),
            "ledger": asyncio.run(measure_ledger(documents, root / "l")),
        }
    print_table(options.documents, runner, plain, parts)


def print_table(
    count: int, runner: list[Figure], plain: list[Figure], parts: dict[str, float]
) -> None:
    """Print medians and the ratio of the pairs."""

    def median(figures: list[Figure], name: str) -> float:
        return float(statistics.median(getattr(figure, name) for figure in figures))

    print(f"{count} documents of about 1.5 kB, provider answers at once, {len(runner)} rounds")
    print(f"{'':14}{'CPU s/1,000':>14}{'documents/s':>14}{'Redis CPU s/1,000':>20}")
    for name, figures in (("runner", runner), ("plain gather", plain)):
        cpu = median(figures, "cpu_s") / count * 1000
        redis = median(figures, "redis_cpu_s") / count * 1000
        print(f"{name:14}{cpu:>14.2f}{count / median(figures, 'wall_s'):>14.0f}{redis:>20.2f}")
    cpu_ratio = statistics.median(
        one.cpu_s / other.cpu_s for one, other in zip(runner, plain, strict=True)
    )
    wall_ratio = statistics.median(
        other.wall_s / one.wall_s for one, other in zip(runner, plain, strict=True)
    )
    print(f"runner / plain: CPU {cpu_ratio:.2f}, documents/s {wall_ratio:.2f} (median of pairs)")
    whole = median(runner, "cpu_s")
    rest = whole - sum(parts.values())
    shown = ", ".join(
        f"{name} {seconds / count * 1000:.2f}" for name, seconds in (parts | {"rest": rest}).items()
    )
    print(f"where the runner's CPU goes, s/1,000 (parts measured apart): {shown}")


if __name__ == "__main__":
    main()
