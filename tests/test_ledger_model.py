"""A state machine over the whole ledger: after every step all documents and all money add up."""

# ruff: noqa: D102 - the names of rules and invariants are their sentences

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.ledger import Ledger
from runner.ledger.control import cancel_batch, resume_batch
from runner.ledger.deadletters import DeadFilter, list_dead, retry_dead
from runner.ledger.ends import Finish, Settlement
from runner.ledger.feeding import free_answered, orphans, ready_tickets, take_back
from runner.ledger.gate import Refusal, Release, release
from runner.ledger.pausing import pause_batch
from runner.ledger.reviews import Decision, NotDecided, ReviewFilter, decide, list_waiting
from runner.ledger.sampling import add_to_sample, draw
from runner.ledger.standing import batch_standing
from runner.ledger.submission import Batch
from runner.ledger.work import load
from runner.ledger.workers import WorkerRow, bury, take_lead
from runner.model import TERMINAL_STATES, AttemptState, Decided, Failure, Fault, Outcome
from tests.ledgers import (
    COST_NUSD,
    DEAD,
    DEFERRED,
    DONE,
    HOLD_NUSD,
    REVIEW,
    TRANSIENT,
    Lease,
    World,
    ledger_url,
)

BUG = replace(DEFERRED, failure=Failure(Fault.INTERNAL_ERROR, "bug"))
LOST = replace(TRANSIENT, failure=Failure(Fault.AMBIGUOUS, "lost"))
ALIKE = replace(
    DEFERRED, alike_pauses=True, failure=Failure(Fault.REQUEST_REFUSED, "HTTP 400: schema")
)
OUTCOMES: list[Outcome] = [DONE, REVIEW, DEAD, TRANSIENT, DEFERRED, ALIKE]
PLACES = st.integers(0, 1_000)


