"""A long backlog costs little memory anywhere, is looked at by index, and expires nowhere."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.ledger.deadletters import DeadFilter, group_dead, list_dead
from runner.ledger.feeding import Feed, feed, orphans, ready_tickets
from runner.ledger.standing import (
    all_batches,
    batch_standing,
    has_open_documents,
    queue_standing,
)
from runner.model import DocumentState
from runner.testing.control import ProviderProcess
from scripts.benchmarks.backlog import SLOTS, Backlog, done, wait, worker
from tests.ledgers import POSTGRES_URL, World, open_world
from tests.roads import Road, assert_three_histories_agree, wait_until

FLAT_MB = 25.0


@pytest.mark.slow
def test_ten_times_the_documents_take_no_more_memory(
    tmp_path: Path, provider: ProviderProcess
) -> None:
    backlog = Backlog(tmp_path, provider.base_url)
    few = backlog.submit(backlog.write(2_000), "few").peak_mb
    many = backlog.submit(backlog.write(20_000, seed=2), "many").peak_mb
    assert many - few < FLAT_MB
    ledger = backlog.ledger()
    with worker(backlog.env), backlog.redis_once_there() as redis:
        wait(lambda: done(ledger) > 2 * SLOTS, most_s=60)
        ids = sum(redis.zcard(key) for key in redis.scan_iter("arq:queue:*", _type="zset"))
        assert 0 < ids <= 4 * SLOTS, "a short window of the backlog is on the road"
        assert redis.info("memory")["used_memory_peak"] < 10e6
    ledger.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


LOOKS: dict[str, Callable[[Connection], object]] = {
    "the queue": lambda connection: queue_standing(connection, now_us=1),
    "batches": lambda connection: [
        batch_standing(connection, one) for one in all_batches(connection, limit=20)
    ],
    "what is open": lambda connection: has_open_documents(connection, now_us=1),
    "feeding": lambda connection: feed(connection, [Feed(worker_id="w", window=9, now_us=1)]),
    "ready ones": ready_tickets,
    "orphans": lambda connection: orphans(connection, now_us=1),
    "dead letters": lambda connection: list_dead(connection, DeadFilter()),
    "groups of them": lambda connection: group_dead(connection, DeadFilter()),
    "calls": lambda connection: list_calls(connection, CallFilter()),
}


@pytest.mark.skipif(POSTGRES_URL is not None, reason="SQLite's own words")
@pytest.mark.parametrize("name", LOOKS)
def test_no_look_at_the_ledger_scans_all_documents_or_calls(world: World, name: str) -> None:
    world.add(world.batch(), *(f"text {number}" for number in range(50)))
    world.turn(world.worker())
    asked: list[tuple[str, object]] = []
    with world.ledger.transaction() as connection:
        event.listen(
            connection,
            "before_cursor_execute",
            lambda *about: asked.append((about[2], about[3])),
        )
        LOOKS[name](connection)
        read = [(text, values) for text, values in asked if text.lstrip().startswith("SELECT")]
        assert read
        for text, values in read:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)  # type: ignore[arg-type] # as the driver had them
            for step in plan:
                sums = name in ("the queue", "batches") and "count(" in text
                assert _is_cheap(step.detail, sums=sums), (text, step.detail)


def _is_cheap(step: str, *, sums: bool) -> bool:
    """Whether a step reads few rows, or counts by entries of an index alone."""
    verb, table, *_ = step.split()
    if table not in ("document", "attempt", "source"):
        return True
    if verb == "SCAN":  # all states at once, or the newest calls by their ids
        return step in (
            "SCAN document USING COVERING INDEX document_by_state",
            "SCAN attempt USING INDEX sqlite_autoindex_attempt_1",
        )
    return "COVERING INDEX" in step or not sums


def test_documents_whose_ids_have_expired_on_the_road_are_done_all_the_same(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=100)
    inputs = road.write_documents(60)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    first = road.start("work", "--concurrency", "2", "--until-empty")
    wait_until(lambda: len(provider.book()) >= 6, what="some calls")
    with Backlog(road.folder, provider.base_url).redis_once_there() as redis:
        for _ in range(10):
            payloads = list(redis.scan_iter("arq:job:*"))
            if payloads:
                redis.delete(*payloads)
            time.sleep(0.1)
    assert first.wait(timeout=100) == 0
    assert road.counts()[DocumentState.DONE] == len(provider.book()) == 60
    assert_three_histories_agree(road, provider, submitted=60)
