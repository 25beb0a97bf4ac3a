"""The budget of a day: all batches share it, it pauses those that meet it, a new day goes on."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from runner.ledger.control import raise_day_budget, resume_batch
from runner.ledger.gate import Refusal
from runner.ledger.money import day_scope
from runner.ledger.pausing import pause_batch
from runner.ledger.standing import has_open_documents
from runner.ledger.submission import Batch
from runner.ledger.workers import WorkerRow
from runner.model import AttemptState, BatchState, DocumentState
from tests.ledgers import COST_NUSD, HOLD_NUSD, TRANSIENT, World, open_world

DAY_US = 86_400_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def begin(world: World, *names: str, simulated: bool = False) -> tuple[WorkerRow, list[Batch]]:
    """A worker, and a batch of three documents for each name."""
    made = []
    for name in names:
        made.append(world.batch(name, simulated=simulated))
        world.add(made[-1], *(f"{name} {number}" for number in range(3)))
    return world.worker(), made


def spend(world: World, worker: WorkerRow, *, nusd: int) -> None:
    """One document done at this cost."""
    (ticket,) = world.feed(worker, window=1)
    assert world.finish(world.claim(ticket, worker), cost_nusd=nusd)


def test_money_counts_in_its_batch_and_on_the_day_of_its_claim(world: World) -> None:
    me, (a, b) = begin(world, "a", "b")
    first, second, *_ = world.feed(me)
    leases = [world.claim(first, me), world.claim(second, me)]
    day = day_scope(world.now_us)
    assert world.money_of(day) == (2 * HOLD_NUSD, 0, 0)
    world.now_us += DAY_US
    assert world.finish(leases[0])
    unsure = {"state": AttemptState.AMBIGUOUS, "cost_nusd": None, "ambiguous_nusd": HOLD_NUSD}
    assert world.finish(leases[1], TRANSIENT, **unsure)
    assert world.money_of(day) == (0, COST_NUSD, HOLD_NUSD)
    assert world.money_of(day_scope(world.now_us)) == (0, 0, 0)
    assert [sum(money) for money in zip(world.money(a), world.money(b), strict=True)] == [
        0,
        COST_NUSD,
        HOLD_NUSD,
    ]


def test_made_up_money_counts_on_no_day_and_meets_no_budget_of_one(world: World) -> None:
    me, _ = begin(world, "a", simulated=True)
    tickets = world.feed(me)
    for ticket in tickets:
        world.claim(ticket, me, day_limit_nusd=1)
    assert world.money_of(day_scope(world.now_us)) == (0, 0, 0)


def test_two_batches_share_a_day_to_its_last_nano_dollar_and_then_wait_for_holds(
    world: World,
) -> None:
    me, _ = begin(world, "a", "b")
    tickets = world.feed(me)
    limit = {"day_limit_nusd": 3 * HOLD_NUSD}
    answers = world.claim_all([world.wish(ticket, me, **limit) for ticket in tickets])
    assert answers == [None] * 3 + [Refusal.BUDGET_WAIT] * 3
    assert world.money_of(day_scope(world.now_us))[0] == 3 * HOLD_NUSD


def test_a_spent_day_pauses_the_batches_that_meet_it_and_says_what_goes_on(world: World) -> None:
    me, (a, b) = begin(world, "a", "b")
    spend(world, me, nusd=HOLD_NUSD)
    day = day_scope(world.now_us)
    ticket = next(t for t in world.feed(me) if world.row(t.document_id).batch_id == a.id)
    refusal = world.try_claim(ticket, me, day_limit_nusd=HOLD_NUSD + 1)
    assert refusal is Refusal.BUDGET_SPENT
    found = world.found(a)
    assert (found.state, found.pause_scope) == (BatchState.PAUSED, day)
    assert found.pause_reason == (
        f"budget of the day {day.removeprefix('day:')} spent (0.0000 of 0.0000 USD; the next call "
        "may cost 0.0000); it goes on at 00:00 UTC, or with "
        "`runner batch resume a --day-budget-usd USD`"
    )
    assert world.found(b).state is BatchState.ACTIVE, "it has not met it yet"


def test_a_spent_day_is_not_waited_for_because_of_other_batches_holds(world: World) -> None:
    me, (a,) = begin(world, "a")
    spend(world, me, nusd=HOLD_NUSD)
    one, two = world.feed(me)
    world.claim(one, me, hold_nusd=1)
    assert world.try_claim(two, me, day_limit_nusd=HOLD_NUSD + 1) is Refusal.BUDGET_SPENT
    assert world.found(a).state is BatchState.PAUSED


def test_the_next_day_lets_the_batches_of_a_past_one_go_on(world: World) -> None:
    me, (a,) = begin(world, "a")
    spend(world, me, nusd=HOLD_NUSD)
    limit = {"day_limit_nusd": HOLD_NUSD}
    assert world.try_claim(world.feed(me)[0], me, **limit) is Refusal.BUDGET_SPENT
    assert world.end_what_is_over() == []
    assert world.found(a).state is BatchState.PAUSED, "the day is not over"
    world.now_us += DAY_US
    with world.ledger.snapshot() as connection:
        assert has_open_documents(connection, now_us=world.now_us), "a worker has to stay for it"
    world.end_what_is_over()
    assert world.found(a).pause_scope is None
    world.claim(world.feed(me)[0], me, **limit)


def test_the_larger_of_the_settings_and_of_what_a_person_raised_counts_for_today(
    world: World,
) -> None:
    me, (a, b) = begin(world, "a", "b")
    spend(world, me, nusd=HOLD_NUSD)
    for ticket in world.feed(me, window=2):
        assert world.try_claim(ticket, me, day_limit_nusd=HOLD_NUSD) is Refusal.BUDGET_SPENT
    for _ in range(2):
        with world.ledger.transaction() as connection:
            raise_day_budget(connection, 2 * HOLD_NUSD, now_us=world.tick())
    assert {world.found(batch).state for batch in (a, b)} == {BatchState.ACTIVE}
    one, two, three, *_ = world.feed(me)
    wishes = [world.wish(ticket, me, day_limit_nusd=HOLD_NUSD) for ticket in (one, two)]
    assert world.claim_all(wishes) == [None, Refusal.BUDGET_WAIT]
    assert world.try_claim(three, me, day_limit_nusd=3 * HOLD_NUSD) is None
    world.now_us += DAY_US
    ticket = world.feed(me)[0]
    assert world.try_claim(ticket, me, day_limit_nusd=HOLD_NUSD - 1) is Refusal.BUDGET_SPENT, (
        "what was raised was raised for one day"
    )


def test_a_day_with_a_budget_refuses_an_unknown_price_instead_of_guessing(world: World) -> None:
    me, (a,) = begin(world, "a")
    (ticket,) = world.feed(me, window=1)
    refusal = world.try_claim(ticket, me, hold_nusd=None, day_limit_nusd=10**12)
    assert refusal is Refusal.PRICE_UNKNOWN
    found = world.found(a)
    assert (found.pause_scope, found.pause_reason) == (
        None,
        "price of model small unknown, so its budget cannot be kept",
    )


def test_a_document_with_a_ceiling_is_not_called_at_an_unknown_price(world: World) -> None:
    me, _ = begin(world, "a")
    (ticket,) = world.feed(me, window=1)
    assert world.try_claim(ticket, me, hold_nusd=None, needs_price=True) is Refusal.PRICE_UNKNOWN


def test_a_pause_by_hand_outlives_the_day_that_held_the_batch(world: World) -> None:
    me, (a,) = begin(world, "a")
    assert world.try_claim(world.feed(me)[0], me, day_limit_nusd=1) is Refusal.BUDGET_SPENT
    with world.ledger.transaction() as connection:
        pause_batch(connection, a.id, "wait for me", now_us=world.tick(), by_person=True)
    world.now_us += DAY_US
    world.end_what_is_over()
    found = world.found(a)
    assert (found.state, found.pause_reason) == (BatchState.PAUSED, "wait for me")
    with world.ledger.transaction() as connection:
        resume_batch(connection, found, budget_nusd=None, now_us=world.tick())
    assert world.states(a) == {DocumentState.QUEUED: 3}
    assert len(world.feed(me)) == 3


def test_the_migration_books_to_days_exactly_what_the_gate_would_have_booked(
    world: World,
) -> None:
    me, _ = begin(world, "a", "b")
    begin(world, "s", simulated=True)
    for number, ticket in enumerate(world.feed(me)):
        world.now_us += DAY_US // 3
        lease = world.claim(ticket, me)
        if number % 3 == 0:
            assert world.finish(lease)
        elif number % 3 == 1:
            unsure = {"cost_nusd": None, "ambiguous_nusd": HOLD_NUSD}
            assert world.finish(lease, TRANSIENT, state=AttemptState.AMBIGUOUS, **unsure)
        else:
            assert world.store(lease)
    world.sql("DELETE FROM budget WHERE scope LIKE 'day:%'")
    assert world.problems() != ()
    migration = import_module("runner.ledger.migrations.versions.0002_pause_keys_and_days")
    with (
        world.ledger.transaction() as connection,
        Operations.context(MigrationContext.configure(connection)),
    ):
        migration._book_days()
    assert world.problems() == ()
