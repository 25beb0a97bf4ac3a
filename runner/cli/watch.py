"""Waits until a batch has ended: looks, tends the workers, shows progress, hears Ctrl-C."""

import time
from collections import Counter
from dataclasses import replace
from enum import Enum
from typing import Protocol

from sqlalchemy import Connection

from runner.cli.crew import Crew
from runner.cli.interrupts import Interrupts
from runner.cli.progress import Board, Progress, Speed
from runner.cli.wording import duration, several
from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.ledger.standing import BatchStanding, batch_standing, state_counts
from runner.ledger.submission import Batch, find_batch
from runner.ledger.workers import living
from runner.model import OPEN_STATES, TERMINAL_STATES, BatchState, DocumentState

LOOK_EVERY_S = 0.2
MONEY_EVERY_S = 1.0
LOOK_SHARE = 10  # a look that takes long is taken less often: at most a tenth of the time
TICK_S = 0.05
QUIET_S = 5.0  # nothing ended for so long: say why
RECENT_CALLS = 20
ABORT_MAX_S = 15.0


class Ending(Enum):
    """How waiting ended."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    STALLED = "stalled"
    INTERRUPTED = "interrupted"


class Intake(Protocol):
    """What reads a batch's inputs into the ledger beside the waiting."""

    @property
    def complete(self) -> bool:
        """Whether every input is in the ledger. Raises what reading or writing raised."""

    def start(self) -> None:
        """Begin to read."""

    def stop(self) -> None:
        """Read no more inputs."""


class ReadAlready:
    """The intake of a batch whose inputs are all in the ledger."""

    complete = True

    def start(self) -> None:
        """There is nothing to read."""

    def stop(self) -> None:
        """There is nothing to stop."""


