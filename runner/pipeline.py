"""The road of one document through one turn, top to bottom.

    load ▸ prepare ▸ limiter ▸ hold + intent ▸ call ▸ raw answer stored ▸ read ▸ validate ▸ Outcome

Steps run in a straight line; what went wrong is a value; `decide` turns it into an outcome; the
ledger writes it. The one broad catch is `run_turn`, the top of a document's life.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runner.budget import day_budget_nusd
from runner.completion import Reading, read_answer
from runner.config import Settings
from runner.crashpoints import Point, reach
from runner.errors import ConfigError, JobError, RoadError
from runner.keys import Ticket, new_id
from runner.lanes import Lane, Lanes
from runner.ledger import Ledger
from runner.ledger.answers import Answer, store_answers
from runner.ledger.calls import split_request
from runner.ledger.ends import Finish, Settlement
from runner.ledger.events import note
from runner.ledger.gate import Claim, Release, claim, release
from runner.ledger.outcomes import finish
from runner.ledger.work import load
from runner.limiter import Grant, OverLimitError, Postponed
from runner.model import (
    Call,
    Dead,
    DeadReason,
    Done,
    Failure,
    Fault,
    Outcome,
    RawAnswer,
    Unanswered,
    Unconfirmed,
)
from runner.pacing import Paced, Pacer
from runner.pinned import PinnedJobs
from runner.prepare import Prepared, prepare
from runner.prices import PriceList
from runner.provider import Provider
from runner.retry import signature
from runner.suspect import Suspect
from runner.tracing import CALL, LIMITER_WAIT, VALIDATE, Traces
from runner.turns.ending import outcome_of, settlement_of, unsent
from runner.turns.stops import over_ceiling, poison, too_long
from runner.turns.telling import tell_bug, tell_end, told_of
from runner.turns.turn import Ended, Turn
from runner.validate import validate

CANNOT_LOAD_WAIT_S = 30


class ProviderFor(Protocol):
    """Gives the provider that serves a model now."""

    async def __call__(self, model: str, *, simulated: bool) -> Provider:
        """Raise ConfigError when the model cannot be called, RoadError when its server is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The parts a turn works with, built once per process and passed in."""

    ledger: Ledger
    jobs: PinnedJobs
    settings: Settings
    lanes: Lanes
    pacer: Pacer
    provider_for: ProviderFor
    prices: PriceList
    suspect: Suspect
    worker_id: Callable[[], str]
    on_hindrance: Callable[[str], None]  # what keeps this worker from a document, for `status`
    rng: random.Random
    streams: bool = False  # answers are to come as they grow
    traces: Traces | None = None  # who is told of turns that have ended
    clock_s: Callable[[], float] = time.time
    monotonic_ns: Callable[[], int] = time.monotonic_ns

    def now_us(self) -> int:
        """The wall clock, for records."""
        return round(self.clock_s() * 1e6)


class Pipeline:
    """Takes tickets through their turn. `calling` are those past the gate: money is at stake."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._day_limit_nusd = day_budget_nusd(tools.settings)
        self.calling: set[Ticket] = set()

    async def run_turn(self, ticket: Ticket) -> Ended:
        """Take one document through one turn, and say how it ended; a stale ticket is passed over.

        Cancelled before the gate, the document is released; cancelled during the call, the call
        counts as possibly paid. Any other exception is a bug: it is written down and the document
        comes back later. Raises one only when that cannot be written down: the document is leased
        then for as long as this worker lives.
        """
        try:
            turn = await self._begin(ticket)
        except asyncio.CancelledError:
            await self._release(ticket)
            return None
        except Exception as error:  # noqa: BLE001 - what cannot be loaded is to end no worker
            bug = tell_bug(ticket, error)
            await self._put_off(ticket, f"document {ticket.document_id} cannot be loaded: {bug}")
            return None
        if turn is None:
            return None
        try:
            await self._take(turn)
        except asyncio.CancelledError:
            await self._abandon(turn)
        except Exception as error:  # noqa: BLE001 - the top of a document's life
            await self._end_by_bug(turn, error)
        finally:
            self.calling.discard(ticket)
            self._trace(turn)
        return turn.ended

    # ------------------------------------------------------------ the straight line

    async def _begin(self, ticket: Ticket) -> Turn | None:
        """The turn of this ticket; None when it is stale, or its job is not to be had here."""
        work = await self._tools.ledger.read(load, ticket)
        if work is None:
            return None
        try:
            pinned = self._tools.jobs.of_batch(
                work.job,
                version=work.prompt_version,
                expected_id=work.prompt_id,
                models=work.models,
            )
        except JobError as error:
            await self._put_off(ticket, str(error))
            return None
        return Turn.begin(work, pinned, now_ns=self._tools.monotonic_ns())

    async def _put_off(self, ticket: Ticket, why: str) -> None:
        self._tools.on_hindrance(why)
        await self._release(ticket, wait_s=CANNOT_LOAD_WAIT_S)

    async def _take(self, turn: Turn) -> None:
        if turn.work.stored is not None:
            await self._read_again(turn)
            return
        if (spoiled := poison(turn.work)) is not None:
            await self._conclude(turn, spoiled)
            return
        prepared = self._prepare(turn)
        ceiling_nusd = self._ceiling_nusd(turn)
        if (over := over_ceiling(turn.work, prepared, ceiling_nusd=ceiling_nusd)) is not None:
            await self._conclude(turn, over)
            return
        provider = await self._provider(turn, prepared)
        if isinstance(provider, Failure):
            await self._conclude(turn, provider)
            return
        lane = self._lane(turn)
        assert lane is not None, "its provider was found"
        try:
            with turn.timed(LIMITER_WAIT, self._tools.monotonic_ns):
                paced = await self._tools.pacer.acquire(
                    lane, prepared, job=turn.work.job, retry=turn.work.repeats
                )
        except OverLimitError as error:
            failure = Failure(Fault.TOO_LONG, str(error))
            await self._finish(turn, Dead(DeadReason.OVER_RATE_LIMIT, failure))
            return
        if isinstance(paced, Postponed):
            await self._release(turn.work.ticket, wait_s=paced.wait_s)
            return
        try:
            await self._call(turn, prepared, provider, paced)
        finally:  # where nothing else has said how it ended
            self._tools.pacer.drop(paced, sent=turn.sent)

    async def _call(self, turn: Turn, prepared: Prepared, provider: Provider, paced: Paced) -> None:
        if not await self._pass_gate(turn, prepared, paced.grant):
            return
        assert turn.attempt_id is not None
        reach(Point.AFTER_INTENT)
        await self._tools.pacer.until_start(paced)
        reach(Point.BEFORE_SEND)
        turn.sent = True
        with turn.timed(CALL, self._tools.monotonic_ns):
            answer = await provider.call(
                Call(turn.attempt_id, prepared.model, prepared.body, prepared.deadline_s)
            )
        match answer:
            case Unanswered():
                turn.sent = answer.fault is not Fault.NOT_SENT
                failure = await self._tools.pacer.hear_nothing(paced, answer)
                await self._conclude(turn, failure, unanswered=answer)
            case RawAnswer():
                turn.received = True
                reach(Point.AFTER_ANSWER)
                if await self._store(turn, answer):
                    reach(Point.AFTER_RAW_STORED)
                    reading = await self._tools.pacer.hear(paced, answer, read_answer(answer))
                    await self._judge(turn, reading)

    async def _read_again(self, turn: Turn) -> None:
        """Conclude an attempt whose raw answer outlived its worker: paid once, read again free."""
        stored = turn.work.stored
        assert stored is not None
        turn.attempt_id, turn.model, turn.hold_nusd = (
            stored.attempt_id,
            stored.model,
            stored.hold_nusd,
        )
        if await self._claim(turn, head=b"", tail=None, limiter_wait_us=0, stored=True):
            turn.answer = stored.answer
            await self._judge(turn, read_answer(stored.answer))

    async def _judge(self, turn: Turn, reading: Reading) -> None:
        began_ns = self._tools.monotonic_ns()
        with turn.timed(VALIDATE, self._tools.monotonic_ns):
            verdict = self._verdict(turn, reading)
        parse_us = (self._tools.monotonic_ns() - began_ns) // 1000
        await self._conclude(turn, verdict, reading=reading, parse_us=parse_us)

    def _verdict(self, turn: Turn, reading: Reading) -> Done | Failure:
        if reading.failure is not None:
            return reading.failure
        assert reading.completion is not None
        if (spoiled := poison(turn.work)) is not None:
            return spoiled
        with self._tools.suspect.running(turn.work.ticket.document_id):
            judged = validate(
                reading.completion.text,
                schema=turn.pinned.job.schema,
                checks=turn.pinned.job.checks,
                document=turn.work.text,
            )
        if isinstance(judged, Failure):
            return judged
        return Done(judged.data_json, judged.flags, judged.evidence)

    # ------------------------------------------------------------ steps

    def _prepare(self, turn: Turn) -> Prepared:
        with self._tools.suspect.running(turn.work.ticket.document_id):
            return prepare(
                turn.pinned,
                text=turn.work.text,
                history=turn.work.history,
                reask=turn.work.reask,
                settings=self._tools.settings,
                prices=self._tools.prices,
                streams=self._tools.streams,
            )

    def _ceiling_nusd(self, turn: Turn) -> int | None:
        return turn.pinned.ceiling_nusd(self._tools.settings)

    async def _provider(self, turn: Turn, prepared: Prepared) -> Provider | Failure:
        """Who will be asked, or why nobody can be."""
        window_tokens = self._tools.settings.model(prepared.model).context_tokens
        if (failure := too_long(prepared, context_tokens=window_tokens)) is not None:
            return failure
        try:
            return await self._tools.provider_for(prepared.model, simulated=turn.work.simulated)
        except ConfigError as error:
            return Failure(Fault.BAD_KEY, str(error))
        except RoadError as error:
            return Failure(Fault.NOT_SENT, str(error))

    async def _pass_gate(self, turn: Turn, prepared: Prepared, grant: Grant) -> bool:
        head, tail = split_request(prepared.body, turn.work.text)
        turn.attempt_id = new_id("a", clock_s=self._tools.clock_s)
        turn.hold_nusd = prepared.hold_nusd
        reach(Point.BEFORE_INTENT)
        return await self._claim(turn, head=head, tail=tail, limiter_wait_us=grant.waited_us)

    async def _claim(
        self,
        turn: Turn,
        *,
        head: bytes,
        tail: bytes | None,
        limiter_wait_us: int,
        stored: bool = False,
    ) -> bool:
        assert turn.attempt_id is not None
        now_us = self._tools.now_us()
        token = new_id("l", clock_s=self._tools.clock_s)
        waited_us = max(0, now_us - turn.work.queued_us - limiter_wait_us)
        wish = Claim(
            ticket=turn.work.ticket,
            lease_token=token,
            worker_id=self._tools.worker_id(),
            attempt_id=turn.attempt_id,
            model=turn.model,
            prompt_id=turn.pinned.prompt_id,
            request_head=head,
            request_tail=tail,
            hold_nusd=turn.hold_nusd,
            queue_wait_us=waited_us,
            limiter_wait_us=limiter_wait_us,
            now_us=now_us,
            again_of_stored=stored,
            lane=self._lane(turn),
            day_limit_nusd=self._day_limit_nusd,
            needs_price=self._ceiling_nusd(turn) is not None,
        )
        asked = asyncio.ensure_future(self._tools.ledger.write(claim, wish))
        try:
            refusal = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # the gate answers all the same: a lease that nobody knew of could not be given back
            if await asked is None:
                turn.lease_token = token
            raise
        if refusal is None:
            turn.lease_token = token
            self.calling.add(turn.work.ticket)
        else:
            turn.ended = refusal
        return refusal is None

    async def _store(self, turn: Turn, answer: RawAnswer) -> bool:
        assert turn.attempt_id is not None
        assert turn.lease_token is not None
        kept = await self._tools.ledger.write(
            store_answers,
            Answer(
                attempt_id=turn.attempt_id,
                lease_token=turn.lease_token,
                document_id=turn.work.ticket.document_id,
                answer=answer,
            ),
        )
        if kept:
            turn.answer = answer
        return kept

    async def _release(self, ticket: Ticket, *, wait_s: float = 0.0) -> None:
        due_us = self._tools.now_us() + round(wait_s * 1e6)
        await self._tools.ledger.write(release, Release(ticket, due_us))

    # ------------------------------------------------------------ endings

    async def _abandon(self, turn: Turn) -> None:
        """End a turn that a drain or an abort cut off."""
        if turn.lease_token is None:
            await self._release(turn.work.ticket)
        elif turn.received or turn.work.stored is not None:
            return  # the answer is kept: the next turn reads it for free
        elif (not_sent := unsent(turn)) is not None:
            failure = Failure(not_sent.fault, not_sent.message)
            await self._conclude(turn, failure, unanswered=not_sent)
        else:
            failure = Failure(Fault.AMBIGUOUS, "aborted during the call; it may be billed")
            await self._conclude(turn, failure)

    async def _end_by_bug(self, turn: Turn, error: Exception) -> None:
        try:
            await self._conclude(turn, await self._our_bug(turn, error), unanswered=unsent(turn))
        except Exception as another:  # noqa: BLE001 - as above
            turn.answer = None  # the ending trips over it: the call counts at its worst case
            await self._conclude(turn, await self._our_bug(turn, another), unanswered=unsent(turn))

    async def _our_bug(self, turn: Turn, error: Exception) -> Failure:
        """Write an unexpected exception down, in the log and in the history of its document."""
        ticket, now_us = turn.work.ticket, self._tools.now_us()
        message = tell_bug(ticket, error, turn)
        await self._tools.ledger.write_one(
            lambda connection: note(
                connection,
                "internal_error",
                message,
                batch_id=turn.work.batch_id,
                document_id=ticket.document_id,
                now_us=now_us,
            )
        )
        return Failure(Fault.INTERNAL_ERROR, message)

    async def _conclude(
        self,
        turn: Turn,
        verdict: Done | Failure,
        *,
        reading: Reading | None = None,
        unanswered: Unanswered | None = None,
        parse_us: int | None = None,
    ) -> None:
        outcome = outcome_of(turn, verdict, now_us=self._tools.now_us(), rng=self._tools.rng)
        settlement = settlement_of(
            turn,
            outcome,
            reading=reading,
            unanswered=unanswered,
            prices=self._tools.prices,
            parse_us=parse_us,
            now_ns=self._tools.monotonic_ns(),
        )
        await self._finish(turn, outcome, settlement=settlement)

    async def _finish(
        self, turn: Turn, outcome: Outcome, *, settlement: Settlement | None = None
    ) -> None:
        failure = None if isinstance(outcome, Done | Unconfirmed) else outcome.failure
        first = turn.work.first
        reach(Point.BEFORE_RECORD)
        written = await self._tools.ledger.write(
            finish,
            Finish(
                ticket=turn.work.ticket,
                outcome=outcome,
                signature="" if failure is None else signature(failure),
                now_us=self._tools.now_us(),
                lease_token=turn.lease_token,
                settlement=settlement,
                model=turn.model if first is None else first.model,
                prompt_id=turn.pinned.prompt_id if first is None else first.prompt_id,
                record_attempt_id=None if first is None else first.attempt_id,
                lane=self._lane(turn),
                ceiling_nusd=self._ceiling_nusd(turn),
                audit_percent=self._tools.settings.audit_percent(turn.pinned.job.audit_percent),
            ),
        )
        if written:
            turn.ended, turn.settlement = outcome, settlement
            tell_end(turn, outcome, settlement)
        reach(Point.AFTER_RECORD)

    def _trace(self, turn: Turn) -> None:
        if self._tools.traces is not None:
            told = told_of(
                turn,
                lane=self._lane(turn),
                worker_id=self._tools.worker_id(),
                now_ns=self._tools.monotonic_ns(),
            )
            self._tools.traces.tell(told)

    def _lane(self, turn: Turn) -> Lane | None:
        """Whose pause concerns this turn; none when its model has no address to call."""
        try:
            return self._tools.lanes.of(turn.model, simulated=turn.work.simulated)
        except ConfigError:
            return None
