"""`runner work`: one worker, or several under a supervisor, for a Procfile or a service."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import click

from runner.cli.commands import Command, json_option, worker_options
from runner.cli.interrupts import Interrupts
from runner.cli.session import Session, pass_session
from runner.cli.shapes.batches import WorkShape
from runner.cli.terminal import say_json, talk
from runner.cli.wording import stuck_words
from runner.errors import UsageError
from runner.processes import WorkerProcesses
from runner.worker import WorkerOptions, run_worker, runner_home

TICK_S = 0.2
STDERR = 2  # its descriptor


@click.command(
    cls=Command,
    example=("runner work --processes 2 --concurrency 200", "runner work --until-empty"),
)
@worker_options
@click.option(
    "--until-empty", is_flag=True, help="End when no document waits or runs, paused batches aside."
)
@click.option(
    "--drain-s",
    type=click.FloatRange(min=0),
    help="How long calls in flight may take when told to stop; their own deadline by default.",
)
@click.option("--stop-on-eof", is_flag=True, hidden=True, help="Drain when standard input ends.")
@click.option(
    "--pulse-to", type=int, hidden=True, help="Descriptor on which the event loop shows it runs."
)
@click.option(
    "--talk-to", type=click.Path(path_type=Path), hidden=True, help="Named pipe for what is said."
)
@json_option
@pass_session
def work(
    session: Session,
    *,
    processes: int,
    concurrency: int,
    allow_unsafe_redis: bool,
    until_empty: bool,
    drain_s: float | None,
    stop_on_eof: bool,
    pulse_to: int | None,
    talk_to: Path | None,
    as_json: bool,
) -> None:
    """Work on the queue until told to stop.

    SIGTERM or Ctrl-C drains: nothing new is called, calls in flight finish and are recorded, exit
    code 0. A second one aborts: calls in flight are listed as possibly paid.
    """
    began_s = time.monotonic()
    sys.stderr = Talk(STDERR) if talk_to is None else Talk.through(talk_to)
    runner_home(session.settings)
    restarts = 0
    if processes == 1:
        options = WorkerOptions(
            slots=concurrency,
            until_empty=until_empty,
            drain_s=drain_s,
            stop_on_eof=stop_on_eof,
            allow_unsafe_redis=allow_unsafe_redis,
            pulse_fd=pulse_to,
            # the workers of a command that ends are no service: they start nothing of their own
            night_env=None if until_empty or talk_to is not None else session.env,
        )
        run_worker(session.settings, options)
    else:
        arguments = ["--concurrency", str(concurrency)]
        arguments += ["--allow-unsafe-redis"] if allow_unsafe_redis else []
        arguments += ["--until-empty"] if until_empty else []
        arguments += [] if drain_s is None else ["--drain-s", str(drain_s)]
        restarts = _supervise(
            WorkerProcesses(count=processes, arguments=arguments, env=session.env),
            until_empty=until_empty,
        )
    if as_json:
        seconds = round(time.monotonic() - began_s, 3)
        say_json(WorkShape(processes=processes, restarts=restarts, seconds=seconds))


def _supervise(workers: WorkerProcesses, *, until_empty: bool) -> int:
    """Keep the children alive until told to stop or done; how many were started again.

    Raises UsageError when a child refuses its settings: the next one would, too.
    """
    interrupts = Interrupts()
    restarts = 0
    with interrupts.heard():
        workers.start()
        while not interrupts.count:
            codes = workers.exit_codes()
            if until_empty and 0 in codes:
                break  # one found nothing to do: the others will, and none is started again
            _kill_stuck(workers)
            ended = workers.restart_dead()
            if 2 in ended:  # noqa: PLR2004 - the exit code of a usage error
                workers.stop()
                raise UsageError("a worker refused its settings: see above")
            for code in ended:
                restarts += 1
                talk(f"a worker ended with {code}; starting another one")
            time.sleep(TICK_S)
        _let_finish(workers, interrupts)
    return restarts


def _let_finish(workers: WorkerProcesses, interrupts: Interrupts) -> None:
    """Pass each signal on to the children, and wait until they have ended."""
    passed_on = 0
    while None in workers.exit_codes():
        while passed_on < interrupts.count:
            workers.signal()
            passed_on += 1
        _kill_stuck(workers)
        time.sleep(TICK_S)
    workers.stop()


def _kill_stuck(workers: WorkerProcesses) -> None:
    for pid in workers.kill_stuck():
        talk(stuck_words(pid, after_s=workers.stuck_after_s))


class Talk:
    """Standard error that disturbs no work: what its pipe or its full disk does not take is lost.

    A worker whose log file cannot grow must still write down what its calls cost.
    """

    encoding = "utf-8"

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def through(cls, pipe: Path) -> Self:
        """Talk through a named pipe that may be full, or left by its reader."""
        return cls(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))

    def write(self, text: str) -> int:
        """Write what is taken."""
        with suppress(OSError):
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Whether a person reads it on a terminal."""
        return os.isatty(self._fd)

    def fileno(self) -> int:
        """The descriptor, for what writes past Python."""
        return self._fd
