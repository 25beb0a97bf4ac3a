"""A try in this process: what an interrupt ends, and what it lets end by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.batches import Request, plan
from runner.config import ModelSettings, Settings
from runner.keys import new_id
from runner.ledger import Ledger
from runner.ledger.audit import audit
from runner.ledger.calls import AttemptRow, document_calls, view_document
from runner.ledger.engine import sqlite_url
from runner.ledger.submission import BatchPlan
from runner.model import Again, AttemptState, Done, Fault, Purpose, SourceText
from runner.pinned import PinnedJobs
from runner.stream import Stream
from runner.trying import Trial, Tried
from tests.jobfolders import make_job
from tests.test_provider import serving
from tests.test_stream import events

TEXT = SourceText("one.txt", b"Total: 5", "Total: 5")
ANSWER = events('{"total": 5}')


@dataclass
class Trying:
    """A try of a tiny job, and a look at what is left of it."""

    trial: Trial
    stream: Stream
    plan: BatchPlan
    ledger: Ledger
    begun: asyncio.Event

    def begin(self) -> "asyncio.Task[Tried]":
        """Begin it."""
        return asyncio.create_task(self.trial.run(self.plan, TEXT))

    def left(self, tried: Tried) -> tuple[str, list[AttemptRow]]:
        """The document's state and its calls; all that is in the ledger adds up."""
        with self.ledger.snapshot() as connection:
            assert audit(connection).problems == ()
            view = view_document(connection, tried.document_id)
            return view.state, document_calls(connection, tried.document_id)


@asynccontextmanager
async def trying(
    folder: Path, pieces: list[bytes], *, last: asyncio.Event | None = None, **model: Any
) -> AsyncIterator[Trying]:
    """A try at a server that sends these pieces, and ends when `last` is set, or at the end."""
    begun, ended = asyncio.Event(), last or asyncio.Event()

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        begun.set()
        await ended.wait()
        writer.write(b"0\r\n\r\n")

    job = make_job(folder / "jobs")
    async with serving(reply) as server:
        settings = Settings(
            home=folder / "home",
            models={
                name: ModelSettings(
                    base_url=server.url, input_usd_per_mtok=1, output_usd_per_mtok=1, **model
                )
                for name in ("small", "large")
            },
            job_folders=(job.parent,),
        )
        ledger, stream = Ledger(sqlite_url(settings.ledger_path)), Stream()
        request = Request(job="tiny", batch=new_id("try-"))
        planned, _ = plan(request, PinnedJobs(settings.job_folders))
        planned = BatchPlan(**{**_fields(planned), "purpose": Purpose.TRY})
        yield Trying(Trial(settings, ledger, stream), stream, planned, ledger, begun)
        ledger.close()
        ended.set()
        while server.connections > server.hung_up:  # noqa: ASYNC110 - a socket rings no bell
            await asyncio.sleep(0.01)


def _fields(planned: BatchPlan) -> dict[str, Any]:
    return {name: getattr(planned, name) for name in BatchPlan.__slots__}


async def until_heard(one: Trying) -> None:
    """All pieces have been sent and heard."""
    await one.begun.wait()
    async with asyncio.timeout(30):
        while '"total": 5' not in one.stream.text:  # noqa: ASYNC110 - a stream rings no bell
            await asyncio.sleep(0.01)


async def test_an_interrupt_after_all_that_matters_has_come_lets_it_end(tmp_path: Path) -> None:
    last = asyncio.Event()
    async with trying(tmp_path, ANSWER[:-1], last=last) as one:
        task = one.begin()
        await until_heard(one)
        one.trial.interrupt()
        last.set()
        tried = await task
        state, (call,) = one.left(tried)
    assert isinstance(tried.ended, Done)
    assert (state, call.state, call.output_tokens) == ("done", AttemptState.CONCLUDED, 5)


@pytest.mark.parametrize("interrupts", [1, 2])
async def test_an_interrupt_ends_a_call_that_is_half_answered_and_a_second_one_any(
    tmp_path: Path, interrupts: int
) -> None:
    pieces = ANSWER[:-2] if interrupts == 1 else ANSWER[:-1]  # without, and with its usage
    async with trying(tmp_path, pieces) as one:
        task = one.begin()
        await until_heard(one)
        for _ in range(interrupts):
            one.trial.interrupt()
        tried = await task
        state, (call,) = one.left(tried)
    assert isinstance(tried.ended, Again)
    assert tried.ended.failure.fault is Fault.AMBIGUOUS
    assert (state, call.state) == ("cancelled", AttemptState.AMBIGUOUS)
    assert call.ambiguous_nusd == call.hold_nusd


async def test_an_interrupt_before_the_call_leaves_nothing_to_pay(tmp_path: Path) -> None:
    async with trying(tmp_path, ANSWER) as one:
        task = one.begin()
        one.trial.interrupt()
        tried = await task
        assert one.left(tried) == ("cancelled", [])
    assert tried.ended is None


async def test_an_interrupt_while_it_waits_for_rate_leaves_nothing_to_pay(tmp_path: Path) -> None:
    async with trying(tmp_path, ANSWER, rpm=1) as one:
        lane_is_full = asyncio.Event()

        async def wait_for_ever(*_arguments: object, **_named: object) -> None:
            lane_is_full.set()
            await asyncio.Event().wait()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("runner.pacing.Pacer.acquire", wait_for_ever)
            task = one.begin()
            await lane_is_full.wait()
            one.trial.interrupt()
            tried = await task
        assert one.left(tried) == ("cancelled", [])
    assert tried.ended is None
