"""Forgiving: failures that led to an outage are charged to nobody, and nothing else is touched."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.keys import new_id
from runner.lanes import SIMULATOR, Lane
from runner.ledger.control import cancel_batch
from runner.ledger.deadletters import purge_dead, retry_dead
from runner.ledger.outages import RunOfFailures, forgive
from runner.ledger.workers import WorkerRow
from runner.model import Again, Charge, Dead, DeadReason, DocumentState, Failure, Fault, Outcome
from runner.retry import FREE_IN_OUTAGE
from tests.ledgers import DONE, TRANSIENT, Lease, World, lane_of, open_world

EXHAUSTED = Dead(DeadReason.ATTEMPTS_EXHAUSTED.value, Failure(Fault.SERVER_ERROR, "HTTP 500"))
CHECKED = Again(
    delay_s=0.0,
    charge=Charge.ATTEMPT,
    failure=Failure(Fault.SCHEMA_INVALID, "total: not a number"),
    ladder_step=0,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


@pytest.fixture
def worker(world: World) -> WorkerRow:
    return world.worker()


def turn(world: World, worker: WorkerRow, outcome: Outcome) -> Lease:
    """The one waiting document through a call that ends like this."""
    (ticket,) = world.feed(worker)
    attempt_id = new_id("a", clock_s=lambda: world.now_us / 1e6)
    lease = world.claim(ticket, worker, attempt_id=attempt_id)
    assert world.finish(lease, outcome, total_us=500)
    return lease


def forgiven(world: World, *, since_us: int, lane: Lane | None = None) -> int:
    run = RunOfFailures(
        lane=lane or lane_of(), since_us=since_us, faults=FREE_IN_OUTAGE, now_us=world.tick()
    )
    with world.ledger.transaction() as connection:
        return forgive(connection, run)


def test_a_charge_becomes_a_deferral_on_the_document_and_its_attempt(
    world: World, worker: WorkerRow
) -> None:
    since_us = world.now_us
    world.add(world.batch(), "one")
    lease = turn(world, worker, TRANSIENT)
    assert world.row(lease.ticket.document_id).attempts == 1
    assert forgiven(world, since_us=since_us) == 1
    row = world.row(lease.ticket.document_id)
    assert (row.attempts, row.deferrals) == (0, 1)
    assert row.deferred_since_us is not None
    assert not world.attempt(lease.attempt_id).charged


def test_forgiving_again_changes_nothing(world: World, worker: WorkerRow) -> None:
    since_us = world.now_us
    world.add(world.batch(), "one")
    lease = turn(world, worker, TRANSIENT)
    forgiven(world, since_us=since_us)
    before = world.row(lease.ticket.document_id)
    assert forgiven(world, since_us=since_us) == 0
    assert world.row(lease.ticket.document_id) == before


def test_a_document_that_was_used_up_goes_back_to_the_queue_and_can_be_done(
    world: World, worker: WorkerRow
) -> None:
    since_us = world.now_us
    world.add(world.batch(), "one")
    for _ in range(4):
        turn(world, worker, TRANSIENT)
    lease = turn(world, worker, EXHAUSTED)
    assert world.row(lease.ticket.document_id).state == DocumentState.DEAD
    assert forgiven(world, since_us=since_us) == 5
    row = world.row(lease.ticket.document_id)
    assert (row.state, row.attempts, row.finished_us) == (DocumentState.QUEUED, 0, None)
    turn(world, worker, DONE)
    assert world.row(lease.ticket.document_id).state == DocumentState.DONE


@pytest.mark.parametrize("fault", sorted(set(Fault) - FREE_IN_OUTAGE))
def test_what_is_no_trouble_of_the_provider_stays_charged(
    world: World, worker: WorkerRow, fault: Fault
) -> None:
    since_us = world.now_us
    world.add(world.batch(), "one")
    lease = turn(world, worker, replace(CHECKED, failure=Failure(fault, "x")))
    assert forgiven(world, since_us=since_us) == 0
    assert world.row(lease.ticket.document_id).attempts == 1


def test_failures_of_another_model_of_a_simulation_or_before_the_run_stay_charged(
    world: World, worker: WorkerRow
) -> None:
    since_us = world.now_us
    world.add(world.batch(), "one")
    lease = turn(world, worker, TRANSIENT)
    simulator = replace(lane_of(), server=SIMULATOR)
    assert forgiven(world, since_us=since_us, lane=lane_of(model="large")) == 0
    assert forgiven(world, since_us=since_us, lane=simulator) == 0
    assert forgiven(world, since_us=world.now_us + 60_000_000) == 0
    assert world.row(lease.ticket.document_id).attempts == 1


def test_what_a_cancelled_batch_or_a_purge_left_dead_stays_dead(
    world: World, worker: WorkerRow
) -> None:
    since_us = world.now_us
    cancelled, purged = world.batch("cancelled"), world.batch("purged")
    world.add(cancelled, "one")
    turn(world, worker, EXHAUSTED)
    world.add(purged, "two")
    lease = turn(world, worker, EXHAUSTED)
    with world.ledger.transaction() as connection:
        cancel_batch(connection, cancelled, now_us=world.tick())
        purge_dead(connection, [lease.ticket.document_id], now_us=world.tick())
    assert forgiven(world, since_us=since_us) == 2
    assert world.states(cancelled) == world.states(purged) == {DocumentState.DEAD: 1}
    assert world.problems() == ()


def test_a_dead_letter_that_was_retried_meanwhile_gets_no_more_attempts_than_a_new_one(
    world: World, worker: WorkerRow
) -> None:
    since_us = world.now_us
    world.add(world.batch(), "one")
    turn(world, worker, TRANSIENT)
    dead = turn(world, worker, EXHAUSTED).ticket.document_id
    with world.ledger.transaction() as connection:
        assert retry_dead(connection, [dead], pins=None, now_us=world.tick()) == [dead]
    assert forgiven(world, since_us=since_us) == 2
    assert (world.row(dead).state, world.row(dead).attempts) == (DocumentState.QUEUED, 0)
