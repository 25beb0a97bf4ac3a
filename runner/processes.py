"""Worker child processes: started together, restarted when one dies, drained together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
LIVED_WELL_S = 60.0


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    started_s: float


@dataclass(slots=True)
class WorkerProcesses:
    """`count` workers of one home. Each drains by itself when this process is gone.

    `arguments` go to `runner work`, `env` replaces the environment.
    """

    count: int
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _children: list[_Child] = field(default_factory=list)
    _restart_s: float = RESTART_FIRST_S
    _restart_at_s: float = 0.0

    def start(self) -> None:
        """Start what is missing of the children."""
        while len(self._children) < self.count:
            self._children.append(self._spawn())

    def _spawn(self) -> _Child:
        # Its own session: Ctrl-C at the terminal reaches this process alone, which then drains
        # the children. Its standard input is a pipe that ends when this process does.
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-P", "-m", "runner.cli", "work", "--stop-on-eof", *self.arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env=dict(self.env),
        )
        return _Child(process, time.monotonic())

    def restart_dead(self) -> list[int]:
        """Start a new child, with growing pauses, for each that died; their exit codes."""
        codes = []
        for child in list(self._children):
            code = child.process.poll()
            if code is None:
                continue
            self._children.remove(child)
            _close_pipe(child)
            codes.append(code)
            lived_s = time.monotonic() - child.started_s
            self._restart_s = (
                RESTART_FIRST_S
                if lived_s > LIVED_WELL_S
                else min(RESTART_MAX_S, 2 * self._restart_s)
            )
            self._restart_at_s = time.monotonic() + self._restart_s
        if time.monotonic() >= self._restart_at_s:
            self.start()
        return codes

    def exit_codes(self) -> list[int | None]:
        """Each child's exit code; None while it runs."""
        return [child.process.poll() for child in self._children]

    def pids(self) -> list[int]:
        """The children that run."""
        return [child.process.pid for child in self._children if child.process.poll() is None]

    def signal(self) -> None:
        """Ask every child to drain; asked again, to abort."""
        for child in self._children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """Whether every child has ended within `timeout_s`."""
        until_s = time.monotonic() + timeout_s
        for child in self._children:
            try:
                child.process.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        return True

    def stop(self) -> None:
        """Drain the children and wait for them, however long their calls take."""
        self.signal()
        for child in self._children:
            child.process.wait()
            _close_pipe(child)
        self._children.clear()


def _close_pipe(child: _Child) -> None:
    if child.process.stdin is not None:
        child.process.stdin.close()
