"""A real ledger with batches, workers and the steps of a turn, for tests to take one by one."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, select, text

from runner.keys import Ticket, new_id
from runner.lanes import Lane
from runner.ledger import Ledger
from runner.ledger.answers import Answer, store_answers
from runner.ledger.audit import audit
from runner.ledger.ends import Finish, Settlement
from runner.ledger.engine import MIGRATIONS, sqlite_url
from runner.ledger.feeding import Feed, feed
from runner.ledger.gate import Claim, Refusal, claim
from runner.ledger.keypauses import end_what_is_over
from runner.ledger.outcomes import finish
from runner.ledger.standing import batch_standing
from runner.ledger.submission import (
    Added,
    Batch,
    BatchPlan,
    add_documents,
    find_batch,
    name_documents,
    open_batch,
)
from runner.ledger.tables import attempt, budget, document
from runner.ledger.workers import WorkerRow, register, take_lead
from runner.model import (
    Again,
    AttemptState,
    Charge,
    Dead,
    DocumentState,
    Done,
    Failure,
    Fault,
    Outcome,
    RawAnswer,
    Review,
    SourceText,
)

POSTGRES_URL = os.environ.get("RUNNER_TEST_POSTGRES_URL")
START_US = 1_700_000_000_000_000
HOLD_NUSD = 1_000
COST_NUSD = 900

DONE = Done('{"a":1}')
TRANSIENT = Again(
    delay_s=0.0,
    charge=Charge.ATTEMPT,
    failure=Failure(Fault.SERVER_ERROR, "HTTP 500"),
    ladder_step=0,
)
DEFERRED = Again(
    delay_s=0.0,
    charge=Charge.DEFERRAL,
    failure=Failure(Fault.RATE_LIMITED, "HTTP 429"),
    ladder_step=0,
)
DEAD = Dead("bad_request", Failure(Fault.BAD_REQUEST, "HTTP 400: no"))
REVIEW = Review(
    "check_failed", Failure(Fault.CHECK_FAILED, "sum differs"), data_json='{"a":2}', flags=("sum",)
)


def lane_of(key: str = "one", model: str = "small") -> Lane:
    """The lane of a model with a key."""
    return Lane(
        id=f"n{key}{model}",
        key_id=f"y{key}",
        model=model,
        server="example.org",
        key_name=f"{key.upper()}_KEY",
    )


def plan_of(name: str, **changes: Any) -> BatchPlan:
    """A plan of a job that needs no files."""
    values: dict[str, Any] = {
        "name": name,
        "job": "invoice",
        "prompt_version": "v1",
        "prompt_id": "p1",
        "models": ("small", "large"),
    }
    return BatchPlan(**(values | changes))


def texts_of(*texts: str | None) -> list[SourceText]:
    """Sources named by the beginning of their text; None is an unparsable one."""
    return [
        SourceText(f"bad{place}", f"bytes {place}".encode(), None, "not a PDF")
        if one is None
        else SourceText(one[:60], one.encode(), one)
        for place, one in enumerate(texts)
    ]


@dataclass(frozen=True)
class Lease:
    """An admitted claim."""

    ticket: Ticket
    token: str
    attempt_id: str


@dataclass
class World:
    """One ledger and what happens in it, at a time that moves by itself."""

    ledger: Ledger
    now_us: int = START_US
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def tick(self) -> int:
        """A millisecond later."""
        self.now_us += 1_000
        return self.now_us

    def batch(self, name: str = "b", **changes: Any) -> Batch:
        """The batch of this name, begun when new."""
        with self.ledger.transaction() as connection:
            return open_batch(connection, plan_of(name, **changes), now_us=self.tick())

    def found(self, batch: Batch) -> Batch:
        """The batch as it is now."""
        with self.ledger.snapshot() as connection:
            found = find_batch(connection, batch.id)
        assert found is not None
        return found

    def add(self, batch: Batch, *texts: str | None, first_position: int = 0) -> None:
        """Add sources to a batch, see `texts_of`."""
        self.submit(batch, texts_of(*texts), first_position=first_position)

    def submit(
        self, batch: Batch, sources: Sequence[SourceText], *, first_position: int = 0
    ) -> Added:
        """Add sources to a batch in a transaction of their own."""
        with self.ledger.transaction() as connection:
            return add_documents(
                connection,
                batch.id,
                name_documents(batch.id, sources),
                first_position=first_position,
                now_us=self.tick(),
            )

    def worker(self, *, leads: bool = True, **changes: Any) -> WorkerRow:
        """Register a worker; the first one leads."""
        values: dict[str, Any] = {
            "id": f"w{next(self._numbers)}",
            "number": 0,
            "host": "here",
            "pid": 1,
            "process_started_s": 0,
            "state": "working",
            "beats": 0,
            "beat_us": self.tick(),
            "slots": 10,
            "in_flight": 0,
            "note": None,
        }
        with self.ledger.transaction() as connection:
            row = register(connection, WorkerRow(**(values | changes)))
            if leads:
                take_lead(connection, row.id, instead_of=None)
        return row

    def feed(self, worker: WorkerRow, *, window: int = 1_000) -> list[Ticket]:
        """Feed as this worker, if it leads."""
        with self.ledger.transaction() as connection:
            wish = Feed(worker_id=worker.id, window=window, now_us=self.tick())
            return feed(connection, [wish])[0]

    def wish(self, ticket: Ticket, worker: WorkerRow, **changes: Any) -> Claim:
        """A claim with a lease token and an attempt id of its own."""
        number = next(self._numbers)
        values: dict[str, Any] = {
            "ticket": ticket,
            "lease_token": f"l{number}",
            "worker_id": worker.id,
            "attempt_id": new_id("a", clock_s=lambda: self.now_us / 1e6),
            "model": "small",
            "prompt_id": "p1",
            "request_head": b"head",
            "request_tail": b"tail",
            "hold_nusd": HOLD_NUSD,
            "queue_wait_us": 0,
            "limiter_wait_us": 0,
            "now_us": self.tick(),
        }
        return Claim(**(values | changes))

    def claim_all(self, wishes: Sequence[Claim]) -> list[Refusal | None]:
        """Claim in one group."""
        with self.ledger.transaction() as connection:
            return claim(connection, wishes)

    def try_claim(self, ticket: Ticket, worker: WorkerRow, **changes: Any) -> Refusal | None:
        """The gate's answer to one claim."""
        return self.claim_all([self.wish(ticket, worker, **changes)])[0]

    def claim(self, ticket: Ticket, worker: WorkerRow, **changes: Any) -> Lease:
        """An admitted claim."""
        wish = self.wish(ticket, worker, **changes)
        assert self.claim_all([wish]) == [None]
        return Lease(ticket, wish.lease_token, wish.attempt_id)

    def store(self, lease: Lease, body: bytes = b"{}") -> bool:
        """Make an answer durable."""
        answer = Answer(
            attempt_id=lease.attempt_id,
            lease_token=lease.token,
            document_id=lease.ticket.document_id,
            answer=RawAnswer(200, body, {"date": "today"}, 7),
        )
        with self.ledger.transaction() as connection:
            return store_answers(connection, [answer])[0]

    def end(self, lease: Lease, outcome: Outcome = DONE, **settled: Any) -> Finish:
        """The end of a call that was paid, unless `settled` says otherwise."""
        values: dict[str, Any] = {
            "attempt_id": lease.attempt_id,
            "state": AttemptState.CONCLUDED,
            "cost_nusd": COST_NUSD,
        }
        return self.end_with(lease, outcome, Settlement(**(values | settled)))

    def end_with(self, lease: Lease, outcome: Outcome, settlement: Settlement | None) -> Finish:
        """The end of a turn with exactly this settlement."""
        return Finish(
            ticket=lease.ticket,
            outcome=outcome,
            signature="signature",
            now_us=self.tick(),
            lease_token=lease.token,
            settlement=settlement,
            model="small",
            prompt_id="p1",
        )

    def finish_all(self, ends: Sequence[Finish]) -> list[bool]:
        """Finish in one group."""
        with self.ledger.transaction() as connection:
            return finish(connection, ends)

    def finish(self, lease: Lease, outcome: Outcome = DONE, **settled: Any) -> bool:
        """Finish one turn, see `end`."""
        return self.finish_all([self.end(lease, outcome, **settled)])[0]

    def turn(self, worker: WorkerRow, outcome: Outcome = DONE, **settled: Any) -> list[Lease]:
        """Every waiting document through one whole turn with the same outcome."""
        leases = [self.claim(ticket, worker) for ticket in self.feed(worker)]
        for lease in leases:
            assert self.store(lease)
            assert self.finish(lease, outcome, **settled)
        return leases

    def row(self, document_id: str) -> Any:
        """A document's row."""
        with self.ledger.snapshot() as connection:
            return connection.execute(select(document).where(document.c.id == document_id)).one()

    def rows(self, batch: Batch) -> list[Any]:
        """The rows of a batch's documents in their order."""
        query = select(document).where(document.c.batch_id == batch.id)
        with self.ledger.snapshot() as connection:
            return list(connection.execute(query.order_by(document.c.position)))

    def attempt(self, attempt_id: str) -> Any:
        """An attempt's row."""
        with self.ledger.snapshot() as connection:
            return connection.execute(select(attempt).where(attempt.c.id == attempt_id)).one()

    def states(self, batch: Batch) -> dict[DocumentState, int]:
        """How many documents are in each state that has any."""
        with self.ledger.snapshot() as connection:
            standing = batch_standing(connection, batch)
        return {state: number for state, number in standing.states.items() if number}

    def money(self, batch: Batch) -> tuple[int, int, int]:
        """Held, settled and ambiguous nano-dollars."""
        with self.ledger.snapshot() as connection:
            found = batch_standing(connection, batch)
        return found.held_nusd, found.settled_nusd, found.ambiguous_nusd

    def money_of(self, scope: str) -> tuple[int, int, int]:
        """Held, settled and ambiguous nano-dollars of a scope; nothing where there is no row."""
        with self.ledger.snapshot() as connection:
            row = connection.execute(select(budget).where(budget.c.scope == scope)).first()
        return (0, 0, 0) if row is None else (row.held_nusd, row.settled_nusd, row.ambiguous_nusd)

    def end_what_is_over(self) -> list[Ticket]:
        """What the leader does every second about pauses."""
        with self.ledger.transaction() as connection:
            return end_what_is_over(connection, now_us=self.tick())

    def problems(self) -> tuple[str, ...]:
        """What the audit finds."""
        with self.ledger.snapshot() as connection:
            return audit(connection).problems

    def sql(self, statement: str, **values: Any) -> None:
        """What no part of the runner would do."""
        with self.ledger.transaction() as connection:
            connection.execute(text(statement), values)


