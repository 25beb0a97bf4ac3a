"""Benchmark: the dashboard over a long history, and what an open one costs those who write.

A ledger is filled with a history of calls, a part of it dead letters in some groups and records
that wait for a person. A real `runner web` process is asked for each of its pages. Then documents
are taken through the same ledger as fast as it goes, in many short rounds, in turn without the
dashboard and with one that somebody looks at: its plots, and its parts that are renewed every five
seconds.
"""

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psutil
from sqlalchemy import String, cast, select, update

from runner.batches import Request, plan, submit
from runner.ledger import Ledger
from runner.ledger.deadletters import DeadFilter, group_dead
from runner.ledger.engine import sqlite_url
from runner.ledger.tables import attempt, batch, document
from runner.loaders import from_iterable
from runner.model import DocumentState
from runner.pinned import PinnedJobs
from runner.search.search import catch_up
from runner.search.store import open_store
from runner.testing.documents import generate_documents
from scripts.benchmarks.calls import answer_to, fill
from scripts.benchmarks.homes import environment
from scripts.benchmarks.pairs import Paired
from scripts.benchmarks.turns import Turns

COMMAND = (sys.executable, "-m", "runner.cli")
ASKED = 7  # times each page
GROUPS = 30
IN_REVIEW_EACH = 40  # one document of so many
FRESH_S = 5.0
NEVER_S = 1e6
SLOTS = 100


def age(ledger: Ledger) -> None:
    """Put the dead letters into groups, and a part of the records into review."""
    group = document.c.position % GROUPS
    with ledger.transaction() as connection:
        connection.execute(
            update(document)
            .where(document.c.state == DocumentState.DEAD)
            .values(signature="schema_invalid: total: group " + cast(group, String))
        )
        connection.execute(
            update(document)
            .where(
                document.c.state == DocumentState.DONE, document.c.position % IN_REVIEW_EACH == 0
            )
            .values(state=DocumentState.REVIEW, reason="check_failed", message="the sum differs")
        )


@dataclass(frozen=True)
class Board:
    """A running dashboard, and somebody who has signed in."""

    process: subprocess.Popen[str]
    port: int
    token: str

    def get(self, path: str) -> float:
        """Seconds for a page. Raises SystemExit when it is none."""
        began_s = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/html"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != http.client.OK:
            raise SystemExit(f"void: {path} gave {answer.status}")
        return time.perf_counter() - began_s

    def watch(self, until: threading.Event) -> None:
        """Look at the overview as a browser does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/live", headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        while not until.wait(FRESH_S):
            self.get("/")
            answer.read1(65_536)
        connection.close()

    def cpu_s(self) -> float:
        """Processor time so far."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)


