"""The Python face: submit documents, wait, and read records from asyncio code.

async with Runner.open() as runner:
    batch = await runner.submit("invoice", ["invoices/"])
    await batch.wait()
    async for record in batch.records():
        print(record.source, record.status, record.data)
"""

import asyncio
import json
import shlex
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import assert_never

from runner.batches import (
    Request,
    Summary,
    get_batch,
    leave_past_days,
    plan,
    result_lines,
    retry,
    standing,
    submit,
    summary,
)
from runner.config import Settings
from runner.errors import UsageError
from runner.exporters import ResultLine
from runner.keys import new_id
from runner.ledger import Ledger
from runner.ledger.deadletters import DeadFilter, DeadLetter, list_dead
from runner.ledger.engine import sqlite_url
from runner.ledger.reviews import ReviewFilter, Waiting, list_waiting
from runner.ledger.standing import QueueStanding, queue_standing, state_counts
from runner.ledger.submission import Batch as LedgerBatch
from runner.loaders import from_iterable, iter_sources
from runner.model import OPEN_STATES, BatchState, Decided, SourceText
from runner.pinned import PinnedJobs
from runner.processes import WorkerProcesses
from runner.reviews import Reviewer, correct, decide_all, run_again

POLL_S = 0.2

Documents = Iterable[str | tuple[str, str] | Mapping[str, object]]


class PausedError(UsageError):
    """The batch waits for a person; the message says why and what goes on."""


class Batch:
    """One submission; made by `Runner.submit` or `Runner.batch`."""

    def __init__(self, runner: "Runner", found: LedgerBatch) -> None:
        self._runner = runner
        self._found = found
        self._began_s = time.monotonic()

    @property
    def id(self) -> str:
        """The ledger's id of the batch."""
        return self._found.id

    @property
    def name(self) -> str:
        """The name that the command line knows it by."""
        return self._found.name

    async def summary(self) -> Summary:
        """Counts and money so far."""
        found = await asyncio.to_thread(standing, self._runner.ledger, self._found)
        return summary(found, seconds=time.monotonic() - self._began_s)

    async def wait(self, *, timeout_s: float | None = None) -> Summary:
        """Wait until every document has ended; starts this runner's own workers when it has any.

        Raises PausedError when the batch is paused, TimeoutError after `timeout_s`.
        """
        await asyncio.to_thread(leave_past_days, self._runner.ledger)
        async with asyncio.timeout(timeout_s):
            while await self._is_open():
                await self._runner.keep_workers()
                await asyncio.sleep(POLL_S)
        return await self.summary()

    async def _is_open(self) -> bool:
        def look() -> tuple[int, LedgerBatch]:
            with self._runner.ledger.snapshot() as connection:
                counts = state_counts(connection, self.id)
            return sum(counts[state] for state in OPEN_STATES), get_batch(
                self._runner.ledger, self.id
            )

        still_open, found = await asyncio.to_thread(look)
        if still_open and found.state is BatchState.PAUSED:
            raise PausedError(
                f"batch {found.name}: {found.pause_reason}; "
                f"`runner batch resume {shlex.quote(found.name)}` goes on"
            )
        return still_open > 0

    async def records(self) -> AsyncIterator[ResultLine]:
        """One line a source in order of submission, ended or not; streamed from the ledger."""
        lines = result_lines(self._runner.ledger, self._found)
        while (line := await asyncio.to_thread(next, lines, None)) is not None:
            yield line


