"""The depth of the past is what somebody would have counted who was there."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.ledger import depth
from runner.ledger.deadletters import retry_dead
from runner.ledger.depth import Depth, Moments, past_depth
from runner.ledger.reviews import Decision, decide
from runner.model import OPEN_STATES, TERMINAL_STATES, Decided, DocumentState, Outcome
from tests.ledgers import DEAD, DONE, REVIEW, TRANSIENT, Lease, World, open_world

STEP_US, STEPS = 1_000_000, 40


def looked_at(world: World, moments: Moments) -> list[Depth]:
    with world.ledger.snapshot() as connection:
        return past_depth(connection, moments, documents=1)


@dataclass
class Happening:
    """What happens to one batch, drawn from a seed."""

    world: World
    chance: random.Random
    under_way: list[tuple[Lease, int]] = field(default_factory=list)
    retried: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.batch, self.worker = self.world.batch(), self.world.worker()

    def act(self) -> None:
        """Something."""
        chance = self.chance
        chance.choice([self.submit, self.call, self.end, self.end, self.retry])()

    def submit(self) -> None:
        """Some documents come."""
        texts = [f"{self.chance.random()}" for _ in range(self.chance.randrange(1, 5))]
        self.world.add(self.batch, *texts, first_position=len(self.world.rows(self.batch)))

    def call(self) -> None:
        """Calls begin."""
        for ticket in self.world.feed(self.worker, window=3):
            lease = self.world.claim(ticket, self.worker)
            self.under_way.append((lease, self.world.now_us))

    def end(self) -> None:
        """A call ends."""
        if self.under_way:
            lease, began_us = self.under_way.pop(self.chance.randrange(len(self.under_way)))
            self.world.store(lease)
            outcomes: list[Outcome] = [DONE, DONE, DEAD, REVIEW, TRANSIENT]
            outcome = self.chance.choice(outcomes)
            self.world.finish(lease, outcome, total_us=self.world.now_us - began_us)

    def retry(self) -> None:
        """A dead letter is retried, each once."""
        dead = [row.id for row in self.world.rows(self.batch) if row.state == DocumentState.DEAD]
        for one in [one for one in dead if one not in self.retried][:1]:
            self.retried.add(one)
            with self.world.ledger.transaction() as connection:
                retry_dead(connection, [one], pins=None, now_us=self.world.tick())


@pytest.mark.parametrize("seed", range(3))
def test_it_says_what_was_counted_at_the_time(tmp_path: Path, seed: int) -> None:
    with open_world(tmp_path) as world:
        happening = Happening(world, random.Random(seed))
        first_us = world.now_us + STEP_US
        counted = []
        for number in range(STEPS):
            for _ in range(6):
                happening.act()
            world.now_us = first_us + number * STEP_US
            states = world.states(happening.batch)
            waits = sum(states.get(state, 0) for state in OPEN_STATES)
            counted.append((waits, states.get(DocumentState.RUNNING, 0)))
        moments = Moments(first_us=first_us, step_us=STEP_US, count=STEPS)
        found = looked_at(world, moments)
        assert [(one.open, one.running) for one in found] == counted
        assert max(running for _, running in counted) > 1, "void: nothing ran"
        assert happening.retried, "void: nothing was retried"
        ended = sum(world.states(happening.batch).get(state, 0) for state in TERMINAL_STATES)
        before = Moments(first_us=first_us, step_us=STEP_US, count=STEPS + 1)
        assert 0 < sum(one.ended for one in looked_at(world, before)) <= ended


def test_a_review_waits_for_a_person_and_not_in_the_queue(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        batch, worker = world.batch(), world.worker()
        world.add(batch, "one")
        first_us = world.now_us + 1
        world.turn(worker, REVIEW, total_us=1_000)
        world.now_us = first_us + 5 * STEP_US
        (row,) = world.rows(batch)
        decision = Decision(
            document_id=row.id, decided=Decided.ACCEPTED, reviewer="ann", now_us=world.tick()
        )
        with world.ledger.transaction() as connection:
            assert decide(connection, [decision]) == [None]
        moments = Moments(first_us=first_us, step_us=STEP_US, count=8)
        assert [one.open for one in looked_at(world, moments)] == [1, *[0] * 7]


def test_too_many_documents_or_calls_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_world(tmp_path) as world:
        worker = world.worker()
        first_us = world.now_us
        for number in range(4):
            world.add(world.batch(f"b{number}"), "one")
            world.turn(worker)
            world.now_us += STEP_US
        moments = Moments(first_us=first_us, step_us=STEP_US, count=5)
        assert None not in [one.running for one in looked_at(world, moments)]
        monkeypatch.setattr(depth, "CALLS_MAX", 2)
        unknown = [one.running is None for one in looked_at(world, moments)]
        assert unknown == sorted(unknown, reverse=True)
        assert (unknown[0], unknown[-1]) == (True, False)
        with world.ledger.snapshot() as connection:
            assert past_depth(connection, moments, documents=depth.DOCUMENTS_MAX + 1) == []