class LedgerMachine(RuleBasedStateMachine):
    """Everything that can happen to three batches and their workers, in any order."""

    @initialize(budget_nusd=st.none() | st.integers(0, 8 * HOLD_NUSD))
    def begin(self, budget_nusd: int | None) -> None:
        # in memory where the system offers it: what is at stake here is logic, not durability
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._url = ledger_url(Path(self._folder.name))
        self.world = World(Ledger(self._url.__enter__()))
        self.batches = [self.world.batch("a", budget_nusd=budget_nusd)]
        self.batches += [self.world.batch(name) for name in ("b", "c")]
        self.workers = [self.world.worker(), self.world.worker()]
        self.leader = self.workers[0]
        self.leases: list[tuple[Lease, WorkerRow]] = []
        self.old: list[Finish] = []
        self.provider_nusd = 0  # what calls that were answered cost
        self.settled_nusd = 0  # what the ledger was told of it
        self.added = 0
        for place in range(len(self.batches)):
            self.submit(place=place, count=3, bad=False)

    def teardown(self) -> None:
        try:
            self.leave_nothing_open()
            assert self.world.problems() == ()
        finally:
            self.world.ledger.close()
        self._url.__exit__(None, None, None)
        self._folder.cleanup()

    # ------------------------------------------------------------ what may happen

    @rule(place=PLACES, count=st.integers(1, 4), bad=st.booleans())
    def submit(self, place: int, count: int, *, bad: bool) -> None:
        texts: list[str | None] = [f"text {self.added + number}" for number in range(count)]
        batch = self.batch(place)
        self.world.add(batch, *texts, *([None] if bad else []), first_position=self.added)
        self.added += count

    @rule(window=st.integers(1, 8))
    def feed(self, window: int) -> None:
        self.world.feed(self.leader, window=window)

    @rule(place=PLACES, who=PLACES)
    def claim(self, place: int, who: int) -> None:
        ticket = self.pick(self.ready(), place)
        if ticket is None:
            return
        worker = self.workers[who % len(self.workers)]
        with self.world.ledger.snapshot() as connection:
            (work,) = load(connection, [ticket])
        assert work is not None
        changes: dict[str, Any] = {}
        if work.stored is not None:
            changes = {"again_of_stored": True, "attempt_id": work.stored.attempt_id}
        wish = self.world.wish(ticket, worker, **changes)
        # the same group twice: as after a commit of unknown end
        for _ in range(2):
            answer = self.world.claim_all([wish])[0]
            if answer is not None:
                assert work.stored is None or answer is not Refusal.BUDGET_SPENT
                return
        self.leases.append((Lease(ticket, wish.lease_token, wish.attempt_id), worker))

    @rule(window=st.integers(4, 12), bugs=st.integers(0, 2), cancelled=st.booleans())
    def answer_everything(self, window: int, bugs: int, *, cancelled: bool) -> None:
        """A stretch in which all goes well up to the answer, which some fail to read."""
        self.world.feed(self.leader, window=window)
        for place in range(len(self.ready())):
            self.claim(place=place, who=place)
        for place in range(len(self.leases)):
            self.store(place=place)
        for _ in range(min(bugs, len(self.leases))):
            self.stumble_over_our_own_bug(place=0, cancelled=cancelled)

    @precondition(lambda self: self.leases)
    @rule(place=PLACES)
    def store(self, place: int) -> None:
        lease, _ = self.leases[place % len(self.leases)]
        waits = self.world.attempt(lease.attempt_id).state == AttemptState.INTENT
        if self.world.store(lease) and waits:
            self.provider_nusd += COST_NUSD

    @precondition(lambda self: self.leases)
    @rule(place=PLACES, outcome=st.sampled_from(OUTCOMES))
    def finish(self, place: int, outcome: Outcome) -> None:
        lease, _ = self.leases.pop(place % len(self.leases))
        call = self.world.attempt(lease.attempt_id)
        if call.state == AttemptState.ANSWERED:
            end = self.world.end(lease, outcome)
        else:
            unsent = outcome is DEFERRED
            end = self.world.end(
                lease,
                DEFERRED if unsent else LOST,
                state=AttemptState.NOT_SENT if unsent else AttemptState.AMBIGUOUS,
                cost_nusd=0 if unsent else None,
                ambiguous_nusd=0 if unsent else HOLD_NUSD,
            )
        answers = self.world.finish_all([end, end])
        assert answers[0] == answers[1]
        if answers[0] and call.state == AttemptState.ANSWERED:
            self.settled_nusd += COST_NUSD
        self.old.append(end)

    @precondition(lambda self: self.leases)
    @rule(place=PLACES, cancelled=st.booleans())
    def stumble_over_our_own_bug(self, place: int, *, cancelled: bool) -> None:
        """A paid answer goes back to be read again, perhaps after a cancellation."""
        lease, _ = self.leases[place % len(self.leases)]
        if self.world.attempt(lease.attempt_id).state == AttemptState.ANSWERED:
            del self.leases[place % len(self.leases)]
            self.world.finish_all([self.world.end_with(lease, BUG, None)])
            if cancelled:
                batch_id = self.world.row(lease.ticket.document_id).batch_id
                self.cancel([batch.id for batch in self.batches].index(batch_id))

    @precondition(lambda self: self.old)
    @rule(place=PLACES)
    def finish_once_more(self, place: int) -> None:
        assert self.world.finish_all([self.old[place % len(self.old)]]) == [False]

    @rule(place=PLACES)
    def let_go(self, place: int) -> None:
        ticket = self.pick(self.ready(), place)
        if ticket is not None:
            with self.world.ledger.transaction() as connection:
                release(connection, [Release(ticket, self.world.tick())])

    @rule(place=PLACES)
    def lose_from_the_road(self, place: int) -> None:
        ticket = self.pick(self.ready(), place)
        if ticket is not None:
            with self.world.ledger.transaction() as connection:
                take_back(connection, [ticket], now_us=self.world.tick())

    @rule(place=PLACES)
    def lose_a_worker(self, place: int) -> None:
        lost = self.workers.pop(place % len(self.workers))
        born = self.world.worker(leads=False)
        self.workers.append(born)
        with self.world.ledger.transaction() as connection:
            bury(connection, lost)
            if lost is self.leader:
                assert take_lead(connection, born.id, instead_of=lost.id)
                self.leader = born

    @rule()
    def sweep(self) -> None:
        now_us = self.world.tick()
        with self.world.ledger.transaction() as connection:
            left = orphans(connection, now_us=now_us)
            free_answered(connection, [one for one in left if one.answered], now_us=now_us)
        for one in left:
            if one.answered:
                continue
            assert one.attempt_id is not None
            end = Finish(
                ticket=one.ticket,
                outcome=LOST,
                signature="",
                now_us=now_us,
                lease_token=one.lease_token,
                settlement=Settlement(
                    attempt_id=one.attempt_id,
                    state=AttemptState.AMBIGUOUS,
                    cost_nusd=None,
                    ambiguous_nusd=one.hold_nusd or 0,
                ),
            )
            assert self.world.finish_all([end]) == [True]

    @rule()
    def retry(self) -> None:
        with self.world.ledger.transaction() as connection:
            ids = [letter.document_id for letter in list_dead(connection, DeadFilter())]
            retried = retry_dead(connection, ids, pins=None, now_us=self.world.tick())
            assert retry_dead(connection, ids, pins=None, now_us=self.world.tick()) == []
        assert set(retried) <= set(ids)

    @rule(place=PLACES, decided=st.sampled_from(Decided))
    def review(self, place: int, decided: Decided) -> None:
        with self.world.ledger.snapshot() as connection:
            waiting = list_waiting(connection, ReviewFilter())
        one = self.pick(waiting, place)
        if one is None:
            return
        decision = Decision(
            document_id=one.document_id,
            decided=decided,
            reviewer="a person",
            now_us=self.world.tick(),
            data_json='{"a":3}' if decided is Decided.CORRECTED else None,
        )
        with self.world.ledger.transaction() as connection:
            first, second = decide(connection, [decision, decision])
        assert first in (None, NotDecided.ONLY_FLAGGED, NotDecided.CANNOT_RUN)
        assert second is not None

    @rule(place=PLACES)
    def sample(self, place: int) -> None:
        with self.world.ledger.transaction() as connection:
            drawn = draw(connection, self.batch(place).id, percent=50)
            assert add_to_sample(connection, drawn.new_ids) == len(drawn.new_ids)
            assert draw(connection, self.batch(place).id, percent=50).new_ids == ()

    @rule(place=PLACES)
    def pause(self, place: int) -> None:
        with self.world.ledger.transaction() as connection:
            pause_batch(connection, self.batch(place).id, "a person", now_us=self.world.tick())

    @rule(place=PLACES, budget_nusd=st.none() | st.just(1_000 * HOLD_NUSD))
    def resume(self, place: int, budget_nusd: int | None) -> None:
        with self.world.ledger.transaction() as connection:
            resume_batch(
                connection, self.batch(place), budget_nusd=budget_nusd, now_us=self.world.tick()
            )

    @rule(place=PLACES)
    def cancel(self, place: int) -> None:
        with self.world.ledger.transaction() as connection:
            cancel_batch(connection, self.batch(place), now_us=self.world.tick())

    # ------------------------------------------------------------ what always holds

    @invariant()
    def everything_balances(self) -> None:
        assert self.world.problems() == ()

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        with self.world.ledger.snapshot() as connection:
            for batch in self.batches:
                found = batch_standing(connection, batch)
                spent = found.settled_nusd + found.ambiguous_nusd + found.held_nusd
                assert found.limit_nusd is None or spent <= found.limit_nusd

    @invariant()
    def what_was_told_of_answers_is_what_is_settled(self) -> None:
        settled = sum(self.world.money(batch)[1] for batch in self.batches)
        assert settled == self.settled_nusd <= self.provider_nusd

    def leave_nothing_open(self) -> None:
        """From any state, workers that go on bring every document to an end."""
        for lease, _ in self.leases:
            if self.world.store(lease):
                self.world.finish(lease)
        for batch in self.batches:
            with self.world.ledger.transaction() as connection:
                resume_batch(connection, batch, budget_nusd=10**12, now_us=self.world.tick())
        self.sweep()
        while tickets := self.world.feed(self.leader) or self.ready():
            for ticket in tickets:
                self.read_or_call(ticket)
        for batch in self.batches:
            assert set(self.world.states(batch)) <= set(TERMINAL_STATES)
            assert self.world.money(batch)[0] == 0

    # ------------------------------------------------------------ how

    def read_or_call(self, ticket: Any) -> None:
        with self.world.ledger.snapshot() as connection:
            (work,) = load(connection, [ticket])
        assert work is not None
        stored = work.stored
        changes: dict[str, Any] = {}
        if stored is not None:
            changes = {"again_of_stored": True, "attempt_id": stored.attempt_id}
        lease = self.world.claim(ticket, self.leader, **changes)
        if stored is None:
            assert self.world.store(lease)
        assert self.world.finish(lease)

    def batch(self, place: int) -> Batch:
        return self.batches[place % len(self.batches)]

    def ready(self) -> list[Any]:
        with self.world.ledger.snapshot() as connection:
            return sorted(ready_tickets(connection), key=lambda ticket: ticket.document_id)

    def pick(self, some: list[Any], place: int) -> Any:
        return some[place % len(some)] if some else None


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, derandomize=True
)
