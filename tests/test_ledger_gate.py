"""The gate: a claim is a compare-and-swap on the turn, and money is held or the call refused."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.ledger import Ledger
from runner.ledger.control import cancel_batch, resume_batch
from runner.ledger.gate import Claim, Refusal, Release, claim, release
from runner.ledger.pausing import pause_batch
from runner.ledger.workers import bury
from runner.model import AttemptState, BatchState, DocumentState
from tests.ledgers import HOLD_NUSD, World, made_ledger_url, open_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def test_an_admitted_claim_writes_lease_intent_and_hold_together(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    lease = world.claim(world.feed(me)[0], me)
    row, call = world.row(lease.ticket.document_id), world.attempt(lease.attempt_id)
    assert (row.state, row.lease_token, row.worker_id, row.calls) == (
        DocumentState.RUNNING,
        lease.token,
        me.id,
        1,
    )
    assert (call.state, call.number, call.hold_nusd) == (AttemptState.INTENT, 1, HOLD_NUSD)
    assert world.money(batch) == (HOLD_NUSD, 0, 0)


def test_a_second_claim_of_one_turn_is_stale_in_one_group_and_later(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    ticket = world.feed(me)[0]
    wishes = [world.wish(ticket, me), world.wish(ticket, me)]
    assert world.claim_all(wishes) == [None, Refusal.STALE]
    assert world.try_claim(ticket, me) is Refusal.STALE
    assert world.row(ticket.document_id).calls == 1
    assert world.money(batch) == (HOLD_NUSD, 0, 0)


def test_a_claim_repeated_after_a_commit_of_unknown_end_is_admitted_once(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    wish = world.wish(world.feed(me)[0], me)
    assert world.claim_all([wish]) == [None]
    assert world.claim_all([wish]) == [None]
    assert world.row(wish.ticket.document_id).calls == 1
    assert world.money(batch) == (HOLD_NUSD, 0, 0)


def test_an_old_turn_of_a_document_claims_nothing(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    old = world.feed(me)[0]
    with world.ledger.transaction() as connection:
        release(connection, [Release(old, world.tick())])
    new = world.feed(me)[0]
    assert new.turn == old.turn + 1
    assert world.try_claim(old, me) is Refusal.STALE
    assert world.row(old.document_id).state == DocumentState.READY
    assert world.try_claim(new, me) is None


def test_a_paused_batch_refuses_and_its_documents_wait_in_the_queue(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one", "two")
    first, second = world.feed(me)
    world.claim(first, me)
    with world.ledger.transaction() as connection:
        pause_batch(connection, batch.id, "a person said so", now_us=world.tick())
        pause_batch(connection, batch.id, "a second reason", now_us=world.tick())
    assert world.found(batch).pause_reason == "a person said so"
    assert world.try_claim(second, me) is Refusal.STALE
    assert world.states(batch) == {DocumentState.QUEUED: 1, DocumentState.RUNNING: 1}
    assert world.feed(me) == []


def test_a_document_that_was_ready_in_a_paused_batch_is_put_back(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    ticket = world.feed(me)[0]
    world.sql("UPDATE batch SET state = 'paused'")
    assert world.try_claim(ticket, me) is Refusal.BATCH_NOT_ACTIVE
    assert world.row(ticket.document_id).state == DocumentState.QUEUED


def test_a_cancelled_batch_refuses_every_call(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    ticket = world.feed(me)[0]
    with world.ledger.transaction() as connection:
        assert cancel_batch(connection, batch, now_us=world.tick()) == 1
    assert world.try_claim(ticket, me) is Refusal.STALE
    assert world.row(ticket.document_id).state == DocumentState.CANCELLED


def test_a_document_that_was_ready_in_a_cancelled_batch_is_cancelled_at_the_gate(
    world: World,
) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    ticket = world.feed(me)[0]
    world.sql("UPDATE batch SET state = 'cancelled'")
    assert world.try_claim(ticket, me) is Refusal.BATCH_NOT_ACTIVE
    row = world.row(ticket.document_id)
    assert (row.state, row.finished_us is None) == (DocumentState.CANCELLED, False)


def test_a_budget_admits_to_its_last_nano_dollar_and_then_waits_for_holds(world: World) -> None:
    batch, me = world.batch(budget_nusd=2 * HOLD_NUSD), world.worker()
    world.add(batch, "one", "two", "three")
    tickets = world.feed(me)
    answers = world.claim_all([world.wish(ticket, me) for ticket in tickets])
    assert answers == [None, None, Refusal.BUDGET_WAIT]
    waiting = world.row(tickets[2].document_id)
    assert waiting.state == DocumentState.QUEUED
    assert waiting.due_us > world.now_us
    assert world.found(batch).state is BatchState.ACTIVE


def test_a_spent_budget_pauses_the_batch_and_a_larger_one_goes_on(world: World) -> None:
    batch, me = world.batch(budget_nusd=HOLD_NUSD), world.worker()
    world.add(batch, "one", "two")
    one, two = world.feed(me)
    lease = world.claim(one, me)
    assert world.finish(lease, cost_nusd=1)
    assert world.try_claim(two, me) is Refusal.BUDGET_SPENT
    found = world.found(batch)
    assert found.state is BatchState.PAUSED
    assert found.pause_reason is not None
    assert found.pause_reason.startswith("budget spent (0.0000 of 0.0000 USD")
    assert world.states(batch) == {DocumentState.DONE: 1, DocumentState.QUEUED: 1}
    with world.ledger.transaction() as connection:
        resume_batch(connection, found, budget_nusd=HOLD_NUSD + 1, now_us=world.tick())
    assert world.try_claim(world.feed(me)[0], me) is None


def test_an_ambiguous_call_counts_as_spent(world: World) -> None:
    batch, me = world.batch(budget_nusd=HOLD_NUSD), world.worker()
    world.add(batch, "one", "two")
    one, two = world.feed(me)
    assert world.finish(
        world.claim(one, me),
        state=AttemptState.AMBIGUOUS,
        cost_nusd=None,
        ambiguous_nusd=HOLD_NUSD,
    )
    assert world.try_claim(two, me) is Refusal.BUDGET_SPENT


def test_a_budget_refuses_an_unknown_price_instead_of_guessing(world: World) -> None:
    batch, me = world.batch(budget_nusd=HOLD_NUSD), world.worker()
    world.add(batch, "one")
    assert world.try_claim(world.feed(me)[0], me, hold_nusd=None) is Refusal.PRICE_UNKNOWN
    assert world.found(batch).pause_reason == (
        "price of model small unknown, so its budget cannot be kept"
    )


def test_an_unknown_price_is_no_hindrance_without_a_budget(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    world.claim(world.feed(me)[0], me, hold_nusd=None)
    assert world.money(batch) == (0, 0, 0)


def test_a_buried_worker_is_refused_and_the_document_stays_for_others(world: World) -> None:
    batch, lost = world.batch(), world.worker()
    other = world.worker(leads=False)
    world.add(batch, "one")
    ticket = world.feed(lost)[0]
    with world.ledger.transaction() as connection:
        assert bury(connection, lost)
    assert world.try_claim(ticket, lost) is Refusal.WORKER_LOST
    assert world.row(ticket.document_id).state == DocumentState.QUEUED
    assert world.try_claim(world.feed(lost)[0], other) is None


def test_a_worker_that_has_beaten_since_it_was_seen_is_not_buried(world: World) -> None:
    worker = world.worker()
    world.sql("UPDATE worker SET beats = beats + 1")
    with world.ledger.transaction() as connection:
        assert not bury(connection, worker)


def test_a_release_puts_back_what_is_ready_under_its_ticket_and_nothing_else(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one", "two")
    one, two = world.feed(me)
    world.claim(one, me)
    due_us = world.tick() + 5_000
    for _ in range(2):
        with world.ledger.transaction() as connection:
            release(connection, [Release(one, due_us), Release(two, due_us)])
    assert world.row(one.document_id).state == DocumentState.RUNNING
    assert world.row(two.document_id).state == DocumentState.QUEUED
    assert world.row(two.document_id).due_us == due_us


def test_two_processes_race_for_every_document_and_exactly_one_wins_each(tmp_path: Path) -> None:
    with made_ledger_url(tmp_path) as url:
        world, other = World(Ledger(url)), Ledger(url)
        batch, me, you = world.batch(budget_nusd=30 * HOLD_NUSD), world.worker(), world.worker()
        world.add(batch, *(f"text {number}" for number in range(60)))
        tickets = world.feed(me)
        start = threading.Barrier(2)
        answers: dict[str, list[Refusal | None]] = {}

        def compete(ledger: Ledger, who: str, wishes: list[Claim]) -> None:
            start.wait()
            answers[who] = []
            for wish in wishes:
                with ledger.transaction() as connection:
                    answers[who] += claim(connection, [wish])

        rivals = [
            threading.Thread(
                target=compete, args=(ledger, worker.id, [world.wish(t, worker) for t in tickets])
            )
            for ledger, worker in ((world.ledger, me), (other, you))
        ]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join()
        won = [
            sum(answers[who][place] is None for who in (me.id, you.id))
            for place in range(len(tickets))
        ]
        assert max(won) == 1
        assert sum(won) == 30  # the budget has room for no more
        assert world.money(batch) == (30 * HOLD_NUSD, 0, 0)
        assert world.problems() == ()
        world.ledger.close()
        other.close()
