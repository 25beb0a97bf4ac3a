"""One document through its turns: a scripted provider behind the seam, all else is real."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import select

from runner.budget import ceiling_nusd
from runner.config import BudgetSettings, ModelSettings, Settings
from runner.errors import ConfigError, RoadError
from runner.keys import Ticket
from runner.lanes import Lanes
from runner.ledger.answers import store_answers
from runner.ledger.calls import events
from runner.ledger.control import cancel_batch, resume_batch
from runner.ledger.deadletters import retry_dead
from runner.ledger.gate import Refusal
from runner.ledger.money import day_scope
from runner.ledger.submission import Batch
from runner.ledger.tables import document
from runner.ledger.workers import WorkerRow
from runner.limiter import Limiter
from runner.limiter.process import ProcessLimiter
from runner.model import (
    Again,
    AttemptState,
    BatchState,
    Call,
    Dead,
    DocumentState,
    Done,
    Fault,
    History,
    Purpose,
    RawAnswer,
    Unanswered,
)
from runner.pacing import Paced, Pacer
from runner.pinned import PinnedJobs
from runner.pipeline import Pipeline, Tools
from runner.prepare import prepare
from runner.prices import PriceList
from runner.provider import Provider
from runner.suspect import Suspect
from runner.turns.turn import Ended
from tests.jobfolders import make_job
from tests.ledgers import World, open_world

INPUT_TOKENS, OUTPUT_TOKENS = 10, 5
PRICED = ModelSettings(input_usd_per_mtok=1, output_usd_per_mtok=2, tpm=1_000_000)
CALL_NUSD = INPUT_TOKENS * 1_000 + OUTPUT_TOKENS * 2_000
DAY_US = 86_400_000_000

Reply = RawAnswer | Unanswered | Exception


def answer(text: str = '{"total": 5}', **changes: Any) -> RawAnswer:
    """A completion as a provider sends it."""
    body: dict[str, Any] = {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS},
        "model": "served",
    }
    return RawAnswer(200, json.dumps(body | changes).encode(), {}, 1_000)


def refusal(status: int, code: str = "", **headers: str) -> RawAnswer:
    """An error as a provider sends it."""
    body = {"error": {"message": "no", "code": code, "type": code}}
    return RawAnswer(status, json.dumps(body).encode(), headers, 1_000)


@dataclass
class Scripted:
    """A provider that gives its replies in turn, and the last one for ever."""

    replies: list[Reply]
    calls: list[Call] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    waits: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, call: Call) -> RawAnswer | Unanswered:
        """See `Provider.call`."""
        self.calls.append(call)
        self.begun.set()
        self.before()
        if self.waits:
            await asyncio.sleep(60)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


@dataclass
class Road:
    """A world with one batch of the tiny job, and a pipeline over it."""

    world: World
    job: Path
    batch: Batch
    worker: WorkerRow
    pipeline: Pipeline
    provider: Scripted
    limiter: ProcessLimiter  # what the limiter without a calendar keeps to
    hindrances: list[str]
    reachable: list[Exception]

    def tickets(self) -> list[Ticket]:
        """What is due by tomorrow, fed."""
        self.world.now_us += DAY_US // 2
        return self.world.feed(self.worker)

    async def turn(self) -> Any:
        """The next turn of every due document; the row of the first one."""
        for ticket in self.tickets():
            await self.pipeline.run_turn(ticket)
        return self.row()

    async def turns(self, most: int = 20) -> int:
        """Turns until nothing is due any more; how many."""
        for done in range(most):
            tickets = self.tickets()
            if not tickets:
                return done
            for ticket in tickets:
                await self.pipeline.run_turn(ticket)
        return most

    def resume(self) -> None:
        """As a person would: a batch of one document pauses at its first bug."""
        with self.world.ledger.transaction() as connection:
            resume_batch(connection, self.batch, budget_nusd=None, now_us=self.world.tick())

    def retry(self) -> None:
        """Queue the first document again, as a person would."""
        with self.world.ledger.transaction() as connection:
            ids = [self.row().id]
            assert retry_dead(connection, ids, pins=None, now_us=self.world.tick()) == ids

    def row(self) -> Any:
        """The first document."""
        return self.world.rows(self.batch)[0]

    def attempts(self) -> list[Any]:
        """The attempts of the calls that the provider has seen."""
        return [self.world.attempt(call.attempt_id) for call in self.provider.calls]


class RoadMaker:
    """Makes the road of one test."""

    def __init__(self, folder: Path, world: World) -> None:
        self._folder = folder
        self._world = world

    def expected_nusd(self) -> int:
        """What the first call of a document is expected to cost."""
        job = make_job(self._folder / "priced")
        settings = Settings(home=self._folder, models={"small": PRICED})
        prepared = prepare(
            PinnedJobs([job.parent]).live("tiny", version=None, models=()),
            text="Total: 5",
            history=History(),
            reask=(),
            settings=settings,
            prices=PriceList(settings),
        )
        assert prepared.expected_nusd is not None
        return prepared.expected_nusd

    def __call__(
        self,
        *replies: Reply,
        texts: tuple[str, ...] = ("Total: 5",),
        budget: BudgetSettings = BudgetSettings(),  # noqa: B008 - frozen
        models: Mapping[str, ModelSettings] = MappingProxyType({"small": PRICED, "large": PRICED}),
        **plan: Any,
    ) -> Road:
        """A road whose provider gives these replies to documents of these texts."""
        world = self._world
        job = make_job(self._folder / "jobs")
        jobs = PinnedJobs([job.parent])
        pinned = jobs.live("tiny", version=None, models=())
        batch = world.batch(
            "tiny-1",
            job="tiny",
            prompt_id=pinned.prompt_id,
            models=pinned.models,
            **plan,
        )
        world.add(batch, *texts)
        settings = Settings(home=self._folder, models=dict(models), budget=budget)
        provider, limiter = Scripted(list(replies) or [answer()]), Limiter(settings)
        worker, hindrances = world.worker(), list[str]()
        reachable: list[Exception] = []

        async def provider_for(model: str, *, simulated: bool) -> Provider:
            if reachable:
                raise reachable.pop()
            return provider

        tools = Tools(
            ledger=world.ledger,
            jobs=jobs,
            settings=settings,
            lanes=Lanes(settings, env={}),
            pacer=Pacer(limiter),
            provider_for=provider_for,
            prices=PriceList(settings),
            suspect=Suspect(settings.home),
            worker_id=lambda: worker.id,
            on_hindrance=hindrances.append,
            rng=random.Random(1),
            clock_s=lambda: world.tick() / 1e6,
        )
        return Road(
            world,
            job,
            batch,
            worker,
            Pipeline(tools),
            provider,
            limiter._own,
            hindrances,
            reachable,
        )


@pytest.fixture
def road_of(tmp_path: Path) -> Iterator[RoadMaker]:
    with open_world(tmp_path) as world:
        yield RoadMaker(tmp_path, world)


async def test_a_good_answer_makes_a_record_with_its_cost(road_of: RoadMaker) -> None:
    road = road_of(answer())
    row = await road.turn()
    assert (row.state, row.attempts, row.cost_nusd) == (DocumentState.DONE, 1, CALL_NUSD)
    (attempt,) = road.attempts()
    assert (attempt.state, attempt.model, attempt.input_tokens, attempt.status) == (
        AttemptState.CONCLUDED,
        "small",
        INPUT_TOKENS,
        200,
    )
    assert attempt.parse_us is not None
    assert attempt.total_us is not None
    assert road.world.money(road.batch) == (0, CALL_NUSD, 0)
    assert road.pipeline.calling == set()


async def test_what_the_estimate_promised_and_the_call_did_not_use_is_given_back(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer())
    await road.turn()
    use = road.limiter.snapshot()["small"]
    assert (use.window_requests, use.window_tokens) == (1, INPUT_TOKENS + OUTPUT_TOKENS)
    assert use.in_flight == 0


async def test_an_answer_that_used_nothing_still_counts_as_a_request(road_of: RoadMaker) -> None:
    road = road_of(answer(usage={"prompt_tokens": 0, "completion_tokens": 0}))
    await road.turn()
    assert road.limiter.snapshot()["small"].window_requests == 1


async def test_an_invalid_answer_is_re_asked_with_its_errors_and_then_done(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer('{"total": "many"}'), answer())
    row = await road.turn()
    assert (row.state, row.reason, row.reasks) == (DocumentState.QUEUED, "schema_invalid", 1)
    row = await road.turn()
    assert (row.state, row.attempts, row.cost_nusd) == (DocumentState.DONE, 2, 2 * CALL_NUSD)
    first, second = (call.body for call in road.provider.calls)
    assert b"- total: " not in first
    assert b"- total: " in second


async def test_a_model_that_fails_for_good_hands_over_to_the_next_one_of_the_ladder(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer("no JSON at all"))
    await road.turns()
    assert [call.model for call in road.provider.calls] == ["small"] * 3 + ["large"] * 2
    row = road.row()
    assert (row.state, row.reason, row.attempts) == (DocumentState.DEAD, "attempts_exhausted", 5)
    assert row.cost_nusd == 5 * CALL_NUSD


async def test_a_check_that_fails_twice_leaves_a_record_for_a_person(road_of: RoadMaker) -> None:
    road = road_of(answer('{"total": -1}'))
    assert await road.turns() == 2
    row = road.row()
    assert (row.state, row.reason) == (DocumentState.REVIEW, "check_failed")


async def test_a_refused_request_is_dead_with_the_providers_words_and_costs_nothing(
    road_of: RoadMaker,
) -> None:
    road = road_of(refusal(413))
    row = await road.turn()
    assert (row.state, row.reason, row.message) == (
        DocumentState.DEAD,
        "bad_request",
        "HTTP 413: no",
    )
    assert road.world.money(road.batch) == (0, 0, 0)


async def test_a_rate_limit_is_free_and_pauses_the_model(road_of: RoadMaker) -> None:
    road = road_of(refusal(429, "rate_limit_exceeded", **{"retry-after": "7"}), answer())
    row = await road.turn()
    assert (row.state, row.attempts, row.deferrals) == (DocumentState.QUEUED, 0, 1)
    assert 6 < road.limiter.snapshot()["small"].paused_s <= 7


async def test_a_call_of_unknown_end_is_spent_at_worst_case_and_tried_once_more(
    road_of: RoadMaker,
) -> None:
    road = road_of(Unanswered(Fault.AMBIGUOUS, "dropped", 9))
    assert await road.turns() == 2
    row = road.row()
    assert (row.state, row.reason, row.attempts) == (DocumentState.DEAD, "ambiguous", 2)
    holds = [attempt.hold_nusd for attempt in road.attempts()]
    assert road.world.money(road.batch) == (0, 0, sum(holds))
    assert [attempt.state for attempt in road.attempts()] == [AttemptState.AMBIGUOUS] * 2


async def test_a_success_that_does_not_say_what_it_used_is_spent_at_worst_case(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer(usage=None))
    row = await road.turn()
    assert row.state == DocumentState.DONE
    (attempt,) = road.attempts()
    assert road.world.money(road.batch) == (0, 0, attempt.hold_nusd)


async def test_a_call_that_was_not_sent_is_free_and_its_rate_comes_back(road_of: RoadMaker) -> None:
    road = road_of(Unanswered(Fault.NOT_SENT, "refused", 1), answer())
    row = await road.turn()
    assert (row.state, row.attempts, row.deferrals, row.calls) == (DocumentState.QUEUED, 0, 1, 0)
    assert road.world.money(road.batch) == (0, 0, 0)
    assert road.attempts()[0].state == AttemptState.NOT_SENT
    use = road.limiter.snapshot()["small"]
    assert (use.window_requests, use.window_tokens, use.in_flight) == (0, 0, 0)
    assert (await road.turn()).state == DocumentState.DONE


async def test_a_bug_in_a_check_keeps_the_paid_answer_and_the_next_turn_reads_it_for_free(
    road_of: RoadMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    road = road_of(answer())
    broken = road.job / "broken"
    broken.touch()
    row = await road.turn()
    assert (row.state, row.reason, row.internal_errors) == (
        DocumentState.QUEUED,
        "internal_error",
        1,
    )
    assert road.attempts()[0].state == AttemptState.ANSWERED
    assert "Total: 5" not in capsys.readouterr().err, "exceptions that quote the text are not shown"
    broken.unlink()
    road.resume()
    row = await road.turn()
    assert (row.state, row.attempts, row.calls, row.cost_nusd) == (
        DocumentState.DONE,
        1,
        1,
        CALL_NUSD,
    )
    assert len(road.provider.calls) == 1


async def test_a_bug_that_stays_ends_the_document_with_its_cost_after_one_call(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer())
    (road.job / "broken").touch()
    for _ in range(3):
        assert await road.turns() == 1
        road.resume()
    row = road.row()
    assert (row.state, row.reason, row.cost_nusd) == (
        DocumentState.DEAD,
        "internal_error",
        CALL_NUSD,
    )
    assert len(road.provider.calls) == 1
    assert road.world.money(road.batch) == (0, CALL_NUSD, 0)


async def test_a_bug_in_a_check_of_what_is_only_tried_is_settled_at_once(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer(), purpose=Purpose.TRY)
    (road.job / "broken").touch()
    (ticket,) = road.tickets()
    ended = await road.pipeline.run_turn(ticket)
    assert isinstance(ended, Again)
    row, (attempt,) = road.row(), road.attempts()
    assert (row.state, row.reason) == (DocumentState.CANCELLED, Fault.INTERNAL_ERROR)
    assert (attempt.state, attempt.cost_nusd) == (AttemptState.CONCLUDED, CALL_NUSD)


async def test_a_turn_says_how_it_ended(road_of: RoadMaker) -> None:
    road = road_of(answer(), refusal(400), texts=("one", "two"))
    first, second = road.tickets()
    assert isinstance(await road.pipeline.run_turn(first), Done)
    assert isinstance(await road.pipeline.run_turn(second), Dead)
    assert await road.pipeline.run_turn(first) is None


async def test_a_turn_that_the_gate_refused_says_why(road_of: RoadMaker) -> None:
    road = road_of(answer(), budget_nusd=1)
    (ticket,) = road.tickets()
    assert await road.pipeline.run_turn(ticket) is Refusal.BUDGET_SPENT


async def test_a_bug_of_a_provider_counts_the_call_as_possibly_paid(road_of: RoadMaker) -> None:
    road = road_of(ValueError("bug"), answer())
    row = await road.turn()
    assert (row.state, row.reason) == (DocumentState.QUEUED, "internal_error")
    (attempt,) = road.attempts()
    assert road.world.money(road.batch) == (0, 0, attempt.hold_nusd)
    assert road.limiter.snapshot()["small"].in_flight == 0


async def test_a_bug_before_the_call_is_sent_costs_no_call(
    road_of: RoadMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = road_of(answer())

    async def broken(_: Pacer, __: Paced) -> None:
        raise ValueError("bug")

    with monkeypatch.context() as patched:
        patched.setattr(Pacer, "until_start", broken)
        row = await road.turn()
    assert (row.state, row.reason, row.calls) == (DocumentState.QUEUED, "internal_error", 0)
    assert road.world.money(road.batch) == (0, 0, 0)
    assert road.limiter.snapshot()["small"].window_requests == 0
    road.resume()
    row = await road.turn()
    assert (row.state, row.attempts, row.calls) == (DocumentState.DONE, 1, 1)


async def test_a_document_that_cannot_be_loaded_is_put_off_and_ends_no_worker(
    road_of: RoadMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    road = road_of(answer())
    road.world.sql("ALTER TABLE blob RENAME COLUMN zstd TO gone")
    (ticket,) = road.tickets()
    assert await road.pipeline.run_turn(ticket) is None
    row = road.row()
    assert (row.state, row.deferrals, row.calls) == (DocumentState.QUEUED, 0, 0)
    assert row.due_us > road.world.now_us + 20_000_000
    assert f"document {row.id} cannot be loaded: " in road.hindrances[0]
    assert f"internal error on {row.id}: " in capsys.readouterr().err
    road.world.sql("ALTER TABLE blob RENAME COLUMN gone TO zstd")
    assert (await road.turn()).state == DocumentState.DONE


async def test_a_stale_ticket_does_nothing(road_of: RoadMaker) -> None:
    road = road_of(answer())
    (ticket,) = road.tickets()
    await road.pipeline.run_turn(Ticket(ticket.document_id, ticket.turn + 1))
    await road.pipeline.run_turn(Ticket("dnobody", 1))
    assert road.provider.calls == []
    await road.pipeline.run_turn(ticket)
    await road.pipeline.run_turn(ticket)
    assert len(road.provider.calls) == 1


async def test_a_spent_budget_pauses_before_the_call_and_gives_the_rate_back(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer(), budget_nusd=1)
    row = await road.turn()
    assert row.state == DocumentState.QUEUED
    found = road.world.found(road.batch)
    assert (found.state, road.provider.calls) == (BatchState.PAUSED, [])
    use = road.limiter.snapshot()["small"]
    assert (use.window_requests, use.in_flight) == (0, 0)


@asynccontextmanager
async def running(road: Road) -> AsyncIterator["asyncio.Task[Ended]"]:
    """The turn of the one document, as the task that a worker cancels."""
    (ticket,) = road.tickets()
    task = asyncio.create_task(road.pipeline.run_turn(ticket))
    yield task
    await asyncio.gather(task, return_exceptions=True)


async def test_a_drain_while_waiting_for_rate_releases_the_document(road_of: RoadMaker) -> None:
    road = road_of(answer())
    road.limiter.pause("small", seconds=60)
    async with running(road) as task:
        await asyncio.sleep(0.1)
        task.cancel()
    row = road.row()
    assert (row.state, row.calls, row.deferrals) == (DocumentState.QUEUED, 0, 0)
    assert road.provider.calls == []


async def test_a_drain_while_loading_releases_the_document(road_of: RoadMaker) -> None:
    road = road_of(answer())
    async with running(road) as task:
        await asyncio.sleep(0)
        task.cancel()
    row = road.row()
    assert (row.state, row.calls, row.deferrals) == (DocumentState.QUEUED, 0, 0)
    assert road.provider.calls == []


async def test_a_drain_that_meets_the_gate_sends_nothing_and_owes_nothing(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer())
    (ticket,) = road.tickets()
    # the claim waits for the lock, and the cancellation comes while it does
    with road.world.ledger.transaction() as connection:
        connection.execute(select(document).with_for_update())
        task = asyncio.create_task(road.pipeline.run_turn(ticket))
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.sleep(0.1)
    await asyncio.gather(task, return_exceptions=True)
    row = road.row()
    assert (row.state, row.lease_token, row.attempts) == (DocumentState.QUEUED, None, 0)
    assert road.provider.calls == []
    assert road.world.money(road.batch) == (0, 0, 0)
    assert row.ambiguous_nusd == 0
    assert road.limiter.snapshot()["small"].in_flight == 0


async def test_an_abort_during_the_call_is_ambiguous(road_of: RoadMaker) -> None:
    road = road_of(answer())
    road.provider.waits = True
    async with running(road) as task:
        await asyncio.wait_for(road.provider.begun.wait(), 30)
        assert road.pipeline.calling
        task.cancel()
    row = road.row()
    assert (row.state, row.reason, row.ambiguous) == (DocumentState.QUEUED, "ambiguous", 1)
    assert road.attempts()[0].state == AttemptState.AMBIGUOUS
    assert road.pipeline.calling == set()
    assert road.limiter.snapshot()["small"].in_flight == 0


async def test_an_abort_after_a_call_that_was_not_sent_owes_nothing(
    road_of: RoadMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = road_of(Unanswered(Fault.NOT_SENT, "refused", 1))
    asked = asyncio.Event()

    async def hangs(*_: Any) -> bool:
        asked.set()
        await asyncio.sleep(60)
        return False

    monkeypatch.setattr(Limiter, "is_out", hangs)  # as while Redis does not answer
    async with running(road) as task:
        await asyncio.wait_for(asked.wait(), 30)
        task.cancel()
    row = road.row()
    assert (row.state, row.attempts, row.ambiguous) == (DocumentState.QUEUED, 0, 0)
    assert road.attempts()[0].state == AttemptState.NOT_SENT
    assert road.world.money(road.batch) == (0, 0, 0)


async def test_an_abort_while_the_answer_is_being_stored_keeps_the_answer(
    road_of: RoadMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = road_of(answer())
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Any, answers: Any) -> list[bool]:
        loop.call_soon_threadsafe(entered.set)
        return store_answers(connection, answers)

    monkeypatch.setattr("runner.pipeline.store_answers", slow)
    async with running(road) as task:
        await asyncio.wait_for(entered.wait(), 30)
        task.cancel()
    await road.world.ledger.write_one(lambda _: None)  # the store is committed
    (attempt,) = road.attempts()
    assert attempt.state in {AttemptState.ANSWERED, AttemptState.CONCLUDED}
    assert road.world.money(road.batch)[2] == 0, "an answered call is never ambiguous"


async def test_a_batch_cancelled_during_the_call_settles_it_and_ends_cancelled(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer())

    def cancel() -> None:
        with road.world.ledger.transaction() as connection:
            cancel_batch(connection, road.batch, now_us=road.world.tick())

    road.provider.before = cancel
    row = await road.turn()
    assert (row.state, row.cost_nusd) == (DocumentState.CANCELLED, CALL_NUSD)


async def test_a_worker_that_cannot_load_the_job_releases_it_free_and_says_so(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer())
    road.world.sql("UPDATE batch SET prompt_id = 'other'")
    row = await road.turn()
    assert (row.state, row.deferrals, row.calls) == (DocumentState.QUEUED, 0, 0)
    assert row.due_us > road.world.now_us + 20_000_000
    assert "the batch pinned other" in road.hindrances[0]


@pytest.mark.parametrize(
    ("error", "reason", "state"),
    [
        (ConfigError("no key"), "bad_key", BatchState.PAUSED),
        (RoadError("no server"), "not_sent", BatchState.ACTIVE),
    ],
)
async def test_a_provider_that_cannot_be_had_costs_no_call(
    road_of: RoadMaker, error: Exception, reason: str, state: BatchState
) -> None:
    road = road_of(answer())
    road.reachable.append(error)
    row = await road.turn()
    assert (row.state, row.reason, row.calls) == (DocumentState.QUEUED, reason, 0)
    assert road.world.found(road.batch).state is state
    assert road.limiter.snapshot() == {}


async def test_a_document_larger_than_the_limit_is_dead_by_name_without_a_call(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer(), texts=("word " * 1_500_000,))
    row = await road.turn()
    assert (row.state, row.reason, row.calls) == (DocumentState.DEAD, "over_rate_limit", 0)
    assert "at most 1000000 a minute" in row.message


async def test_a_key_out_of_money_pauses_for_every_batch_and_charges_no_attempt(
    road_of: RoadMaker,
) -> None:
    road = road_of(refusal(429, "insufficient_quota"), texts=("Total: 5", "Total: 6"))
    other = road.world.batch("tiny-2", job="tiny", prompt_id=road.batch.prompt_id)
    road.world.add(other, "Total: 7")
    for ticket in road.tickets():
        await road.pipeline.run_turn(ticket)
    assert len(road.provider.calls) == 1
    lane = Lanes(Settings(home=road.job), env={}).of("small")
    for batch in (road.batch, other):
        found = road.world.found(batch)
        assert (found.state, found.pause_scope) == (BatchState.PAUSED, f"key:{lane.key_id}")
        assert {row.state for row in road.world.rows(batch)} == {DocumentState.QUEUED}
        assert {row.attempts for row in road.world.rows(batch)} == {0}


async def test_a_key_that_may_not_use_a_model_pauses_for_that_model(road_of: RoadMaker) -> None:
    road = road_of(refusal(403))
    await road.turn()
    lane = Lanes(Settings(home=road.job), env={}).of("small")
    assert road.world.found(road.batch).pause_scope == f"lane:{lane.id}"


async def test_the_day_budget_of_the_settings_travels_to_the_gate(road_of: RoadMaker) -> None:
    road = road_of(answer(), budget=BudgetSettings(day_usd=0.0000001))
    await road.turn()
    found = road.world.found(road.batch)
    assert (found.state, road.provider.calls) == (BatchState.PAUSED, [])
    assert found.pause_scope == day_scope(road.world.now_us)


def ceiling(nusd: int) -> BudgetSettings:
    """A ceiling of every document."""
    return BudgetSettings(document_usd=nusd / 1e9)


async def test_a_document_whose_next_call_would_exceed_its_ceiling_is_dead_with_the_figures(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer("no JSON"), budget=ceiling(road_of.expected_nusd() + CALL_NUSD))
    assert await road.turns() == 3
    row = road.row()
    assert (row.state, row.reason, row.calls) == (DocumentState.DEAD, "over_ceiling", 2)
    assert row.message.startswith("0.00004 USD spent and ")
    assert f"`runner dead retry {row.id}`" in row.message
    assert row.signature.startswith("over_ceiling: # USD spent and # USD expected")
    assert road.world.money(road.batch) == (0, 2 * CALL_NUSD, 0)
    assert len(road.provider.calls) == 2


async def test_a_retry_begins_a_new_life_with_the_whole_ceiling(road_of: RoadMaker) -> None:
    road = road_of(answer("no JSON"), budget=ceiling(road_of.expected_nusd() + CALL_NUSD))
    for calls in (2, 4):
        await road.turns()
        assert (road.row().reason, road.row().calls) == ("over_ceiling", calls)
        road.retry()
        assert road.row().spent_before_nusd == calls * CALL_NUSD


async def test_a_ceiling_is_compared_with_the_expected_cost_and_never_with_the_hold(
    road_of: RoadMaker,
) -> None:
    expected_nusd = road_of.expected_nusd()
    road = road_of(answer(), budget=ceiling(expected_nusd))
    assert (await road.turn()).state == DocumentState.DONE
    (attempt,) = road.attempts()
    assert attempt.hold_nusd > expected_nusd


async def test_a_call_of_unknown_end_counts_at_its_worst_for_the_ceiling(
    road_of: RoadMaker,
) -> None:
    dropped = Unanswered(Fault.AMBIGUOUS, "dropped", 9)
    road = road_of(dropped, budget=ceiling(2 * road_of.expected_nusd()))
    await road.turns()
    row = road.row()
    assert (row.reason, row.calls) == ("over_ceiling", 1)


async def test_a_document_is_told_of_once_in_a_life_when_most_of_its_ceiling_is_spent(
    road_of: RoadMaker,
) -> None:
    dear = answer("no JSON", usage={"prompt_tokens": 10, "completion_tokens": 100})
    road = road_of(dear, budget=ceiling(road_of.expected_nusd() + 210_000))
    for lives in (1, 2):
        await road.turns()
        assert road.row().reason == "over_ceiling"
        with road.world.ledger.snapshot() as connection:
            told = [row.message for row in events(connection) if row.kind == "ceiling_alert"]
        assert len(told) == lives
        assert told[0].startswith("0.000420 of its ceiling of ")
        road.retry()


async def test_a_document_with_a_ceiling_is_not_called_at_a_price_that_nobody_knows(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer(), budget=ceiling(10**9), models={"small": ModelSettings()})
    await road.turn()
    assert road.provider.calls == []
    reason = road.world.found(road.batch).pause_reason
    assert reason == "price of model small unknown, so its budget cannot be kept"


def test_a_jobs_own_ceiling_goes_before_the_general_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, budget=ceiling(7))
    assert ceiling_nusd(0.5, settings) == 500_000_000
    assert ceiling_nusd(None, settings) == 7
    assert ceiling_nusd(None, Settings(home=tmp_path)) is None


async def test_a_document_that_two_workers_died_of_is_dead_before_the_job_s_code_sees_it(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer())
    road.world.sql("UPDATE document SET crashes = 1")
    assert (await road.turn()).state == DocumentState.DONE, "one crash may be a coincidence"
    road.world.add(road.batch, "Total: 6", first_position=1)
    road.world.sql("UPDATE document SET crashes = 2 WHERE position = 1")
    await road.turn()
    row = road.world.rows(road.batch)[1]
    assert (row.state, row.reason, row.calls) == (DocumentState.DEAD, "poison", 0)
    assert len(road.provider.calls) == 1
