"""A parser process as the reading process holds it: a child, two pipes, and no endless wait."""

import os
import select
import shlex
import subprocess
import sys
import time
from contextlib import suppress

from runner.errors import RunnerError
from runner.loaders.frames import HEADER_BYTES, READY, WORDS, pack_header, unpack_header
from runner.loaders.limits import START_MAX_S, TEXT_MAX_BYTES, ParseLimits

_PIECE_BYTES = 1 << 20
_LAST_WORDS_S = 1.0  # how long a child that has closed its pipe may take to end
# what an interpreter needs to start and nothing else: the keys of providers stay here
_ENV_KEPT = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"),
        "PYTHONDONTWRITEBYTECODE",
    }
)


class LateError(Exception):
    """The child has neither taken nor given anything in time."""


class GoneError(Exception):
    """The child has ended, or says what no parser says."""


class ParserProcess:
    """A running child. Every wait for it ends at a given moment of the monotonic clock."""

    def __init__(self, limits: ParseLimits) -> None:
        """Start it and wait until it can take a file. Raises RunnerError when it does not start."""
        self.files = 0
        self._command = [
            *(sys.executable, "-P", "-m", "runner.loaders.child"),
            *(str(limits.memory_max_bytes), str(limits.max_s)),
        ]
        self._process = _spawn(self._command)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._wait_ready()

    def _wait_ready(self) -> None:
        try:
            word, _ = self.receive(time.monotonic() + START_MAX_S)
        except (LateError, GoneError):
            word = ""
        if word != READY:
            raise RunnerError(
                f"the process that parses files does not start (exit code {self.end()}); "
                f"`{shlex.join(self._command)}` says why"
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, kind: str, content: bytes, until_s: float) -> None:
        """Hand a file over. Raises LateError or GoneError when it is not taken."""
        self.files += 1
        try:
            self._write(pack_header(kind, len(content)), until_s)
            self._write(content, until_s)
        except BrokenPipeError as error:
            raise GoneError from error

    def receive(self, until_s: float) -> tuple[str, str]:
        """Its next word and what belongs to it. Raises LateError or GoneError."""
        word, size_bytes = unpack_header(self._read(HEADER_BYTES, until_s))
        if word not in WORDS or size_bytes > TEXT_MAX_BYTES:
            raise GoneError
        try:
            return word, self._read(size_bytes, until_s).decode()
        except UnicodeDecodeError as error:
            raise GoneError from error

    def kill(self) -> None:
        """Stop what it is doing; `end` is still to be called."""
        self._process.kill()

    def end(self) -> int:
        """Let it end, or kill it when it does not; its exit code, negative for a signal."""
        self._stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_S)
        self._process.kill()
        self._stdout.close()
        return self._process.wait()

    def _write(self, content: bytes, until_s: float) -> None:
        rest = memoryview(content)
        while rest:
            _wait(self._stdin.fileno(), select.POLLOUT, until_s)
            rest = rest[os.write(self._stdin.fileno(), rest[:_PIECE_BYTES]) :]

    def _read(self, size_bytes: int, until_s: float) -> bytes:
        pieces = []
        while size_bytes:
            _wait(self._stdout.fileno(), select.POLLIN, until_s)
            piece = os.read(self._stdout.fileno(), min(size_bytes, _PIECE_BYTES))
            if not piece:
                raise GoneError
            pieces.append(piece)
            size_bytes -= len(piece)
        return b"".join(pieces)


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own: Ctrl-C at the terminal is for the parent alone."""
    try:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
            env={name: value for name, value in os.environ.items() if name in _ENV_KEPT},
        )
    except OSError as error:
        raise RunnerError(
            f"the process that parses files cannot be started: {error.strerror}"
        ) from error


def _wait(descriptor: int, event: int, until_s: float) -> None:
    """Wait until a pipe can be used; what is there already is seen however late it is."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, until_s - time.monotonic()) * 1_000):
        raise LateError
