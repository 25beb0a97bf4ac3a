"""Benchmark: full-text search over a call log, and what keeping its index costs those who write.

A ledger is filled with generated invoices, each answered once. Its index is built, asked by common
and rare words with and without filters, and lists are asked with the same filters. Then documents
are taken through a ledger with a long unindexed history as fast as it goes, in turn with and
without the worker's task that indexes, in many short rounds.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runner.batches import Request, plan, submit
from runner.ledger import Ledger
from runner.ledger.audit import audit
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.ledger.engine import sqlite_url
from runner.ledger.space import empty_log
from runner.loaders import from_iterable
from runner.pinned import PinnedJobs
from runner.search.keeper import SearchKeeper
from runner.search.search import catch_up, lag, search
from runner.search.store import FILE, open_store
from runner.testing.documents import generate_documents
from scripts.benchmarks.calls import GAP_US, START_US, answer_to, fill
from scripts.benchmarks.homes import environment
from scripts.benchmarks.pairs import ORDER, Paired
from scripts.benchmarks.turns import Turns

ASKED = 5  # times each
NEVER_S = 1e6
LOOK_S = 0.02
SLOTS = 100
MB = 1_000_000
COMMANDS = ("calls search payment", "calls list --min-cost-usd 1", "report", "status")

WORDS = {
    "rare word": "Fjällräven",
    "common word": "payment",
    "two common words": "payment goods",
    "phrase in every text": '"payment is due without"',
    "number": "1042.50",
    "beginning of a word": "inv*",
    "short beginning": "co*",
    "error message": "valid decimal",
    "source name": "invoices",
    "no such word": "zzyzx",
}


def filters_of(attempts: int) -> dict[str, CallFilter]:
    """Filters that few and that many calls meet, and one that none does."""
    end_us = START_US + attempts * GAP_US
    return {
        "no filter": CallFilter(),
        "job, fault, prompt": CallFilter(job="invoice", fault="schema_invalid", prompt="v2"),
        "last hour": CallFilter(since_us=end_us - 3_600 * 1_000_000),
        "first hour": CallFilter(until_us=START_US + 3_600 * 1_000_000),
        "dear ones": CallFilter(min_cost_nusd=10**9),
        "another fault": CallFilter(fault="refused"),
    }


def median_s(action: Callable[[], object]) -> float:
    """Of a few times."""
    took = []
    for _ in range(ASKED):
        began_s = time.perf_counter()
        action()
        took.append(time.perf_counter() - began_s)
    return statistics.median(took)


def build(ledger: Ledger, home: Path, attempts: int) -> None:
    """Build the index and print its time and size."""
    store = open_store(home)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    catch_up(store, ledger, most_s=NEVER_S)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    store.close()
    empty_log(ledger)
    size, of_ledger = ((home / name).stat().st_size for name in (FILE, "ledger.db"))
    print(
        f"index: {took_s / attempts * 1e6:.0f} µs a call ({cpu_s / attempts * 1e6:.0f} of CPU), "
        f"{size / attempts:.0f} bytes a document, {size / MB:.0f} MB beside a ledger of "
        f"{of_ledger / MB:.0f} MB"
    )


def ask(ledger: Ledger, home: Path, attempts: int) -> None:
    """Search and list, and print what takes longest of each."""
    print(f"{'search, ms':24}" + "".join(f"{name:>20}" for name in filters_of(attempts)))
    worst = 0.0
    for name, words in WORDS.items():
        took = [
            median_s(lambda: search(ledger, home, words, wanted))  # noqa: B023 - called at once
            for wanted in filters_of(attempts).values()
        ]
        print(f"{name:24}" + "".join(f"{one * 1000:>20.0f}" for one in took))
        worst = max(worst, *took)
    print(f"slowest search: {worst * 1000:.0f} ms (median of {ASKED})")
    lists = [
        median_s(lambda: _list(ledger, wanted))  # noqa: B023 - called at once
        for wanted in filters_of(attempts).values()
    ]
    print(f"{'calls list, ms':24}" + "".join(f"{one * 1000:>20.0f}" for one in lists))


def _list(ledger: Ledger, wanted: CallFilter) -> None:
    with ledger.snapshot() as connection:
        list_calls(connection, wanted)


def command_s(home: Path, command: str) -> tuple[float, float]:
    """A whole command, from start to end: seconds, and of processor time."""
    env = environment(home, "http://127.0.0.1:9")
    argv = [sys.executable, "-m", "runner.cli", *command.split()]
    before = os.times()
    took_s = median_s(
        lambda: subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    )
    after = os.times()
    used_s = after.children_user + after.children_system
    return took_s, (used_s - before.children_user - before.children_system) / ASKED


@dataclass(frozen=True, slots=True)
class Writing:
    """One round of taking documents through the ledger."""

    wall_s: float
    cpu_s: float

    def __add__(self, other: "Writing") -> "Writing":
        return Writing(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


class Switch:
    """Lets the indexing go on while it is on; in between, the rest after a bite stands still."""

    def __init__(self) -> None:
        self.is_on = False

    async def sleep(self, seconds: float) -> None:
        """So long, as far as it is on."""
        left_s, looked_s = seconds, time.perf_counter()
        while left_s > 0:
            await asyncio.sleep(min(LOOK_S, left_s))
            now_s = time.perf_counter()
            left_s -= now_s - looked_s if self.is_on else 0
            looked_s = now_s


async def write(turns: Turns, switch: Switch, *, indexing: bool) -> Writing:
    """Take what waits through the ledger, beside the indexing or not."""
    switch.is_on = indexing
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await turns.take_all()
    took = Writing(time.perf_counter() - began_s, time.process_time() - cpu_s)
    switch.is_on = False
    return took


@asynccontextmanager
async def indexing_beside(ledger: Ledger, home: Path) -> AsyncIterator[Switch]:
    """The task of a worker that leads, for as long as this lasts."""
    switch = Switch()
    keeper = SearchKeeper(
        ledger, home, leads=lambda: True, is_quiet=lambda: False, sleep=switch.sleep
    )
    task = asyncio.create_task(keeper.run())
    try:
        yield switch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def compare_writing(home: Path, *, history: int, documents: int, rounds: int) -> None:
    """Print how much longer writing takes while an index is built beside it."""
    ledger = Ledger(sqlite_url(home / "ledger.db"))
    fill(ledger, history, seed=2)
    turns = Turns(
        ledger,
        slots=SLOTS,
        answer_to=lambda work: answer_to({"id": work.ticket.document_id}, work.ticket.turn),
    )
    store = open_store(home)
    pairs: list[tuple[Writing, Writing]] = []
    async with indexing_beside(ledger, home) as switch:
        submit_round(ledger, "warm", documents)
        await write(turns, switch, indexing=True)
        behind = lag(store, ledger)
        for number in range(rounds):
            took = {False: Writing(0, 0), True: Writing(0, 0)}
            for part, indexing in enumerate(ORDER):
                submit_round(ledger, f"{number}-{part}", documents)
                took[indexing] += await write(turns, switch, indexing=indexing)
            pairs.append((took[True], took[False]))
    taken = behind + 4 * documents * rounds - lag(store, ledger)
    beside_s = sum(beside.wall_s for beside, _ in pairs)
    # rounds in which no bite was due count here as well
    cpu = sum(one.cpu_s for one, _ in pairs) / sum(one.cpu_s for _, one in pairs)
    alone = 2 * documents / statistics.median(without.wall_s for _, without in pairs)
    print(
        f"writing: {alone:.0f} documents/s alone; beside indexing ({taken / beside_s:.0f} calls/s) "
        "it takes\n"
        f"  {Paired.of([beside.wall_s / without.wall_s for beside, without in pairs])} as long\n"
        f"  {Paired.of([beside.cpu_s / without.cpu_s for beside, without in pairs])} of the CPU,"
        f" {cpu:.3f} of all rounds together"
    )
    store.close()
    ledger.close()


def submit_round(ledger: Ledger, name: str, documents: int) -> None:
    """So many new documents, in a batch of this name."""
    planned, _ = plan(Request(job="invoice", batch=name), PinnedJobs(()))
    texts = generate_documents(documents, seed=sum(name.encode()), size="small")
    submit(ledger, planned, from_iterable(texts))


def main() -> None:
    """Fill, build, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=200_000)
    parser.add_argument("--documents", type=int, default=2_000, help="written each time")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--writing-only", action="store_true", help="no search, no lists")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        if not options.writing_only:
            time_searches(Path(folder) / "search", options.attempts)
        asyncio.run(
            compare_writing(
                Path(folder) / "writing",
                history=min(20_000, options.attempts),
                documents=options.documents,
                rounds=options.rounds,
            )
        )


def time_searches(home: Path, attempts: int) -> None:
    """Fill a ledger, index it, and ask it."""
    ledger = Ledger(sqlite_url(home / "ledger.db"))
    fill(ledger, attempts, seed=1)
    with ledger.snapshot() as connection:
        problems = audit(connection).problems
    if problems:
        raise SystemExit(f"void: {problems}")
    print(f"{attempts:,} calls of documents of about 1.5 kB")
    build(ledger, home, attempts)
    ask(ledger, home, attempts)
    for command in COMMANDS:
        took_s, cpu_s = command_s(home, command)
        print(f"`runner {command}` as a command: {took_s:.2f} s, {cpu_s:.2f} of CPU")
    ledger.close()


if __name__ == "__main__":
    main()