class Runner:
    """An open ledger, and the worker processes that `Batch.wait` starts; made by `open`."""

    def __init__(self, settings: Settings, *, processes: int, slots: int) -> None:
        self._settings = settings
        self._jobs = PinnedJobs(settings.job_folders)
        self.ledger = Ledger(settings.ledger_url or sqlite_url(settings.ledger_path))
        self._workers = WorkerProcesses(processes, ("--concurrency", str(slots)))
        self._one_keeps = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        settings: Settings | None = None,
        config: Path | None = None,
        processes: int = 1,
        slots: int = 100,
    ) -> AsyncIterator["Runner"]:
        """Open the ledger of RUNNER_HOME; on leaving, own workers drain and the ledger closes.

        With `processes=0` documents are done by workers that run elsewhere (`runner work`).
        Raises ConfigError or LedgerError.
        """
        runner = cls(settings or Settings.load(config=config), processes=processes, slots=slots)
        try:
            yield runner
        finally:
            await asyncio.to_thread(runner.close)

    async def submit(
        self,
        job: str,
        documents: Documents,
        *,
        batch: str | None = None,
        prompt: str | None = None,
        models: tuple[str, ...] = (),
        text_field: str = "text",
        id_field: str = "id",
        budget_usd: Decimal | None = None,
        simulate: bool = False,
    ) -> Batch:
        """Enqueue texts, (id, text) pairs or mappings, streamed in constant memory.

        Submitting again to the same `batch` name adds only what is new; without a name each call
        begins a batch. Raises JobError for an unknown job or version, UsageError for a conflict.
        """
        request = Request(
            job=job,
            batch=batch or new_id(f"{job}-"),
            prompt=prompt,
            models=models,
            simulate=simulate,
            budget_usd=budget_usd,
        )
        texts = from_iterable(documents, text_field=text_field, id_field=id_field)
        return await self._submit(request, texts)

    async def submit_files(
        self,
        job: str,
        inputs: Sequence[str],
        *,
        batch: str | None = None,
        prompt: str | None = None,
        models: tuple[str, ...] = (),
        text_field: str | None = None,
        id_field: str | None = None,
        budget_usd: Decimal | None = None,
        simulate: bool = False,
    ) -> Batch:
        """Enqueue folders, globs and files, as `runner submit` does; repeatable.

        Raises InputError when an input does not exist, else as `submit`.
        """
        request = Request(
            job=job,
            inputs=tuple(inputs),
            batch=batch,
            prompt=prompt,
            models=models,
            text_field=text_field,
            id_field=id_field,
            simulate=simulate,
            budget_usd=budget_usd,
        )
        texts = iter_sources(inputs, text_field=text_field, id_field=id_field)
        return await self._submit(request, texts)

    async def _submit(self, request: Request, texts: Iterable[SourceText]) -> Batch:
        planned, _ = plan(request, self._jobs)
        submitted = await asyncio.to_thread(submit, self.ledger, planned, texts)
        return Batch(self, submitted.batch)

    async def batch(self, id_or_name: str) -> Batch:
        """A batch submitted earlier, by anyone. Raises NotFoundError."""
        return Batch(self, await asyncio.to_thread(get_batch, self.ledger, id_or_name))

    async def depth(self) -> QueueStanding:
        """Documents by state over all batches, the oldest age, and the workers."""

        def look() -> QueueStanding:
            with self.ledger.snapshot() as connection:
                return queue_standing(connection, now_us=round(time.time() * 1e6))

        return await asyncio.to_thread(look)

    async def dead(self, wanted: DeadFilter = DeadFilter()) -> list[DeadLetter]:  # noqa: B008 - frozen
        """Dead letters, newest first."""

        def look() -> list[DeadLetter]:
            with self.ledger.snapshot() as connection:
                return list_dead(connection, wanted)

        return await asyncio.to_thread(look)

    async def retry(
        self,
        wanted: DeadFilter,
        *,
        prompt: str | None = None,
        models: tuple[str, ...] = (),
    ) -> list[str]:
        """Queue dead letters again; the ids that this call retried (two callers retry once)."""

        def again() -> list[str]:
            return retry(self.ledger, wanted, jobs=self._jobs, prompt=prompt, models=models)

        return await asyncio.to_thread(again)

    async def reviews(self, wanted: ReviewFilter = ReviewFilter()) -> list[Waiting]:  # noqa: B008 - frozen
        """What waits for a person, oldest first."""

        def look() -> list[Waiting]:
            with self.ledger.snapshot() as connection:
                return list_waiting(connection, wanted)

        return await asyncio.to_thread(look)

    async def review(
        self,
        waiting: Waiting,
        decided: Decided,
        *,
        reviewer: str,
        note: str | None = None,
        data: Mapping[str, object] | None = None,
        despite_checks: bool = False,
    ) -> None:
        """Decide on a record that waits; a correction brings the right `data`.

        Raises UsageError when another person was first, or the record is another one by now, and
        CorrectionError when the data is not valid.
        """
        by = Reviewer(name=reviewer, note=note)
        if (data is None) == (decided is Decided.CORRECTED):
            raise UsageError("a correction, and nothing else, brings data")

        def decide() -> None:
            match decided:
                case Decided.ACCEPTED | Decided.REJECTED:
                    decide_all(self.ledger, [waiting], decided, by)
                case Decided.CORRECTED:
                    correct(
                        self.ledger,
                        waiting,
                        json.dumps(data),
                        by,
                        jobs=self._jobs,
                        despite_checks=despite_checks,
                    )
                case Decided.AGAIN:
                    run_again(self.ledger, [waiting], by, jobs=self._jobs)
                case _:
                    assert_never(decided)

        await asyncio.to_thread(decide)

    async def keep_workers(self) -> None:
        """Start this runner's own workers, and start again what died of them."""
        async with self._one_keeps:
            keeping = asyncio.ensure_future(asyncio.to_thread(self._workers.restart_dead))
            try:
                await asyncio.shield(keeping)
            except asyncio.CancelledError:
                # a thread cannot be cancelled, and what it starts has to be there for `close`
                await asyncio.wait([keeping])
                raise

    def close(self) -> None:
        """Drain own workers and close the ledger."""
        self._workers.stop()
        self.ledger.close()
