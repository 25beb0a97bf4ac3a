"""Pauses of keys: at most the calls in flight follow, others go on, one document tries again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.keys import Ticket
from runner.lanes import Lane
from runner.ledger.calls import events
from runner.ledger.control import cancel_batch, resume_batch
from runner.ledger.gate import Refusal
from runner.ledger.keypauses import (
    PROBE_AGAIN_US,
    PROBE_EVERY_US,
    KeyPause,
    all_key_pauses,
    is_over,
)
from runner.ledger.pausing import pause_batch
from runner.ledger.submission import Batch
from runner.ledger.workers import WorkerRow
from runner.model import (
    Again,
    AttemptState,
    BatchState,
    Charge,
    DocumentState,
    Failure,
    Fault,
    Outcome,
    Pauses,
)
from tests.ledgers import DONE, TRANSIENT, Lease, World, lane_of, open_world

NOT_SENT: dict[str, Any] = {"state": AttemptState.NOT_SENT, "cost_nusd": 0}


def pausing(fault: Fault, pauses: Pauses = Pauses.KEY) -> Again:
    """What `decide` makes of a fault of a key."""
    failure = Failure(fault, "HTTP 429: no")
    return Again(0.0, Charge.DEFERRAL, failure, ladder_step=0, pauses=pauses)


MONEY_OUT = pausing(Fault.MONEY_OUT)
BAD_KEY = pausing(Fault.BAD_KEY)
FORBIDDEN = pausing(Fault.NO_PERMISSION, Pauses.LANE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


class Scene:
    """Batches of a few documents each, and a worker that has one call in flight in each."""

    def __init__(self, world: World, *names: str) -> None:
        self.world = world
        self.me: WorkerRow = world.worker()
        self.batches: dict[str, Batch] = {}
        for name in names:
            self.batches[name] = world.batch(name)
            world.add(self.batches[name], *(f"{name} {number}" for number in range(4)))
        self.tickets: dict[str, list[Ticket]] = {name: [] for name in names}
        self.feed()

    def feed(self) -> None:
        """Feed what is due; earlier tickets are forgotten."""
        for some in self.tickets.values():
            some.clear()
        for ticket in self.world.feed(self.me):
            batch_id = self.world.row(ticket.document_id).batch_id
            name = next(name for name, batch in self.batches.items() if batch.id == batch_id)
            self.tickets[name].append(ticket)

    def call(self, name: str, lane: Lane) -> Lease:
        """The next ready document of a batch, in a call."""
        return self.world.claim(self.tickets[name].pop(0), self.me, lane=lane)

    def ask(self, name: str, lane: Lane) -> Refusal | None:
        """What the gate says to the next ready document of a batch."""
        return self.world.try_claim(self.tickets[name].pop(0), self.me, lane=lane)

    def end(self, lease: Lease, outcome: Outcome, lane: Lane, **settled: Any) -> None:
        """Finish a call."""
        values: dict[str, Any] = {"cost_nusd": 0} | settled
        assert self.world.finish_all(
            [replace(self.world.end(lease, outcome, **values), lane=lane)]
        ) == [True]

    def meet(self, name: str, outcome: Again, lane: Lane) -> None:
        """A call of this batch that ends so."""
        self.end(self.call(name, lane), outcome, lane)

    def state(self, name: str) -> tuple[BatchState, str | None]:
        """Whether a batch is paused, and by whose pause."""
        found = self.world.found(self.batches[name])
        return found.state, found.pause_scope

    def pauses(self) -> list[KeyPause]:
        """The paused keys."""
        with self.world.ledger.snapshot() as connection:
            return all_key_pauses(connection)

    def is_over(self) -> bool:
        """Whether the leader has something to do."""
        with self.world.ledger.snapshot() as connection:
            return is_over(connection, now_us=self.world.now_us)

    def probe(self) -> Ticket:
        """The one document that is let through once the time has come."""
        self.world.now_us += PROBE_EVERY_US
        (ticket,) = self.world.end_what_is_over()
        assert self.world.end_what_is_over() == [], "one at a time"
        return ticket


ONE, TWO = lane_of("one"), lane_of("two")
ACTIVE = (BatchState.ACTIVE, None)
HELD = (BatchState.PAUSED, "key:yone")


@pytest.mark.parametrize("outcome", [MONEY_OUT, BAD_KEY])
def test_a_key_that_is_refused_stops_its_batches_at_the_gate_and_others_go_on(
    world: World, outcome: Again
) -> None:
    scene = Scene(world, "a", "b", "c")
    scene.meet("a", outcome, ONE)
    assert scene.state("a") == HELD
    assert scene.state("b") == ACTIVE, "it has not met it yet"
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    assert scene.state("b") == HELD
    assert scene.ask("c", TWO) is None
    assert scene.ask("c", lane_of("two", "large")) is None
    assert scene.state("c") == ACTIVE
    rows = world.rows(scene.batches["a"]) + world.rows(scene.batches["b"])
    assert {row.state for row in rows} == {DocumentState.QUEUED}
    assert {row.attempts for row in rows} == {0}


def test_a_key_without_permission_for_a_model_goes_on_with_other_models(world: World) -> None:
    scene = Scene(world, "a", "b")
    scene.meet("a", FORBIDDEN, ONE)
    assert scene.state("a") == (BatchState.PAUSED, "lane:nonesmall")
    assert scene.ask("b", lane_of("one", "large")) is None
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    (pause,) = scene.pauses()
    assert pause.name == "ONE_KEY at example.org for small"


def test_calls_in_flight_that_end_alike_change_nothing_and_a_success_lifts_nothing(
    world: World,
) -> None:
    scene = Scene(world, "a", "b")
    first, second = scene.call("a", ONE), scene.call("a", ONE)
    third, fourth = scene.call("b", ONE), scene.call("b", ONE)
    scene.end(first, MONEY_OUT, ONE)
    before = scene.pauses()
    scene.end(second, BAD_KEY, ONE)
    scene.end(third, DONE, ONE)
    assert (scene.state("a"), scene.state("b")) == (HELD, ACTIVE)
    scene.end(fourth, MONEY_OUT, ONE)
    assert scene.state("b") == HELD
    assert scene.pauses() == before


def test_the_reason_says_which_key_what_is_wrong_and_that_it_is_tried_again(world: World) -> None:
    scene = Scene(world, "a", "b")
    scene.meet("a", MONEY_OUT, ONE)
    scene.meet("b", BAD_KEY, TWO)
    assert world.found(scene.batches["a"]).pause_reason == (
        "ONE_KEY at example.org has no money left: HTTP 429: no; one document tries it again "
        "every 5 min"
    )
    assert world.found(scene.batches["b"]).pause_reason == (
        "TWO_KEY at example.org does not work: HTTP 429: no"
    )


def test_a_resume_ends_the_pause_of_the_key_and_every_batch_that_it_held_goes_on(
    world: World,
) -> None:
    scene = Scene(world, "a", "b", "c")
    scene.meet("a", BAD_KEY, ONE)
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    scene.meet("c", BAD_KEY, TWO)
    with world.ledger.transaction() as connection:
        resumed = resume_batch(
            connection, scene.batches["b"], budget_nusd=None, now_us=world.tick()
        )
    assert (resumed.key, resumed.others) == ("ONE_KEY at example.org", ("a",))
    assert [scene.state(name)[0] for name in "abc"] == ["active", "active", "paused"]
    assert [pause.scope for pause in scene.pauses()] == ["key:ytwo"]
    scene.feed()
    assert scene.ask("a", ONE) is None


def test_a_bad_key_is_not_tried_again_until_a_person_resumes(world: World) -> None:
    scene = Scene(world, "a")
    scene.meet("a", BAD_KEY, ONE)
    world.now_us += 100 * PROBE_EVERY_US
    assert world.end_what_is_over() == []
    assert not scene.is_over()


def test_a_key_out_of_money_is_tried_by_one_document_whose_answer_ends_the_pause(
    world: World,
) -> None:
    scene = Scene(world, "a", "b")
    scene.meet("a", MONEY_OUT, ONE)
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    assert world.end_what_is_over() == [], "not yet"
    ticket = scene.probe()
    row = world.row(ticket.document_id)
    assert (row.tried, row.deferred_since_us) == (True, None), "the one that met it, forgiven"
    assert not scene.is_over()
    lease = world.claim(ticket, scene.me, lane=ONE)
    assert world.end_what_is_over() == []
    scene.end(lease, DONE, ONE)
    assert (scene.state("a"), scene.state("b"), scene.pauses()) == (ACTIVE, ACTIVE, [])


@pytest.mark.parametrize("outcome", [MONEY_OUT, BAD_KEY, FORBIDDEN])
def test_a_try_that_is_refused_puts_the_next_one_off_by_five_minutes(
    world: World, outcome: Again
) -> None:
    scene = Scene(world, "a")
    scene.meet("a", MONEY_OUT, ONE)
    lease = world.claim(scene.probe(), scene.me, lane=ONE)
    scene.end(lease, outcome, ONE)
    (pause, *_) = scene.pauses()
    assert (pause.probe_us, pause.probe_document_id) == (world.now_us + PROBE_EVERY_US, None)
    assert scene.state("a") == HELD
    assert scene.probe()


@pytest.mark.parametrize(
    ("settled", "lane"), [(NOT_SENT, ONE), ({"cost_nusd": 0}, TWO)], ids=["not sent", "other key"]
)
def test_a_try_that_says_nothing_of_the_key_is_soon_followed_by_another(
    world: World, settled: dict[str, Any], lane: Lane
) -> None:
    scene = Scene(world, "a")
    scene.meet("a", MONEY_OUT, ONE)
    lease = world.claim(scene.probe(), scene.me, lane=lane)
    scene.end(lease, TRANSIENT, lane, **settled)
    assert scene.state("a") == HELD
    (pause,) = scene.pauses()
    assert pause.probe_us == world.now_us + PROBE_AGAIN_US
    world.now_us += PROBE_AGAIN_US
    assert len(world.end_what_is_over()) == 1


def test_a_try_that_got_lost_on_the_road_is_made_again(world: World) -> None:
    scene = Scene(world, "a")
    scene.meet("a", MONEY_OUT, ONE)
    first = scene.probe()
    world.sql("UPDATE document SET state = 'queued' WHERE id = :id", id=first.document_id)
    (second,) = world.end_what_is_over()
    assert world.try_claim(first, scene.me, lane=ONE) is Refusal.STALE
    assert world.try_claim(second, scene.me, lane=ONE) is None


def test_no_other_document_passes_while_one_tries(world: World) -> None:
    scene = Scene(world, "a", "b")
    scene.meet("a", MONEY_OUT, ONE)
    ticket = scene.probe()
    other = next(row for row in world.rows(scene.batches["a"]) if row.id != ticket.document_id)
    world.sql("UPDATE document SET state = 'ready' WHERE id = :id", id=other.id)
    refusal = world.try_claim(Ticket(other.id, other.turn), scene.me, lane=ONE)
    assert refusal is Refusal.BATCH_NOT_ACTIVE
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    assert world.try_claim(ticket, scene.me, lane=ONE) is None


def test_a_try_waits_until_a_document_is_due(world: World) -> None:
    scene = Scene(world, "a")
    scene.meet("a", MONEY_OUT, ONE)
    world.now_us += PROBE_EVERY_US
    world.sql("UPDATE document SET due_us = :later", later=world.now_us + 10**9)
    assert world.end_what_is_over() == []
    world.now_us += 10**9
    assert len(world.end_what_is_over()) == 1


def test_a_paid_answer_that_waits_to_be_read_is_no_try(world: World) -> None:
    scene = Scene(world, "a")
    lease = scene.call("a", ONE)
    assert world.store(lease)
    bug = replace(TRANSIENT, failure=Failure(Fault.INTERNAL_ERROR, "bug"))
    assert world.finish_all([world.end_with(lease, bug, None)]) == [True]
    scene.meet("a", MONEY_OUT, ONE)
    assert scene.probe().document_id != lease.ticket.document_id


def test_a_batch_that_was_left_behind_by_a_pause_that_ended_goes_on(world: World) -> None:
    scene = Scene(world, "a")
    scene.meet("a", BAD_KEY, ONE)
    world.sql("DELETE FROM key_pause")
    assert scene.is_over()
    world.end_what_is_over()
    assert scene.state("a") == ACTIVE


def test_a_pause_by_hand_outlives_that_of_the_key(world: World) -> None:
    scene = Scene(world, "a", "b")
    scene.meet("a", MONEY_OUT, ONE)
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    with world.ledger.transaction() as connection:
        pause_batch(connection, scene.batches["b"].id, "wait", now_us=world.tick(), by_person=True)
    scene.end(world.claim(scene.probe(), scene.me, lane=ONE), DONE, ONE)
    assert (scene.state("a"), scene.state("b")) == (ACTIVE, (BatchState.PAUSED, None))


def test_a_cancellation_of_the_last_batch_that_a_key_holds_forgets_its_pause(world: World) -> None:
    scene = Scene(world, "a", "b")
    scene.meet("a", BAD_KEY, ONE)
    assert scene.ask("b", ONE) is Refusal.KEY_PAUSED
    for name, left in (("a", 1), ("b", 0)):
        with world.ledger.transaction() as connection:
            found = world.found(scene.batches[name])
            cancel_batch(connection, found, now_us=world.tick())
        assert len(scene.pauses()) == left


def test_what_a_key_went_through_is_written_down(world: World) -> None:
    scene = Scene(world, "a")
    scene.meet("a", MONEY_OUT, ONE)
    scene.end(world.claim(scene.probe(), scene.me, lane=ONE), DONE, ONE)
    with world.ledger.snapshot() as connection:
        kinds = [row.kind for row in events(connection)]
    assert kinds[::-1] == [
        "key_paused",
        "batch_paused",
        "key_probe",
        "batch_resumed",
        "key_resumed",
    ]


def test_a_fault_of_a_key_without_an_address_pauses_its_batch_alone(world: World) -> None:
    scene = Scene(world, "a")
    lease = scene.call("a", ONE)
    assert world.finish(lease, BAD_KEY, cost_nusd=0)
    assert scene.state("a") == (BatchState.PAUSED, None)
    assert scene.pauses() == []