@contextmanager
def ledger_url(folder: Path) -> Iterator[str]:
    """A new ledger's URL: SQLite, or a schema of its own where RUNNER_TEST_POSTGRES_URL is set."""
    if POSTGRES_URL is None:
        yield sqlite_url(folder / "home" / "ledger.db")
        return
    schema = f"test_{uuid4().hex}"
    engine = create_engine(POSTGRES_URL)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield f"{POSTGRES_URL}?options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@contextmanager
def made_ledger_url(folder: Path) -> Iterator[str]:
    """The URL of an empty ledger that need not be migrated any more, see `ledger_url`."""
    with ledger_url(folder) as url:
        if POSTGRES_URL is None:
            path = Path(str(make_url(url).database))
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.write_bytes(_empty_ledger())
        yield url


@cache
def _empty_ledger() -> bytes:
    """A SQLite ledger as its migrations make it: running them is half the time of a short test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        Ledger(sqlite_url(path)).close()
        return path.read_bytes()


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """A world that balances at its end."""
    with made_ledger_url(folder) as url:
        world = World(Ledger(url))
        try:
            yield world
            assert world.problems() == ()
        finally:
            world.ledger.close()


def write_as_before(now: Path, then: Path, *, revision: str) -> None:
    """A ledger's rows in a SQLite database of an earlier schema."""
    engine = create_engine(sqlite_url(then))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(then)) as raw, raw:
        raw.execute("ATTACH ? AS now", (str(now),))
        tables = raw.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table != "alembic_version":
                columns = ", ".join(
                    row[1] for row in raw.execute(f"PRAGMA main.table_info({table})")
                )
                raw.execute(f"DELETE FROM main.{table}")
                raw.execute(f"INSERT INTO main.{table} SELECT {columns} FROM now.{table}")
