"""The road of one document through one turn, top to bottom.

    load ▸ prepare ▸ limiter ▸ hold + intent ▸ call ▸ raw answer stored ▸ read ▸ validate ▸ Outcome

Steps run in a straight line; what went wrong is a value; `decide` turns it into an outcome; the
ledger writes it. The one broad catch is `run_turn`, the top of a document's life.
"""

import asyncio
import random
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from runner import secondread
from runner.budget import day_budget_nusd, format_usd
from runner.completion import Reading, read_answer
from runner.config import Settings
from runner.crashpoints import Point, reach
from runner.errors import ConfigError, JobError, RoadError
from runner.keys import Ticket, new_id
from runner.lanes import Lane, Lanes
from runner.ledger import Ledger
from runner.ledger.calls import split_request
from runner.ledger.events import note
from runner.ledger.gate import Claim, Refusal, Release, claim, release
from runner.ledger.outcomes import Answer, Finish, Settlement, finish, store_answers
from runner.ledger.work import Work, load
from runner.limiter import Grant, OverLimitError, Postponed
from runner.log import Level, detail, log
from runner.model import (
    Again,
    Call,
    Dead,
    DeadReason,
    Done,
    Failure,
    Fault,
    Outcome,
    Purpose,
    RawAnswer,
    Review,
    Unanswered,
    Unconfirmed,
)
from runner.pacing import Paced, Pacer
from runner.pinned import Pinned, PinnedJobs
from runner.prepare import Prepared, prepare
from runner.prices import PriceList
from runner.provider import Provider
from runner.retry import decide, record_attempt, signature
from runner.settling import settle
from runner.suspect import Suspect
from runner.tracing import CALL, LIMITER_WAIT, VALIDATE, Span, Traces, TurnTold
from runner.validate import validate

CANNOT_LOAD_WAIT_S = 30
CRASHES_MAX = 2  # the job's own code is not let near such a document again


# How a turn ended: with an outcome in the ledger, or with the gate's refusal. None: it did not, and
# nobody was called; or what it came to could not be written, as the lease was lost meanwhile.
Ended = Outcome | Refusal | None


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


