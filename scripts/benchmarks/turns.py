"""Takes every document of a ledger through one turn: no road, no provider, answers at hand."""

import asyncio
import time
from collections.abc import Callable

from runner.keys import Ticket, new_id
from runner.ledger import Ledger
from runner.ledger.answers import Answer, store_answers
from runner.ledger.ends import Finish, Settlement
from runner.ledger.feeding import Feed, feed
from runner.ledger.gate import Claim, claim
from runner.ledger.outcomes import finish
from runner.ledger.work import Work, load
from runner.ledger.workers import WorkerRow, register, take_lead
from runner.model import AttemptState, Done, RawAnswer, Usage
from scripts.benchmarks.homes import MODEL

HEAD, TAIL = b"head", b"tail"


class Turns:
    """A worker that leads, and does nothing but write."""

    def __init__(self, ledger: Ledger, *, slots: int, answer_to: Callable[[Work], bytes]) -> None:
        self._ledger = ledger
        self._slots = slots
        self._answer_to = answer_to
        self._gate = asyncio.Semaphore(slots)
        self._me = WorkerRow(
            id="w", number=0, host="", pid=0, process_started_s=0, state="working", beats=0,
            beat_us=0, slots=slots, in_flight=0, note=None,
        )  # fmt: skip
        with ledger.transaction() as connection:
            register(connection, self._me)
            take_lead(connection, self._me.id, instead_of=None)

    async def take_all(self) -> int:
        """Take what waits, until nothing does; how many documents that were."""
        taken = 0
        while True:
            wish = Feed(worker_id=self._me.id, window=2 * self._slots, now_us=_now_us())
            if not (tickets := await self._ledger.write(feed, wish)):
                return taken
            await asyncio.gather(*map(self._take, tickets))
            taken += len(tickets)

    async def _take(self, ticket: Ticket) -> None:
        async with self._gate:
            attempt, token = new_id("a"), new_id("l")
            work = await self._ledger.read(load, ticket)
            assert work is not None
            wish = Claim(
                ticket=ticket, lease_token=token, worker_id=self._me.id, attempt_id=attempt,
                model=MODEL, prompt_id=work.prompt_id, request_head=HEAD, request_tail=TAIL,
                hold_nusd=1000, queue_wait_us=0, limiter_wait_us=0, now_us=_now_us(),
            )  # fmt: skip
            assert await self._ledger.write(claim, wish) is None
            answer = RawAnswer(200, self._answer_to(work), {}, 0)
            await self._ledger.write(
                store_answers,
                Answer(
                    attempt_id=attempt, lease_token=token, document_id=ticket.document_id,
                    answer=answer,
                ),
            )  # fmt: skip
            settled = Settlement(
                attempt_id=attempt, state=AttemptState.CONCLUDED, cost_nusd=900, usage=Usage(1, 2)
            )
            end = Finish(
                ticket=ticket, outcome=Done("{}"), signature="", now_us=_now_us(),
                lease_token=token, settlement=settled, model=MODEL, prompt_id=work.prompt_id,
            )  # fmt: skip
            assert await self._ledger.write(finish, end)


def _now_us() -> int:
    return time.time_ns() // 1000