@contextmanager
def board(env: Mapping[str, str]) -> Iterator[Board]:
    """A dashboard of this home."""
    process = subprocess.Popen(  # noqa: S603 - our own command line
        [*COMMAND, "web", "--port", "0", "--json"],
        env=dict(env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    try:
        yield Board(process, told["port"], told["url"].partition("token=")[2])
    finally:
        process.terminate()
        process.wait()


def pages_of(ledger: Ledger) -> dict[str, str]:
    """Each kind of page, with something to show."""
    with ledger.snapshot() as connection:
        ids = select(document.c.id, document.c.batch_id)
        dead, batch_id = connection.execute(
            ids.where(document.c.state == DocumentState.DEAD).limit(1)
        ).one()
        review = connection.execute(
            ids.join(batch, batch.c.id == document.c.batch_id)
            .where(document.c.state == DocumentState.REVIEW)
            .limit(1)
        ).one()
        call = connection.execute(select(attempt.c.id).limit(1)).scalar_one()
        group = group_dead(connection, DeadFilter())[0]
    in_group = urlencode({"signature": group.signature, "reason": group.reason})
    return {
        "overview": "/",
        "batches": "/batches",
        "a batch": f"/batches/{batch_id}",
        "dead letters": "/dead",
        "dead, by words": "/dead?grep=decimal",
        "a group": f"/dead/letters?{in_group}",
        "all, 5th page": "/dead/letters?page=5",
        "price of a group": f"/dead/retry?{in_group}",
        "a dead letter": f"/documents/{dead}",
        "review queue": "/review",
        "a review": f"/review/{review.id}",
        "calls": "/calls",
        "calls, by fault": "/calls?fault=schema_invalid",
        "calls, no such": "/calls?fault=refused",
        "calls, of a batch": f"/calls?batch={batch_id}",
        "search, common": "/calls?words=payment",
        "search, rare": "/calls?words=Fj%C3%A4llr%C3%A4ven",
        "a call": f"/calls/{call}",
        "evaluations": "/evaluations",
        "prompts": "/prompts",
        "a job's prompt": "/prompts/invoice",
    }


def time_pages(found: Board, pages: Mapping[str, str]) -> float:
    """Print the median and the slowest of each page; the slowest median."""
    medians = []
    for name, path in pages.items():
        found.get(path)
        took = sorted(found.get(path) for _ in range(ASKED))
        medians.append(statistics.median(took))
        print(f"{name:20} {medians[-1] * 1000:7.0f} ms, at most {took[-1] * 1000:.0f}")
    return max(medians)


async def write(ledger: Ledger, turns: Turns, name: str, documents: int) -> float:
    """Seconds to take so many new documents through one turn."""
    planned, _ = plan(Request(job="invoice", batch=name), PinnedJobs(()))
    texts = generate_documents(documents, seed=sum(name.encode()), size="small")
    submit(ledger, planned, from_iterable(texts))
    began_s = time.perf_counter()
    await turns.take_all()
    return time.perf_counter() - began_s


async def compare_writing(
    ledger: Ledger, env: Mapping[str, str], *, documents: int, rounds: int
) -> None:
    """Print how much longer writing takes while somebody looks at the dashboard."""
    turns = Turns(
        ledger,
        slots=SLOTS,
        answer_to=lambda work: answer_to({"id": work.ticket.document_id}, work.ticket.turn),
    )
    await write(ledger, turns, "warm", documents)
    ratios, shares = [], []
    for number in range(rounds):
        alone_s = await write(ledger, turns, f"{number}-0", documents)
        beside_s = 0.0
        with board(env) as found, watched(found):
            await asyncio.sleep(2)  # its first look reads the past hour
            before_s = found.cpu_s()
            for part in (1, 2):
                beside_s += await write(ledger, turns, f"{number}-{part}", documents)
            shares.append((found.cpu_s() - before_s) / beside_s)
        alone_s += await write(ledger, turns, f"{number}-3", documents)
        ratios.append(beside_s / alone_s)
    print(
        f"while it is looked at, writing takes {Paired.of(ratios)} as long; the dashboard uses "
        f"{100 * statistics.median(shares):.1f} % of a processor"
    )


@contextmanager
def watched(found: Board) -> Iterator[None]:
    """Somebody looks at the overview."""
    until = threading.Event()
    watching = threading.Thread(target=found.watch, args=(until,))
    watching.start()
    try:
        yield
    finally:
        until.set()
        watching.join()


def main() -> None:
    """Fill, look, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=200_000)
    parser.add_argument("--documents", type=int, default=2_000, help="written each time")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        home = Path(folder) / "home"
        ledger = Ledger(sqlite_url(home / "ledger.db"))
        fill(ledger, options.attempts, seed=1)
        age(ledger)
        store = open_store(home)
        catch_up(store, ledger, most_s=NEVER_S)
        store.close()
        env = environment(home, "http://127.0.0.1:9")
        load = os.getloadavg()[0]
        print(f"{options.attempts:,} calls; {os.cpu_count()} processors, load {load:.1f}")
        with board(env) as found:
            slowest_s = time_pages(found, pages_of(ledger))
        print(f"the slowest page takes {slowest_s * 1000:.0f} ms")
        asyncio.run(
            compare_writing(ledger, env, documents=options.documents, rounds=options.rounds)
        )
        ledger.close()


if __name__ == "__main__":
    main()
