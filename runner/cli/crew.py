"""The worker children of one command: started, listened to, restarted, drained, or given up."""

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from runner.cli.exits import Exit
from runner.cli.terminal import ERROR, plain
from runner.cli.wording import stuck_words
from runner.errors import RunnerError
from runner.log import Value, is_json, read_event
from runner.processes import STUCK_AFTER_S, WorkerProcesses

GIVE_UP_AFTER = 3  # failures in a row of each child, with the same message
FORGET_AFTER_S = 60.0  # a failure so long after the last one begins a new row
REPEAT_AFTER_S = 60.0  # what differs only in ids and numbers is shown once in so long
LINE_CHARS_MAX = 300
ABORT_MAX_S = 15.0
READ_BYTES = 65_536

_FAILED = "error: "
_TRACEBACK = ("Traceback ", "The above exception", "During handling of")
_DETAIL = re.compile(r"\b[a-z][0-9a-z]{20,}\b|\d+")  # ids of documents, calls, workers; numbers


class Crew:
    """Worker children whose talk comes through one pipe, so that it does not tear the display.

    `on_line` hears each line that a child says. A named pipe and not a file: a full disk must not
    break a worker because of its talk.
    """

    def __init__(
        self,
        *,
        count: int,
        arguments: Sequence[str],
        env: Mapping[str, str],
        on_line: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
        stuck_after_s: float = STUCK_AFTER_S,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="runner-")
        self.pipe = Path(self._folder.name) / "talk"
        os.mkfifo(self.pipe, 0o600)
        self._pipe_fd = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._workers = WorkerProcesses(
            count=count,
            arguments=["--talk-to", str(self.pipe), *arguments],
            env=env,
            stuck_after_s=stuck_after_s,
        )
        self._on_line = on_line
        self._clock_s = clock_s
        self._unfinished_line = b""
        self._said_at_s: dict[str, float] = {}
        self._said_error = ""  # what the last child that failed said
        self._reason = ""  # why the present row of failures failed
        self._alike = 0
        self._failed_at_s = 0.0
        self.started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no child behind, whatever ended the command."""
        self.drain()
        self._wait_or_kill()
        self._listen()
        os.close(self._pipe_fd)
        self._folder.cleanup()

    def start(self) -> None:
        """Start the children."""
        self.started = True
        self._workers.start()

    def tend(self) -> None:
        """Pass on what the children said, kill those that are stuck, start those again that died.

        Raises RunnerError with a child's own words when they fail again and again for one reason.
        """
        self._listen()
        if not self.started:
            return
        self._kill_stuck()
        for code in self._workers.restart_dead():
            self._listen()
            self._note_end(code)

    def listen_only(self) -> bool:
        """Pass on what draining children said, kill the stuck ones; whether all have ended."""
        self._listen()
        self._kill_stuck()
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether no child runs."""
        return all(code is not None for code in self._workers.exit_codes())

    def pids(self) -> list[int]:
        """The children that run."""
        return self._workers.pids()

    def drain(self) -> None:
        """Ask every child to finish its calls and end; asked again, to abort them."""
        self._workers.signal()

    def kill(self) -> None:
        """End children that do not even abort; what they held is taken over by the next worker."""
        for pid in self._workers.pids():
            os.kill(pid, signal.SIGKILL)

    def _wait_or_kill(self) -> None:
        """A last resort: by now they have been drained, or something unexpected went wrong."""
        if not self._workers.wait(ABORT_MAX_S):
            self.drain()
            if not self._workers.wait(ABORT_MAX_S):
                self.kill()
        self._workers.stop()

    def _kill_stuck(self) -> None:
        for pid in self._workers.kill_stuck():
            self._on_line(stuck_words(pid, after_s=self._workers.stuck_after_s))

    def _note_end(self, code: int) -> None:
        if code <= 0:  # drained by someone else, or killed: not its own decision, so not a pattern
            self._on_line(f"a worker ended ({_how(code)}); starting another one")
            return
        now_s = self._clock_s()
        reason = self._said_error or f"a worker ended with exit code {code}; see above"
        alike = reason == self._reason and now_s - self._failed_at_s < FORGET_AFTER_S
        self._alike = self._alike + 1 if alike else 1
        self._reason, self._failed_at_s = reason, now_s
        if code == Exit.USAGE or self._alike >= GIVE_UP_AFTER * self._workers.count:
            raise RunnerError(f"no worker can start: {reason}")

    def _listen(self) -> None:
        while chunk := self._read():
            *lines, self._unfinished_line = (self._unfinished_line + chunk).split(b"\n")
            for line in lines:
                said = line.decode("utf-8", "replace")
                if is_json() and (event := read_event(said)) is not None:
                    self._hear_event(event, said)
                else:
                    self._hear(plain(said, chars_max=LINE_CHARS_MAX))

    def _read(self) -> bytes:
        try:
            return os.read(self._pipe_fd, READ_BYTES)
        except BlockingIOError:
            return b""

    def _hear_event(self, event: Mapping[str, Value], line: str) -> None:
        """Pass an event on as it is: a machine reads them all."""
        if event["event"] == ERROR:
            self._said_error = str(event["message"]).removeprefix(_FAILED)
        self._on_line(line)

    def _hear(self, line: str) -> None:
        if line.startswith(_FAILED):
            self._said_error = line.removeprefix(_FAILED)
            return  # shown when it is given up, not at each of its tries
        if line[:1].isspace() or line.startswith(_TRACEBACK):
            return  # of a traceback, its last line says the most
        now_s = self._clock_s()
        kind = _DETAIL.sub("#", line)
        if line and now_s - self._said_at_s.get(kind, -REPEAT_AFTER_S) >= REPEAT_AFTER_S:
            self._said_at_s[kind] = now_s
            self._on_line(line)


def _how(code: int) -> str:
    if code == 0:
        return "drained"
    return f"killed by {signal.Signals(-code).name}"
