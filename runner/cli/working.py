"""Works on a batch until it has ended: starts and ends workers, shows progress, hears Ctrl-C."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from runner.cli.commands import leave
from runner.cli.crew import Crew
from runner.cli.exits import Exit
from runner.cli.interrupts import Interrupts
from runner.cli.progress import make_board
from runner.cli.session import Session
from runner.cli.summary import tell_interrupted
from runner.cli.watch import Ending, Intake, Watch
from runner.ledger import Ledger
from runner.ledger.submission import Batch

MAX_WAIT_S = 3_600.0

EXIT_OF = {
    Ending.CANCELLED: Exit.FAILED,
    Ending.PAUSED: Exit.PAUSED,
    Ending.STALLED: Exit.PAUSED,
    Ending.INTERRUPTED: Exit.INTERRUPTED,
}


@contextmanager
def interrupts_told(session: Session) -> Iterator[None]:
    """Let a Ctrl-C before or after the waiting end the command as one during it does."""
    try:
        yield
    except KeyboardInterrupt:
        tell_interrupted(session.typed)
        leave(Exit.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers that a command may start."""

    processes: int
    concurrency: int
    env: Mapping[str, str]
    allow_unsafe_redis: bool

    @property
    def arguments(self) -> list[str]:
        """For each of them."""
        unsafe = ["--allow-unsafe-redis"] if self.allow_unsafe_redis else []
        return ["--concurrency", str(self.concurrency), *unsafe]


def work_on(
    ledger: Ledger,
    batch: Batch,
    *,
    submission: Intake,
    workers: Workers,
    max_wait_s: float,
) -> tuple[Ending, str]:
    """Submit and work until the batch has ended; how it did, and why it waited last."""
    interrupts = Interrupts()
    board = make_board()
    try:
        with (
            interrupts.heard(),
            Crew(
                count=workers.processes,
                arguments=workers.arguments,
                env=workers.env,
                on_line=board.note,
            ) as crew,
        ):
            watch = Watch(
                ledger,
                batch,
                submission=submission,
                crew=crew,
                board=board,
                interrupts=interrupts,
                max_wait_s=max_wait_s,
            )
            submission.start()
            return watch.wait(), watch.last_why
    finally:
        board.close()