class Watch:
    """One run's waiting. `wait` returns how it ended, with no child left running."""

    def __init__(
        self,
        ledger: Ledger,
        batch: Batch,
        *,
        submission: Intake,
        crew: Crew,
        board: Board,
        interrupts: Interrupts,
        max_wait_s: float,
    ) -> None:
        self._ledger = ledger
        self._batch = batch
        self._submission = submission
        self._crew = crew
        self._board = board
        self._interrupts = interrupts
        self._max_wait_s = max_wait_s
        self._speed = Speed()
        self._counts = dict.fromkeys(DocumentState, 0)
        self._money: BatchStanding | None = None
        self._look_at_s = self._money_at_s = 0.0
        self._ended = -1
        self._moved_s = time.monotonic()
        self._why = ""

    def wait(self) -> Ending:
        """Wait until the batch has ended, pauses, or the person wants to stop; drain the workers.

        Raises what the submission raised, and RunnerError when no worker can start.
        """
        ending = self._until_ending()
        self._submission.stop()
        if ending in (Ending.INTERRUPTED, Ending.STALLED):
            self._board.note(self._drain_words())
        self._let_crew_finish(heard=1 if ending is Ending.INTERRUPTED else 0)
        self._look()
        if ending is Ending.INTERRUPTED and self._all_ended:
            return Ending.FINISHED
        return ending

    @property
    def last_why(self) -> str:
        """Why it waited when it last did."""
        return self._why

    def _until_ending(self) -> Ending:
        while True:
            if self._interrupts.count:
                return Ending.INTERRUPTED
            complete = self._submission.complete  # before the look: what it wrote is then counted
            if time.monotonic() >= self._look_at_s:
                self._look()
                if (ending := self._ending(complete=complete)) is not None:
                    return ending
            if self._has_work and not self._crew.started:
                self._crew.start()
            self._crew.tend()
            self._board.show(self._progress())
            time.sleep(TICK_S)

    def _ending(self, *, complete: bool) -> Ending | None:
        settled = not self._counts[DocumentState.RUNNING]
        if complete and not self._open:
            cancelled = self._batch.state is BatchState.CANCELLED
            return Ending.CANCELLED if cancelled else Ending.FINISHED
        if complete and settled and self._batch.state is BatchState.PAUSED:
            return Ending.PAUSED
        if self._crew.started and time.monotonic() - self._moved_s > self._max_wait_s:
            return Ending.STALLED
        return None

    @property
    def _open(self) -> int:
        return sum(self._counts[state] for state in OPEN_STATES)

    @property
    def _all_ended(self) -> bool:
        return self._submission.complete and not self._open

    @property
    def _has_work(self) -> bool:
        return bool(self._open) and (
            self._batch.state is not BatchState.PAUSED or bool(self._counts[DocumentState.RUNNING])
        )

    # ------------------------------------------------------------ looking

    def _look(self) -> None:
        began_s = time.monotonic()
        with self._ledger.snapshot() as connection:
            self._counts = state_counts(connection, self._batch.id)
            found = find_batch(connection, self._batch.id)
            assert found is not None, "a batch is never removed"
            self._batch = found
            if began_s >= self._money_at_s:
                self._look_at_money(connection)
            self._note_movement(began_s)
            self._why = self._hindrance(connection, quiet_s=began_s - self._moved_s)
        now_s = time.monotonic()
        self._look_at_s = now_s + max(LOOK_EVERY_S, LOOK_SHARE * (now_s - began_s))

    def _look_at_money(self, connection: Connection) -> None:
        began_s = time.monotonic()
        self._money = batch_standing(connection, self._batch)
        now_s = time.monotonic()
        self._money_at_s = now_s + max(MONEY_EVERY_S, LOOK_SHARE * (now_s - began_s))

    def _note_movement(self, now_s: float) -> None:
        ended = sum(self._counts[state] for state in TERMINAL_STATES)
        if ended != self._ended:
            self._ended, self._moved_s = ended, now_s
        self._speed.note(ended, now_s=now_s)

    def _hindrance(self, connection: Connection, *, quiet_s: float) -> str:
        """Why nothing moves; empty while something does."""
        if self._batch.state is BatchState.PAUSED:
            return f"paused: {self._batch.pause_reason}"
        if not self._crew.started:
            return ""
        workers = living(connection)
        for worker in workers:
            if worker.note:
                return worker.note
        if not workers:
            return "the worker is starting"
        return self._last_faults(connection) if quiet_s >= QUIET_S else ""

    def _last_faults(self, connection: Connection) -> str:
        calls = list_calls(connection, CallFilter(limit=RECENT_CALLS))
        failed = [call for call in calls if call.batch_id == self._batch.id and call.fault]
        if not failed:
            return ""
        fault, count = Counter(call.fault for call in failed).most_common(1)[0]
        latest = next(call for call in failed if call.fault == fault)
        of = f"{count} of the last {several(len(calls), 'call')}"
        return f"nothing ended for a while; {of}: {fault}: {latest.message}"

    def _progress(self) -> Progress:
        money = self._money
        now = Progress(
            batch=self._batch.name,
            accepted=sum(self._counts.values()),
            ended=max(0, self._ended),
            dead=self._counts[DocumentState.DEAD],
            review=self._counts[DocumentState.REVIEW],
            in_flight=self._counts[DocumentState.RUNNING],
            per_s=self._speed.per_s,
            reading=not self._submission.complete,
            why=self._why,
        )
        if money is None or not money.cost_known:
            return now
        spent_nusd = money.settled_nusd + money.ambiguous_nusd
        return replace(now, spent_nusd=spent_nusd, limit_nusd=money.limit_nusd)

    # ------------------------------------------------------------ the end

    def _drain_words(self) -> str:
        in_flight = self._counts[DocumentState.RUNNING]
        if not in_flight or self._crew.ended:
            return "stopping"
        again = "again " if self._interrupts.count else ""
        return f"finishing {several(in_flight, 'call')} in flight; press Ctrl-C {again}to abort"

    def _let_crew_finish(self, *, heard: int) -> None:
        """Drain the children; a further Ctrl-C aborts their calls; those that hang are killed."""
        self._crew.drain()
        kill_at_s: float | None = None
        while not self._crew.listen_only():
            if self._interrupts.count > heard and kill_at_s is None:
                kill_at_s = time.monotonic() + ABORT_MAX_S
                self._crew.drain()
                self._board.note("aborting; calls in flight are listed as possibly paid")
            if kill_at_s is not None and time.monotonic() > kill_at_s:
                kill_at_s = time.monotonic() + ABORT_MAX_S
                self._crew.kill()
                self._board.note(
                    f"workers did not end within {duration(ABORT_MAX_S)} and were killed; "
                    "the next run takes over what they held"
                )
            if time.monotonic() >= self._look_at_s:
                self._look()
            self._board.show(replace(self._progress(), why=""))
            time.sleep(TICK_S)