@dataclass(slots=True)
class Turn:
    """One document on its way through one turn: what has been promised or spent so far."""

    work: Work
    pinned: Pinned
    started_ns: int
    model: str
    lease_token: str | None = None
    attempt_id: str | None = None
    hold_nusd: int | None = None
    sent: bool = False  # the request may have left
    received: bool = False  # its answer is here, durable or about to be
    answer: RawAnswer | None = None  # durable
    ended: Ended = None
    settlement: Settlement | None = None
    steps: list[Span] = field(default_factory=list)  # for a trace


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
            work = await self._tools.ledger.read(load, ticket)
        except asyncio.CancelledError:
            await self._release(ticket)
            return None
        if work is None:
            return None
        pinned = self._pin(work)
        if pinned is None:
            await self._release(ticket, wait_s=CANNOT_LOAD_WAIT_S)
            return None
        turn = Turn(work, pinned, self._tools.monotonic_ns(), _model_of(work, pinned))
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

    async def _take(self, turn: Turn) -> None:
        if turn.work.stored is not None:
            await self._read_again(turn)
            return
        if (poison := _poison(turn.work)) is not None:
            await self._conclude(turn, poison)
            return
        prepared = self._prepare(turn)
        if (over := self._over_ceiling(turn, prepared)) is not None:
            await self._conclude(turn, over)
            return
        provider = await self._provider(turn, prepared)
        if isinstance(provider, Failure):
            await self._conclude(turn, provider)
            return
        lane = self._lane(turn)
        assert lane is not None, "its provider was found"
        try:
            with self._timed(turn, LIMITER_WAIT):
                paced = await self._tools.pacer.acquire(
                    lane, prepared, job=turn.work.job, retry=turn.work.repeats
                )
        except OverLimitError as error:
            await self._finish(turn, Dead(DeadReason.OVER_RATE_LIMIT, _too_long(str(error))))
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
        with self._timed(turn, CALL):
            answer = await provider.call(
                Call(turn.attempt_id, prepared.model, prepared.body, prepared.deadline_s)
            )
        match answer:
            case Unanswered():
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
        with self._timed(turn, VALIDATE):
            verdict = self._verdict(turn, reading)
        parse_us = (self._tools.monotonic_ns() - began_ns) // 1000
        await self._conclude(turn, verdict, reading=reading, parse_us=parse_us)

    def _verdict(self, turn: Turn, reading: Reading) -> Done | Failure:
        if reading.failure is not None:
            return reading.failure
        assert reading.completion is not None
        if (poison := _poison(turn.work)) is not None:
            return poison
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

    def _pin(self, work: Work) -> Pinned | None:
        try:
            return self._tools.jobs.of_batch(
                work.job,
                version=work.prompt_version,
                expected_id=work.prompt_id,
                models=work.models,
            )
        except JobError as error:
            self._tools.on_hindrance(str(error))
            return None

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

    def _over_ceiling(self, turn: Turn, prepared: Prepared) -> Failure | None:
        """Why the document is not worth another call, if so; an unknown price stops at the gate."""
        ceiling = self._ceiling_nusd(turn)
        spent, expected = turn.work.spent_nusd, prepared.expected_nusd
        if ceiling is None or expected is None or spent + expected <= ceiling:
            return None
        return Failure(
            Fault.OVER_CEILING,
            f"{format_usd(spent)} spent and {format_usd(expected)} expected for the next call are "
            f"over its ceiling of {format_usd(ceiling)}: raise ceiling_usd of job "
            f"{turn.work.job}, or document_usd in runner.toml, and "
            f"`runner dead retry {turn.work.ticket.document_id}`, which begins anew",
        )

    def _ceiling_nusd(self, turn: Turn) -> int | None:
        return turn.pinned.ceiling_nusd(self._tools.settings)

    async def _provider(self, turn: Turn, prepared: Prepared) -> Provider | Failure:
        """Who will be asked, or why nobody can be."""
        window = self._tools.settings.model(prepared.model).context_tokens
        if window is not None and prepared.input_tokens + prepared.max_output_tokens > window:
            return _too_long(
                f"{prepared.input_tokens} input and {prepared.max_output_tokens} output tokens "
                f"do not fit the context of {prepared.model} ({window} tokens)"
            )
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
        elif turn.sent:
            failure = Failure(Fault.AMBIGUOUS, "aborted during the call; it may be billed")
            await self._conclude(turn, failure)
        else:
            why = "stopped before the call was sent"
            unsent = Unanswered(Fault.NOT_SENT, why)
            await self._conclude(turn, Failure(Fault.NOT_SENT, why), unanswered=unsent)

    async def _end_by_bug(self, turn: Turn, error: Exception) -> None:
        try:
            await self._conclude(turn, await self._our_bug(turn, error))
        except Exception as another:  # noqa: BLE001 - as above
            turn.answer = None  # the ending trips over it: the call counts at its worst case
            await self._conclude(turn, await self._our_bug(turn, another))

    async def _our_bug(self, turn: Turn, error: Exception) -> Failure:
        """Write an unexpected exception down, without the text of exceptions that quote data."""
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
        message = f"{type(error).__name__} at {where[:200]}"
        document_id = turn.work.ticket.document_id
        log(
            "internal_error",
            f"internal error on {document_id}: {message}",
            level=Level.ERROR,
            document_id=document_id,
            batch_id=turn.work.batch_id,
            attempt_id=turn.attempt_id,
        )
        now_us = self._tools.now_us()
        await self._tools.ledger.write_one(
            lambda connection: note(
                connection,
                "internal_error",
                message,
                batch_id=turn.work.batch_id,
                document_id=document_id,
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
        outcome: Outcome
        if isinstance(verdict, Done):
            outcome = self._of_good(turn, verdict)
        else:
            history = record_attempt(turn.work.history_at(self._tools.now_us()), verdict)
            outcome = decide(verdict, history, turn.pinned.policy, self._tools.rng)
        if turn.work.first is not None:
            schema = turn.pinned.job.schema
            outcome = secondread.concluded(outcome, turn.work.first, schema=schema)
        settlement = self._settlement(turn, outcome, reading, unanswered, parse_us)
        await self._finish(turn, outcome, settlement=settlement)

    def _of_good(self, turn: Turn, done: Done) -> Done | Unconfirmed:
        second = turn.work.second
        if turn.work.first is not None or second is None:
            return done
        if not secondread.is_wanted(second, done, turn.work):
            return done
        assert turn.attempt_id is not None
        return secondread.first_read(
            done,
            attempt_id=turn.attempt_id,
            model=turn.model,
            prompt_id=turn.pinned.prompt_id,
        )

    def _settlement(
        self,
        turn: Turn,
        outcome: Outcome,
        reading: Reading | None,
        unanswered: Unanswered | None,
        parse_us: int | None,
    ) -> Settlement | None:
        """What the attempt cost; None when nothing was called, or when it will be read again."""
        if turn.lease_token is None or turn.attempt_id is None:
            return None
        reads_again = isinstance(outcome, Again) and turn.work.purpose is not Purpose.TRY
        if turn.answer is not None and reading is None and reads_again:
            return None  # our own bug while reading: the paid answer stays for the next turn
        if reading is None and turn.answer is not None:
            reading = read_answer(turn.answer)
        settled = settle(
            price=self._tools.prices.price(turn.model),
            hold_nusd=turn.hold_nusd,
            answer=turn.answer,
            reading=reading,
            unanswered=unanswered,
        )
        elapsed = turn.answer or unanswered
        return Settlement(
            attempt_id=turn.attempt_id,
            state=settled.state,
            cost_nusd=settled.cost_nusd,
            ambiguous_nusd=settled.ambiguous_nusd,
            usage=reading.completion.usage if reading and reading.completion else None,
            response_us=elapsed.elapsed_us if elapsed else None,
            parse_us=parse_us,
            total_us=(self._tools.monotonic_ns() - turn.started_ns) // 1000,
        )

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
            _tell(turn, outcome, settlement)
        reach(Point.AFTER_RECORD)

    @contextmanager
    def _timed(self, turn: Turn, step: str) -> Iterator[None]:
        began_ns = self._tools.monotonic_ns()
        try:
            yield
        finally:
            turn.steps.append(Span(step, began_ns, self._tools.monotonic_ns()))

    def _trace(self, turn: Turn) -> None:
        if self._tools.traces is None:
            return
        lane, ended, settlement = self._lane(turn), turn.ended, turn.settlement
        usage = None if settlement is None else settlement.usage
        failure = getattr(ended, "failure", None)
        self._tools.traces.tell(
            TurnTold(
                began_ns=turn.started_ns,
                ended_ns=self._tools.monotonic_ns(),
                steps=turn.steps,
                document_id=turn.work.ticket.document_id,
                batch_id=turn.work.batch_id,
                job=turn.work.job,
                prompt_id=turn.pinned.prompt_id,
                worker_id=self._tools.worker_id(),
                outcome="released" if ended is None else type(ended).__name__.lower(),
                model=turn.model,
                server=None if lane is None else lane.server,
                attempt_id=turn.attempt_id,
                status=None if turn.answer is None else turn.answer.status,
                fault=None if failure is None else failure.fault,
                input_tokens=None if usage is None else usage.input_tokens,
                cached_tokens=None if usage is None else usage.cached_tokens,
                output_tokens=None if usage is None else usage.output_tokens,
                cost_nusd=None if settlement is None else settlement.cost_nusd,
            )
        )

    def _lane(self, turn: Turn) -> Lane | None:
        """Whose pause concerns this turn; none when its model has no address to call."""
        try:
            return self._tools.lanes.of(turn.model, simulated=turn.work.simulated)
        except ConfigError:
            return None


def _model_of(work: Work, pinned: Pinned) -> str:
    return pinned.models[min(work.history.ladder_step, len(pinned.models) - 1)]


def _poison(work: Work) -> Failure | None:
    """Why the job's code may not be run on this document any more, if so."""
    if work.history.crashes < CRASHES_MAX:
        return None
    why = f"{work.history.crashes} workers died while they rendered or checked it"
    return Failure(Fault.POISON, why)


def _tell(turn: Turn, outcome: Outcome, settlement: Settlement | None) -> None:
    """Log how a turn ended, without the failure's message: it may quote the answer."""
    failure = None if isinstance(outcome, Done | Unconfirmed) else outcome.failure
    ended_badly = isinstance(outcome, Dead | Review)
    detail(
        "turn_ended",
        f"{turn.work.ticket.document_id}: {type(outcome).__name__.lower()}",
        level=Level.WARNING if ended_badly else Level.INFO,
        document_id=turn.work.ticket.document_id,
        batch_id=turn.work.batch_id,
        job=turn.work.job,
        attempt_id=turn.attempt_id,
        model=turn.model,
        outcome=type(outcome).__name__.lower(),
        fault=None if failure is None else failure.fault,
        reason=outcome.reason if isinstance(outcome, Dead | Review) else None,
        cost_nusd=None if settlement is None else settlement.cost_nusd,
        total_us=None if settlement is None else settlement.total_us,
    )


def _too_long(message: str) -> Failure:
    return Failure(Fault.TOO_LONG, message)
