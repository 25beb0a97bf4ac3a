"""Dead letters: filtered, grouped, retried once however many ask, purged; never lost."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from runner.ledger.control import cancel_batch
from runner.ledger.deadletters import (
    DeadFilter,
    Pins,
    group_dead,
    list_dead,
    purge_dead,
    retry_dead,
)
from runner.ledger.tables import event
from runner.ledger.work import load
from runner.model import Dead, DocumentState, Failure, Fault, History
from tests.ledgers import COST_NUSD, DEAD, TRANSIENT, World, open_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def dead(world: World, name: str, messages: dict[str, str]) -> None:
    """A batch whose documents died, each with its own message."""
    batch, me = world.batch(name), world.worker(leads=False)
    world.sql("DELETE FROM leader")
    world.sql("INSERT INTO leader (role, worker_id) VALUES ('feeder', :me)", me=me.id)
    world.add(batch, *messages)
    for ticket, message in zip(world.feed(me), messages.values(), strict=True):
        lease = world.claim(ticket, me)
        end = world.end(lease, Dead("bad_request", Failure(Fault.BAD_REQUEST, message)))
        assert world.finish_all([replace(end, signature=message.split()[0])]) == [True]


def sources(world: World, wanted: DeadFilter) -> list[str]:
    with world.ledger.snapshot() as connection:
        return [letter.source for letter in list_dead(connection, wanted)]


def retry(world: World, ids: list[str], pins: Pins | None = None) -> list[str]:
    with world.ledger.transaction() as connection:
        return retry_dead(connection, ids, pins=pins, now_us=world.tick())


def dead_ids(world: World) -> list[str]:
    with world.ledger.snapshot() as connection:
        return [letter.document_id for letter in list_dead(connection, DeadFilter())]


def test_the_newest_come_first_with_all_that_explains_them(world: World) -> None:
    dead(world, "b", {"one": "HTTP 400", "two": "HTTP 422"})
    with world.ledger.snapshot() as connection:
        letters = list_dead(connection, DeadFilter(limit=1))
    assert [letter.source for letter in letters] == ["two"]
    letter = letters[0]
    assert (letter.batch_name, letter.job, letter.reason, letter.message) == (
        "b",
        "invoice",
        "bad_request",
        "HTTP 422",
    )
    assert (letter.calls, letter.cost_nusd, letter.text_bytes, letter.has_text) == (
        1,
        COST_NUSD,
        3,
        True,
    )


def test_each_filter_narrows_and_filters_add_up(world: World) -> None:
    dead(world, "b", {"one": "HTTP 400: Über 100% of it", "two": "HTTP 400: a_b"})
    dead(world, "c", {"three": "HTTP 422: no"})
    world.add(world.batch("c"), None, first_position=1)
    b, c = world.batch("b"), world.batch("c")
    last_us = max(row.finished_us for row in world.rows(b))
    assert sources(world, DeadFilter(batch_id=b.id)) == ["two", "one"]
    assert sources(world, DeadFilter(reason="unparsable")) == ["bad0"]
    assert sources(world, DeadFilter(since_us=last_us)) == ["bad0", "three", "two"]
    assert sources(world, DeadFilter(grep="http 4", batch_id=c.id)) == ["three"]
    assert sources(world, DeadFilter(document_ids=(world.rows(b)[0].id,))) == ["one"]


@pytest.mark.parametrize(
    ("grep", "found"),
    [("100%", ["one"]), ("%", ["one"]), ("a_b", ["two"]), ("_", ["two"]), ("\\", []), ("'", [])],
)
def test_wildcards_of_sql_are_literal_in_a_search(
    world: World, grep: str, found: list[str]
) -> None:
    dead(world, "b", {"one": "about 100% of it", "two": "a_b", "three": "axb"})
    assert sources(world, DeadFilter(grep=grep)) == found


def test_dead_letters_are_grouped_by_signature_the_largest_group_first(world: World) -> None:
    dead(world, "b", {"one": "refused x", "two": "long a", "three": "long b"})
    with world.ledger.snapshot() as connection:
        groups = group_dead(connection, DeadFilter())
    assert [(group.signature, group.documents) for group in groups] == [("long", 2), ("refused", 1)]


def test_a_retry_begins_a_new_life_and_keeps_calls_and_cost(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    world.turn(me, replace(TRANSIENT, ladder_step=1, output_doubled=True))
    world.turn(me, DEAD)
    (id_,) = dead_ids(world)
    assert retry(world, [id_]) == [id_]
    row = world.row(id_)
    assert (row.state, row.calls, row.cost_nusd, row.finished_us) == (
        DocumentState.QUEUED,
        2,
        2 * COST_NUSD,
        None,
    )
    (ticket,) = world.feed(me)
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [ticket])
        kinds = list(connection.execute(select(event.c.kind, event.c.document_id)))
    assert work is not None
    assert work.history == History()
    assert ("dead_retried", id_) in [tuple(kind) for kind in kinds]


def test_a_retry_with_pins_runs_with_these(world: World) -> None:
    dead(world, "b", {"one": "no"})
    me = world.worker(leads=False)
    world.sql("UPDATE leader SET worker_id = :me", me=me.id)
    retry(world, dead_ids(world), Pins(prompt_version="v2", prompt_id="p2", models=("huge",)))
    (ticket,) = world.feed(me)
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [ticket])
    assert work is not None
    assert (work.prompt_version, work.prompt_id, work.models) == ("v2", "p2", ("huge",))


def test_two_who_retry_at_once_retry_each_document_once(world: World) -> None:
    dead(world, "b", {f"text {number}": "no" for number in range(200)})
    ids = dead_ids(world)
    start = threading.Barrier(2)
    retried: list[list[str]] = []

    def ask() -> None:
        start.wait()
        retried.extend(retry(world, ids[place : place + 10]) for place in range(0, len(ids), 10))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert sorted(id_ for some in retried for id_ in some) == sorted(ids)
    assert retry(world, ids) == []


def test_what_has_no_text_or_a_cancelled_batch_stays_dead(world: World) -> None:
    dead(world, "b", {"one": "no", "two": "no"})
    dead(world, "c", {"three": "no"})
    world.add(world.batch("b"), None, first_position=2)
    purged, cancelled = world.rows(world.batch("b"))[0].id, world.batch("c")
    with world.ledger.transaction() as connection:
        cancel_batch(connection, cancelled, now_us=world.tick())
        assert purge_dead(connection, [purged], now_us=world.tick()) == 1
    assert retry(world, dead_ids(world)) == [world.rows(world.batch("b"))[1].id]


def test_a_purge_drops_the_text_and_keeps_reason_and_cost_and_spares_the_living(
    world: World,
) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    world.turn(me, DEAD)
    world.add(batch, "two", first_position=1)
    ids = [row.id for row in world.rows(batch)]
    for _ in range(2):
        with world.ledger.transaction() as connection:
            assert purge_dead(connection, ids, now_us=world.tick()) == 1
    one, two = world.rows(batch)
    assert (one.text_digest, one.reason, one.cost_nusd) == (None, "bad_request", COST_NUSD)
    assert two.text_digest is not None
