"""A document that one process tries by itself: nobody else's, called once, ended in any case."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.keys import Ticket
from runner.ledger.feeding import free_answered, orphans, ready_tickets
from runner.ledger.gate import Refusal, Release, release
from runner.ledger.keypauses import all_key_pauses
from runner.ledger.standing import all_batches
from runner.ledger.submission import Batch
from runner.ledger.trying import begin_try, end_tries_of, end_try
from runner.ledger.work import load
from runner.ledger.workers import TRYING, WorkerRow, bury, living
from runner.model import (
    Again,
    AttemptState,
    BatchState,
    Charge,
    DocumentState,
    Failure,
    Fault,
    Pauses,
    Purpose,
)
from tests.ledgers import (
    DEFERRED,
    DONE,
    HOLD_NUSD,
    REVIEW,
    TRANSIENT,
    World,
    lane_of,
    open_world,
    plan_of,
    texts_of,
)

BAD_KEY = Again(0.0, Charge.DEFERRAL, Failure(Fault.BAD_KEY, "401"), 0, pauses=Pauses.KEY)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def tried(world: World, name: str = "try-1") -> tuple[Batch, Ticket, WorkerRow]:
    """A try that has begun."""
    me = world.worker(leads=False, state=TRYING, slots=0)
    plan = plan_of(name, purpose=Purpose.TRY)
    with world.ledger.transaction() as connection:
        batch, ticket = begin_try(
            connection, plan, texts_of("one")[0], worker_id=me.id, now_us=world.tick()
        )
    return batch, ticket, me


def end(world: World, batch: Batch) -> Batch:
    with world.ledger.transaction() as connection:
        return end_try(connection, batch.id, now_us=world.tick())


def test_it_is_ready_for_its_own_process_and_on_nobody_s_road(world: World) -> None:
    leader = world.worker()
    _, ticket, me = tried(world)
    with world.ledger.snapshot() as connection:
        assert load(connection, [ticket])[0] is not None
        assert ready_tickets(connection) == []
        assert [one.id for one in living(connection)] == [leader.id]
        assert [one.id for one in living(connection, trying=True)] == [leader.id, me.id]
    assert world.feed(leader) == []
    world.finish(world.claim(ticket, me))


def test_released_or_refused_it_is_still_given_to_no_worker_and_ends_cancelled(
    world: World,
) -> None:
    leader = world.worker()
    batch, ticket, _ = tried(world)
    with world.ledger.transaction() as connection:
        release(connection, [Release(ticket, world.tick())])
    assert world.states(batch) == {DocumentState.QUEUED: 1}
    assert world.feed(leader) == []
    end(world, batch)
    assert world.states(batch) == {DocumentState.CANCELLED: 1}
    end(world, batch)  # repeatable
    assert world.states(batch) == {DocumentState.CANCELLED: 1}


def test_a_spent_budget_is_told_by_the_batch_as_it_stood(world: World) -> None:
    plan = plan_of("try-1", purpose=Purpose.TRY, budget_nusd=HOLD_NUSD - 1)
    me = world.worker(leads=False, state=TRYING)
    with world.ledger.transaction() as connection:
        batch, ticket = begin_try(
            connection, plan, texts_of("one")[0], worker_id=me.id, now_us=world.tick()
        )
    assert world.try_claim(ticket, me) is Refusal.BUDGET_SPENT
    before = end(world, batch)
    assert (before.state, "budget spent" in (before.pause_reason or "")) == (
        BatchState.PAUSED,
        True,
    )
    assert world.states(batch) == {DocumentState.CANCELLED: 1}
    assert world.money(batch) == (0, 0, 0)


@pytest.mark.parametrize("outcome", [TRANSIENT, DEFERRED])
def test_what_would_be_asked_again_ends_cancelled_with_its_reason_and_its_cost(
    world: World, outcome: Again
) -> None:
    leader = world.worker()
    batch, ticket, me = tried(world)
    lease = world.claim(ticket, me)
    assert world.store(lease)
    assert world.finish(lease, outcome)
    row = world.row(ticket.document_id)
    assert (row.state, row.reason) == (DocumentState.CANCELLED, outcome.failure.fault)
    assert row.finished_us is not None
    assert world.money(batch)[0] == 0
    assert world.feed(leader) == []


@pytest.mark.parametrize("outcome", [DONE, REVIEW])
def test_a_record_is_kept_as_any_other(world: World, outcome: object) -> None:
    batch, ticket, me = tried(world)
    assert world.finish(world.claim(ticket, me), outcome)  # type: ignore[arg-type]  # both outcomes
    assert set(world.states(batch)) <= {DocumentState.DONE, DocumentState.REVIEW}


def test_a_key_that_does_not_work_is_not_paused_for_others_by_a_try(world: World) -> None:
    _, ticket, me = tried(world)
    lease = world.claim(ticket, me, lane=lane_of())
    finish = replace(world.end(lease, BAD_KEY, cost_nusd=0), lane=lane_of())
    assert world.finish_all([finish]) == [True]
    with world.ledger.snapshot() as connection:
        assert all_key_pauses(connection) == []


@pytest.mark.parametrize("is_queued", [False, True])
def test_a_process_that_died_before_its_call_takes_its_document_along(
    world: World, *, is_queued: bool
) -> None:
    batch, ticket, me = tried(world)
    if is_queued:
        with world.ledger.transaction() as connection:
            release(connection, [Release(ticket, world.tick())])
    with world.ledger.transaction() as connection:
        assert bury(connection, me)
        end_tries_of(connection, me.id, now_us=world.tick())
    assert world.states(batch) == {DocumentState.CANCELLED: 1}


def test_the_answer_of_a_process_that_died_is_read_by_a_worker_for_free(world: World) -> None:
    leader = world.worker()
    batch, ticket, me = tried(world)
    lease = world.claim(ticket, me)
    assert world.store(lease)
    with world.ledger.transaction() as connection:
        assert bury(connection, me)
        end_tries_of(connection, me.id, now_us=world.tick())
        left = orphans(connection, now_us=world.tick())
        free_answered(connection, left, now_us=world.tick())
    (again,) = world.feed(leader)
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [again])
    assert work is not None
    assert work.stored is not None
    wish = world.wish(again, leader, attempt_id=lease.attempt_id, again_of_stored=True)
    assert world.claim_all([wish]) == [None]
    held = replace(lease, ticket=again, token=wish.lease_token)
    assert world.finish(held, DONE)
    assert world.attempt(lease.attempt_id).state == AttemptState.CONCLUDED
    assert world.states(batch) == {DocumentState.DONE: 1}


def test_only_runs_are_listed(world: World) -> None:
    run = world.batch("june")
    batch, ticket, me = tried(world)
    with world.ledger.snapshot() as connection:
        assert [one.id for one in all_batches(connection, limit=10)] == [run.id]
    assert world.found(batch).name == "try-1"
    world.finish(world.claim(ticket, me))
