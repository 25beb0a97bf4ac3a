"""Feeding: a fair, bounded window of due documents; and taking back what got stuck."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.ledger.control import cancel_batch, resume_batch
from runner.ledger.feeding import (
    Feed,
    Waiting,
    feed,
    free_answered,
    orphans,
    ready_tickets,
    take_back,
)
from runner.ledger.pausing import pause_batch
from runner.ledger.standing import has_open_documents, queue_standing
from runner.ledger.submission import Batch
from runner.ledger.work import load
from runner.ledger.workers import bury, leader_id, living, resign, take_lead
from runner.model import DocumentState
from tests.ledgers import DEFERRED, HOLD_NUSD, World, open_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def batch_of(world: World, name: str, count: int, *, weight: int = 1) -> Batch:
    batch = world.batch(name, weight=weight)
    world.add(batch, *(f"{name} {number}" for number in range(count)))
    return batch


def fed(world: World, batch: Batch) -> int:
    return world.states(batch).get(DocumentState.READY, 0)


def test_a_batch_of_ten_behind_five_thousand_is_on_the_road_at_once(world: World) -> None:
    large, small, me = batch_of(world, "large", 5_000), batch_of(world, "small", 10), world.worker()
    world.feed(me, window=20)
    assert (fed(world, large), fed(world, small)) == (10, 10)


def test_places_are_shared_by_weight_and_count_what_is_on_the_road_already(world: World) -> None:
    heavy, light = batch_of(world, "heavy", 100, weight=3), batch_of(world, "light", 100)
    me = world.worker()
    for window in (8, 40):
        world.feed(me, window=window)
        assert fed(world, heavy) == 3 * fed(world, light) == 3 * window // 4


def test_what_a_short_batch_leaves_goes_to_the_others(world: World) -> None:
    short, long, me = batch_of(world, "short", 3), batch_of(world, "long", 200), world.worker()
    world.feed(me, window=100)
    assert (fed(world, short), fed(world, long)) == (3, 97)


def test_documents_are_fed_in_order_and_each_once_with_a_new_turn(world: World) -> None:
    batch, me = batch_of(world, "b", 7), world.worker()
    first, second = world.feed(me, window=3), world.feed(me, window=7)
    ids = [row.id for row in world.rows(batch)]
    assert [ticket.document_id for ticket in first + second] == ids
    assert {ticket.turn for ticket in first + second} == {1}
    with world.ledger.snapshot() as connection:
        assert set(ready_tickets(connection)) == set(first + second)


def test_the_window_bounds_what_is_ready_and_running_together(world: World) -> None:
    batch_of(world, "b", 20)
    me = world.worker()
    for ticket in world.feed(me, window=5)[:3]:
        world.claim(ticket, me)
    assert world.feed(me, window=5) == []
    assert len(world.feed(me, window=6)) == 1


def test_only_the_leader_feeds(world: World) -> None:
    batch_of(world, "b", 3)
    leads, follows = world.worker(), world.worker()
    assert world.feed(follows) == []
    with world.ledger.transaction() as connection:
        assert not take_lead(connection, follows.id, instead_of=None)
        assert not take_lead(connection, follows.id, instead_of="somebody else")
        assert take_lead(connection, follows.id, instead_of=leads.id)
    assert world.feed(leads) == []
    assert len(world.feed(follows)) == 3
    with world.ledger.transaction() as connection:
        resign(connection, leads.id)
        assert leader_id(connection) == follows.id
        resign(connection, follows.id)
        assert leader_id(connection) is None


def test_a_delayed_document_is_fed_when_it_is_due_and_not_before(world: World) -> None:
    batch, me = batch_of(world, "b", 1), world.worker()
    lease = world.claim(world.feed(me)[0], me)
    delayed = type(DEFERRED)(
        delay_s=10.0, charge=DEFERRED.charge, failure=DEFERRED.failure, ladder_step=0
    )
    world.finish(lease, delayed, cost_nusd=0)
    assert world.feed(me) == []
    with world.ledger.snapshot() as connection:
        standing = queue_standing(connection, now_us=world.now_us)
        assert (standing.delayed, has_open_documents(connection, now_us=world.now_us)) == (1, True)
    world.now_us += 10_000_000
    assert [ticket.turn for ticket in world.feed(me)] == [2]
    assert world.states(batch) == {DocumentState.READY: 1}


def test_a_resumed_batch_forgets_its_delays(world: World) -> None:
    batch, me = batch_of(world, "b", 1), world.worker()
    world.sql("UPDATE document SET due_us = due_us + 1000000000000, deferred_since_us = 5")
    with world.ledger.transaction() as connection:
        pause_batch(connection, batch.id, "wait", now_us=world.tick())
    assert world.feed(me) == []
    with world.ledger.transaction() as connection:
        assert not has_open_documents(connection, now_us=world.now_us)
        resume_batch(connection, world.found(batch), budget_nusd=None, now_us=world.tick())
    assert len(world.feed(me)) == 1
    assert world.rows(batch)[0].deferred_since_us is None


def test_many_batches_are_all_found_and_share_one_place_each(world: World) -> None:
    batches = [batch_of(world, f"b{number}", 2) for number in range(60)]
    paused = batches[7]
    with world.ledger.transaction() as connection:
        pause_batch(connection, paused.id, "wait", now_us=world.tick())
    me = world.worker()
    assert len(world.feed(me, window=59)) == 59
    assert [fed(world, batch) for batch in batches] == [int(one is not paused) for one in batches]
    assert len(world.feed(me)) == 59
    assert world.feed(me) == []


def test_what_is_taken_back_is_fed_again_as_a_new_turn(world: World) -> None:
    batch_of(world, "b", 2)
    me = world.worker()
    one, two = world.feed(me)
    world.claim(two, me)
    for expected in (1, 0):
        with world.ledger.transaction() as connection:
            assert take_back(connection, [one, two], now_us=world.tick()) == expected
    (again,) = world.feed(me)
    assert (again.document_id, again.turn) == (one.document_id, 2)
    with world.ledger.transaction() as connection:
        assert take_back(connection, [one], now_us=world.tick()) == 0, "it is on its way anew"


def test_a_death_counts_against_the_suspect_alone_and_only_when_it_was_one(world: World) -> None:
    batch = batch_of(world, "b", 2)
    me = world.worker()
    suspect, neighbour = world.rows(batch)
    with world.ledger.transaction() as connection:
        assert not bury(connection, replace(me, beats=me.beats + 1), suspect=suspect.id)
    assert world.row(suspect.id).crashes == 0, "it has beaten since"
    with world.ledger.transaction() as connection:
        assert bury(connection, me, suspect=suspect.id)
    assert (world.row(suspect.id).crashes, world.row(neighbour.id).crashes) == (1, 0)


def test_a_burial_that_is_written_twice_charges_its_suspect_once(world: World) -> None:
    batch = batch_of(world, "b", 1)
    me = world.worker()
    (suspect,) = world.rows(batch)
    # a commit whose answer was lost on its way from the database is tried again
    for expected in (True, False):
        with world.ledger.transaction() as connection:
            assert bury(connection, me, suspect=suspect.id) is expected
    assert world.row(suspect.id).crashes == 1


def test_a_ticket_is_loaded_only_while_it_is_ready_under_its_turn(world: World) -> None:
    batch_of(world, "b", 2)
    me = world.worker()
    one, two = world.feed(me)
    world.claim(two, me)
    with world.ledger.snapshot() as connection:
        works = load(connection, [one, two, type(one)(one.document_id, 2), type(one)("dx", 1)])
    assert [work is not None for work in works] == [True, False, False, False]
    assert works[0] is not None
    assert (works[0].text, works[0].models, works[0].stored) == ("b 0", ("small", "large"), None)


def test_the_running_documents_of_dead_and_stopped_workers_are_orphans(world: World) -> None:
    batch_of(world, "b", 4)
    me, dead, stopped = world.worker(), world.worker(), world.worker(state="stopped")
    one, two, three, _ = world.feed(me)
    world.claim(one, me)
    lost = world.claim(two, dead)
    world.claim(three, stopped)
    with world.ledger.transaction() as connection:
        assert [worker.id for worker in living(connection)] == [me.id, dead.id]
        bury(connection, dead)
        assert [worker.id for worker in living(connection)] == [me.id]
        found = {one.worker_id: one for one in orphans(connection, now_us=world.tick())}
    assert set(found) == {dead.id, stopped.id}
    orphan = found[dead.id]
    assert (orphan.lease_token, orphan.attempt_id, orphan.hold_nusd, orphan.answered) == (
        lost.token,
        lost.attempt_id,
        HOLD_NUSD,
        False,
    )
    assert (orphan.model, orphan.prompt_id, orphan.job) == ("small", "p1", "invoice")
    assert orphan.prompt_version == "v1"


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_orphan_whose_answer_is_stored_is_freed_to_be_read_at_no_cost(
    world: World, *, cancelled: bool
) -> None:
    batch, me, dead = batch_of(world, "b", 2), world.worker(), world.worker()
    tickets = world.feed(me)
    answered, unanswered = (world.claim(ticket, dead) for ticket in tickets)
    world.store(answered)
    with world.ledger.transaction() as connection:
        if cancelled:
            cancel_batch(connection, batch, now_us=world.tick())
        bury(connection, dead)
        left = orphans(connection, now_us=world.tick())
        free_answered(connection, [one for one in left if one.answered], now_us=world.tick())
        free_answered(connection, [one for one in left if one.answered], now_us=world.tick())
    assert world.row(unanswered.ticket.document_id).state == DocumentState.RUNNING
    (ticket,) = world.feed(me)
    assert ticket.document_id == answered.ticket.document_id
    reading = world.claim(ticket, me, again_of_stored=True, attempt_id=answered.attempt_id)
    assert world.finish(reading)
    row = world.row(ticket.document_id)
    assert row.state == (DocumentState.CANCELLED if cancelled else DocumentState.DONE)
    assert row.calls == 1


def test_each_worker_has_a_number_of_its_own(world: World) -> None:
    assert [world.worker().number for _ in range(3)] == [1, 2, 3]


def test_of_a_model_with_limits_no_more_is_fed_than_they_let_start_soon(world: World) -> None:
    slow = [batch_of(world, f"slow{number}", 50) for number in range(2)]
    other = world.batch("other", models=("large",))
    world.add(other, *(f"other {number}" for number in range(50)))
    me = world.worker()

    def enough(model: str, waiting: Waiting) -> bool:
        return model == "small" and waiting.documents >= 6

    for _ in range(3):
        with world.ledger.transaction() as connection:
            wish = Feed(worker_id=me.id, window=60, now_us=world.tick(), enough=enough)
            feed(connection, [wish])
    assert sum(fed(world, batch) for batch in slow) == 6, "both batches of the model together"
    assert fed(world, other) == 50, "the other model has all of its places"


def test_what_is_ready_of_a_batch_with_nothing_left_to_feed_counts_for_its_model(
    world: World,
) -> None:
    short, me = batch_of(world, "short", 4), world.worker()
    assert len(world.feed(me)) == 4
    later = batch_of(world, "later", 10)
    with world.ledger.transaction() as connection:
        wish = Feed(
            worker_id=me.id,
            window=60,
            now_us=world.tick(),
            enough=lambda _, waiting: waiting.documents >= 6,
        )
        feed(connection, [wish])
    assert (fed(world, short), fed(world, later)) == (4, 2)


def test_the_bytes_of_what_waits_count_with_those_that_are_fed_now(world: World) -> None:
    batch, me = world.batch("long"), world.worker()
    world.add(batch, *(f"{number}" * 100 for number in range(10, 30)))  # of 200 bytes each

    def enough(_: str, waiting: Waiting) -> bool:
        return waiting.text_bytes >= 1_000

    for times in range(2):
        with world.ledger.transaction() as connection:
            wish = Feed(worker_id=me.id, window=60, now_us=world.tick(), enough=enough)
            feed(connection, [wish])
        assert fed(world, batch) == 5, times
