"""Worker child processes: started together, restarted when one dies, killed when stuck."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from runner.pulse import Pulse

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
LIVED_WELL_S = 60.0
STUCK_AFTER_S = 10.0  # an event loop that has not beaten for so long does not come back
STOPPED_AFTER_S = 2.0  # after so long a silence: is it stopped, as by SIGSTOP or a debugger?

_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    pulse: Pulse
    started_s: float


@dataclass(slots=True)
class WorkerProcesses:
    """`count` workers of one home. Each drains by itself when this process is gone.

    `arguments` go to `runner work`, `env` replaces the environment.
    """

    count: int
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stuck_after_s: float = STUCK_AFTER_S
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
        pulse = Pulse()
        own = ("--stop-on-eof", "--pulse-to", str(pulse.child_end))
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-P", "-m", "runner.cli", "work", *own, *self.arguments],
            stdin=subprocess.PIPE,
            pass_fds=(pulse.child_end,),
            start_new_session=True,
            env=dict(self.env),
        )
        os.close(pulse.child_end)
        return _Child(process, pulse, time.monotonic())

    def restart_dead(self) -> list[int]:
        """Start a new child, with growing pauses, for each that died; their exit codes."""
        codes = []
        for child in list(self._children):
            code = child.process.poll()
            if code is None:
                continue
            self._children.remove(child)
            _close_pipes(child)
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

    def kill_stuck(self) -> list[int]:
        """Kill each child whose event loop has not beaten for `stuck_after_s`; their pids.

        Its worker row, and the note of the document whose code it was running, tell its successor
        whom to charge. A child that is stopped is not stuck: its silence is forgiven.
        """
        stuck = [child for child in self._children if self._is_stuck(child)]
        for child in stuck:
            child.process.kill()
            child.pulse.forgive()
        return [child.process.pid for child in stuck]

    def _is_stuck(self, child: _Child) -> bool:
        silent_s = child.pulse.silence_s()
        if silent_s > STOPPED_AFTER_S and _is_stopped(child.process.pid):
            child.pulse.forgive()
            return False
        return silent_s > self.stuck_after_s

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
            _close_pipes(child)
        self._children.clear()


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in _STOPPED
    except psutil.Error:
        return False


def _close_pipes(child: _Child) -> None:
    child.pulse.close()
    if child.process.stdin is not None:
        child.process.stdin.close()
