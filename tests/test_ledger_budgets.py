"""No budget is ever exceeded: two batches and a day, any sizes, fifty at once, crashes and all."""

# ruff: noqa: D102 - the names of rules and invariants are their sentences

import asyncio
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from runner.keys import Ticket
from runner.ledger import Ledger
from runner.ledger.control import raise_day_budget, resume_batch
from runner.ledger.ends import Finish, Settlement
from runner.ledger.feeding import free_answered, orphans
from runner.ledger.gate import Claim, Refusal, claim
from runner.ledger.money import DAY, budget_scope, day_scope, larger_limit_nusd
from runner.ledger.tables import budget
from runner.ledger.workers import bury, take_lead
from runner.model import AttemptState, Failure, Fault
from tests.ledgers import DONE, TRANSIENT, Lease, World, ledger_url

AT_ONCE = 50
DAY_US = 86_400_000_000
AMOUNTS = st.integers(0, 2_000)
LIMITS = st.none() | st.integers(0, 20_000)
LOST = replace(TRANSIENT, failure=Failure(Fault.WORKER_LOST, "lost"))


@dataclass(frozen=True)
class Live:
    """A call in flight and what is held for it."""

    lease: Lease
    hold_nusd: int


class BudgetMachine(RuleBasedStateMachine):
    """Claims of any size against limits of any size; every end, and every worker's death."""

    @initialize(first=LIMITS, second=LIMITS, day=LIMITS)
    def begin(self, first: int | None, second: int | None, day: int | None) -> None:
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._url = ledger_url(Path(self._folder.name))
        self.world = World(Ledger(self._url.__enter__()))
        self.batches = [
            self.world.batch(name, budget_nusd=limit)
            for name, limit in (("a", first), ("b", second))
        ]
        self.day_limit_nusd = day
        self.worker = self.world.worker()
        self.live: list[Live] = []
        self.added = 0

    def teardown(self) -> None:
        assert self.world.problems() == ()
        self.world.ledger.close()
        self._url.__exit__(None, None, None)
        self._folder.cleanup()

    # ------------------------------------------------------------ what may happen

    @rule(holds_nusd=st.lists(AMOUNTS, min_size=1, max_size=AT_ONCE), how=st.integers(0, 2))
    def claim(self, holds_nusd: list[int], how: int) -> None:
        """In one group, one transaction each, or as so many tasks that the writer gathers."""
        for batch in self.batches:
            texts = [f"{batch.name} {self.added + place}" for place in range(len(holds_nusd))]
            self.world.add(batch, *texts, first_position=self.added)
        self.added += len(holds_nusd)
        self.world.now_us += 1_000_000  # what waited for holds is due again
        tickets = self.world.feed(self.worker, window=len(self.live) + len(holds_nusd))
        wishes = [
            self.world.wish(
                ticket, self.worker, hold_nusd=hold_nusd, day_limit_nusd=self.day_limit_nusd
            )
            for ticket, hold_nusd in zip(tickets, holds_nusd, strict=False)
        ]
        answers = (self.in_one_group, self.one_by_one, self.all_at_once)[how](wishes)
        for wish, answer in zip(wishes, answers, strict=True):
            if answer is None:
                assert wish.hold_nusd is not None
                lease = Lease(wish.ticket, wish.lease_token, wish.attempt_id)
                self.live.append(Live(lease, wish.hold_nusd))

    @precondition(lambda self: self.live)
    @rule(
        ends=st.lists(
            st.tuples(
                st.sampled_from(
                    [AttemptState.CONCLUDED, AttemptState.AMBIGUOUS, AttemptState.NOT_SENT]
                ),
                st.floats(0, 1),
            ),
            min_size=1,
            max_size=AT_ONCE,
        )
    )
    def end(self, ends: list[tuple[AttemptState, float]]) -> None:
        finishes = []
        for state, share in ends[: len(self.live)]:
            one = self.live.pop(0)
            cost_nusd = {
                AttemptState.CONCLUDED: int(one.hold_nusd * share),
                AttemptState.NOT_SENT: 0,
            }.get(state)
            unsure = one.hold_nusd if state is AttemptState.AMBIGUOUS else 0
            outcome = DONE if state is AttemptState.CONCLUDED else TRANSIENT
            finishes.append(
                self.world.end(
                    one.lease, outcome, state=state, cost_nusd=cost_nusd, ambiguous_nusd=unsure
                )
            )
        assert all(self.world.finish_all(finishes))

    @rule(answered=st.integers(0, AT_ONCE))
    def crash(self, answered: int) -> None:
        """The worker dies with all its calls; some answers are stored, the rest is lost."""
        for one in self.live[:answered]:
            assert self.world.store(one.lease)
        lost, self.worker = self.worker, self.world.worker(leads=False)
        with self.world.ledger.transaction() as connection:
            assert bury(connection, lost)
            assert take_lead(connection, self.worker.id, instead_of=lost.id)
            left = orphans(connection, now_us=self.world.tick())
            free_answered(connection, [one for one in left if one.answered], now_us=0)
        ends = [
            Finish(
                ticket=one.ticket,
                outcome=LOST,
                signature="",
                now_us=self.world.now_us,
                lease_token=one.lease_token,
                settlement=Settlement(
                    attempt_id=one.attempt_id or "",
                    state=AttemptState.AMBIGUOUS,
                    cost_nusd=None,
                    ambiguous_nusd=one.hold_nusd or 0,
                ),
            )
            for one in left
            if not one.answered
        ]
        assert all(self.world.finish_all(ends))
        self.read_again()
        self.live.clear()

    def read_again(self) -> None:
        """Paid answers that outlived the worker are read, whatever their batch does."""
        for one in self.live:
            row = self.world.row(one.lease.ticket.document_id)
            if self.world.attempt(one.lease.attempt_id).state != AttemptState.ANSWERED:
                continue
            self.world.sql(
                "UPDATE document SET state = 'ready', turn = turn + 1 WHERE id = :id", id=row.id
            )
            ticket = Ticket(row.id, row.turn + 1)
            self.world.sql("UPDATE batch SET state = 'active' WHERE id = :id", id=row.batch_id)
            lease = self.world.claim(
                ticket, self.worker, again_of_stored=True, attempt_id=one.lease.attempt_id
            )
            assert self.world.finish(lease, cost_nusd=one.hold_nusd // 2)

    @rule(place=st.integers(0, 1), more_nusd=st.none() | AMOUNTS, for_today=st.booleans())
    def resume(self, place: int, more_nusd: int | None, *, for_today: bool) -> None:
        limits = self.limits()
        scope = day_scope(self.world.now_us) if for_today else budget_scope(self.batches[place].id)
        before_nusd = limits.get(scope)
        raised = None if more_nusd is None or before_nusd is None else before_nusd + more_nusd
        with self.world.ledger.transaction() as connection:
            if for_today and raised is not None:
                raise_day_budget(connection, raised, now_us=self.world.tick())
            resume_batch(
                connection,
                self.batches[place],
                budget_nusd=None if for_today else raised,
                now_us=self.world.tick(),
            )

    @rule()
    def a_new_day_begins(self) -> None:
        self.world.now_us += DAY_US
        self.world.end_what_is_over()

    # ------------------------------------------------------------ what always holds

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        limits = self.limits()
        with self.world.ledger.snapshot() as connection:
            rows = connection.execute(select(budget)).all()
        for row in rows:
            spent_nusd = row.settled_nusd + row.ambiguous_nusd
            limit_nusd = limits[row.scope]
            assert limit_nusd is None or spent_nusd + row.held_nusd <= limit_nusd, row

    @invariant()
    def everything_balances(self) -> None:
        assert self.world.problems() == ()

    # ------------------------------------------------------------ how

    def limits(self) -> dict[str, int | None]:
        """What each scope may spend."""
        with self.world.ledger.snapshot() as connection:
            rows = connection.execute(select(budget.c.scope, budget.c.limit_nusd))
            return {
                row.scope: larger_limit_nusd(
                    row.limit_nusd, self.day_limit_nusd if row.scope.startswith(DAY) else None
                )
                for row in rows
            }

    def in_one_group(self, wishes: list[Claim]) -> list[Refusal | None]:
        return self.world.claim_all(wishes)

    def one_by_one(self, wishes: list[Claim]) -> list[Refusal | None]:
        return [answer for wish in wishes for answer in self.world.claim_all([wish])]

    def all_at_once(self, wishes: list[Claim]) -> list[Refusal | None]:
        async def ask() -> list[Refusal | None]:
            write = self.world.ledger.write
            return list(await asyncio.gather(*(write(claim, wish) for wish in wishes)))

        return asyncio.run(ask())


TestBudgets = BudgetMachine.TestCase
TestBudgets.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, derandomize=True
)
