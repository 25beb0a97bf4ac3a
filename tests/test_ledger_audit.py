"""The audit: clean after every step of the road, and each planted imbalance found by its name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.ledger import Ledger
from runner.ledger.audit import audit
from runner.ledger.control import cancel_batch
from runner.ledger.money import day_scope
from runner.model import AttemptState
from tests.ledgers import (
    COST_NUSD,
    DEAD,
    HOLD_NUSD,
    REVIEW,
    START_US,
    TRANSIENT,
    World,
    made_ledger_url,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_ledger_url(tmp_path) as url:
        world = World(Ledger(url))
        yield world
        world.ledger.close()


@pytest.fixture
def busy(world: World) -> World:
    """A world with a document of every kind: done, in review, dead, waiting, in a call."""
    batch, me = world.batch(), world.worker()
    world.add(batch, "done", "review", "dead", "again", "ambiguous", "running", "ready", None)
    done, review, dead, again, ambiguous, running, _ = world.feed(me)
    assert world.finish(world.claim(done, me))
    assert world.finish(world.claim(review, me), REVIEW)
    assert world.finish(world.claim(dead, me), DEAD)
    assert world.finish(world.claim(again, me), TRANSIENT)
    lease = world.claim(ambiguous, me)
    unsure = {"state": AttemptState.AMBIGUOUS, "cost_nusd": None, "ambiguous_nusd": HOLD_NUSD}
    assert world.finish(lease, TRANSIENT, **unsure)
    world.store(world.claim(running, me))
    return world


def test_a_busy_ledger_balances_and_is_summed_up(busy: World) -> None:
    with busy.ledger.snapshot() as connection:
        report = audit(connection)
        assert report == audit(connection, busy.batch().id)
    assert report.problems == ()
    assert (report.batches, report.documents, report.attempts) == (1, 8, 6)
    assert (report.settled_nusd, report.ambiguous_nusd, report.held_nusd) == (
        4 * COST_NUSD,
        HOLD_NUSD,
        HOLD_NUSD,
    )


def test_every_step_of_a_turn_balances(world: World) -> None:
    batch, me = world.batch(), world.worker()
    assert world.problems() == ()
    world.add(batch, "one", "two", None)
    assert world.problems() == ()
    one, two = world.feed(me)
    assert world.problems() == ()
    lease = world.claim(one, me)
    assert world.problems() == ()
    world.store(lease)
    assert world.problems() == ()
    world.finish(lease, TRANSIENT)
    assert world.problems() == ()
    lease = world.claim(two, me)
    with world.ledger.transaction() as connection:
        cancel_batch(connection, batch, now_us=world.tick())
    assert world.problems() == ()
    world.finish(lease)
    assert world.problems() == ()


PLANTED = {
    "are in a state that does not exist": (
        "UPDATE document SET state = 'lost' WHERE state = 'ready'"
    ),
    "are done without a record": (
        "DELETE FROM record WHERE document_id IN (SELECT id FROM document WHERE state = 'done')"
    ),
    "have a record but are neither done nor in review": (
        "UPDATE document SET state = 'dead', reason = 'x' WHERE state = 'done'"
    ),
    "are dead without a reason": "UPDATE document SET reason = NULL WHERE state = 'dead'",
    "run without a lease": "UPDATE document SET worker_id = NULL WHERE state = 'running'",
    "hold a lease without running": "UPDATE document SET lease_token = 'x' WHERE state = 'ready'",
    "have a call in flight without running": (
        "UPDATE attempt SET state = 'intent' WHERE document_id IN "
        "(SELECT id FROM document WHERE state = 'done')"
    ),
    "have more than one call in flight": (
        "UPDATE attempt SET state = 'answered', document_id = "
        "(SELECT id FROM document WHERE state = 'running') WHERE document_id IN "
        "(SELECT id FROM document WHERE state = 'done')"
    ),
    "ended with a paid answer that nobody read": (
        "UPDATE attempt SET state = 'answered' WHERE document_id IN "
        "(SELECT id FROM document WHERE state = 'review')"
    ),
    "wait in a cancelled batch for no answer": "UPDATE batch SET state = 'cancelled'",
    "have no source": "DELETE FROM source WHERE name = 'ready'",
    "count another number of calls than there are attempts": (
        "UPDATE document SET calls = calls + 1 WHERE state = 'running'"
    ),
    "ended without a time or go on with one": (
        "UPDATE document SET finished_us = NULL WHERE state = 'done'"
    ),
    "held 1001 nano-dollars, but its live attempts say 1000": (
        "UPDATE budget SET held_nusd = held_nusd + 1"
    ),
    "settled 3599 nano-dollars, but its attempts say 3600": (
        "UPDATE budget SET settled_nusd = settled_nusd - 1"
    ),
    "ambiguous 1001 nano-dollars, but its documents say 1000": (
        "UPDATE budget SET ambiguous_nusd = ambiguous_nusd + 1"
    ),
    "settled 3600 nano-dollars, but its documents say 3601": (
        "UPDATE document SET cost_nusd = cost_nusd + 1 WHERE state = 'done'"
    ),
    "held 1000 nano-dollars, but its live attempts say 0": (
        "UPDATE attempt SET state = 'concluded' WHERE state = 'answered'"
    ),
}


@pytest.mark.parametrize("problem", PLANTED)
def test_a_planted_imbalance_is_found_by_name(busy: World, problem: str) -> None:
    assert busy.problems() == ()
    busy.sql(PLANTED[problem])
    found = busy.problems()
    assert any(problem in one for one in found), found
    places = (f"batch {busy.batch().id}: ", f"{day_scope(START_US)}: ")
    assert all(one.startswith(places) for one in found)


def test_a_day_whose_money_is_not_that_of_its_attempts_is_found_by_name(busy: World) -> None:
    day = day_scope(START_US)
    busy.sql("UPDATE budget SET settled_nusd = settled_nusd + 1 WHERE scope = :day", day=day)
    settled = 4 * COST_NUSD
    assert busy.problems() == (
        f"{day}: settled {settled + 1} nano-dollars, but its attempts say {settled}",
    )
    busy.sql("DELETE FROM budget WHERE scope = :day", day=day)
    assert f"{day}: settled 0 nano-dollars, but its attempts say {settled}" in busy.problems()


def test_a_batch_is_audited_alone(busy: World) -> None:
    other = busy.batch("other")
    busy.sql("UPDATE budget SET held_nusd = 1 WHERE scope = :scope", scope=f"batch:{other.id}")
    with busy.ledger.snapshot() as connection:
        assert audit(connection, busy.batch().id).problems == ()
        assert len(audit(connection, other.id).problems) == 1
        assert len(audit(connection).problems) == 1
