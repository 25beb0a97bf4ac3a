"""A child process that runs a module of ours: two pipes, no keys, no Ctrl-C, no endless wait."""

import os
import select
import subprocess
import sys
import time
from contextlib import suppress

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
    """The child has ended, or says what none of its kind says."""


class Child:
    """A running child. Every wait for it ends at a given moment of the monotonic clock.

    One thread may write to it while another one reads.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        """Start it, in a session of its own. Raises OSError when it cannot be started."""
        self.command = [sys.executable, "-P", "-m", module, *arguments]
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
            env={name: value for name, value in os.environ.items() if name in _ENV_KEPT},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def write(self, content: bytes, until_s: float) -> None:
        """Hand bytes over. Raises LateError or GoneError when they are not taken."""
        rest = memoryview(content)
        try:
            while rest:
                _wait(self._stdin.fileno(), select.POLLOUT, until_s)
                rest = rest[os.write(self._stdin.fileno(), rest[:_PIECE_BYTES]) :]
        except BrokenPipeError as error:
            raise GoneError from error

    def read(self, size_bytes: int, until_s: float) -> bytes:
        """So many bytes that it gives. Raises LateError or GoneError."""
        pieces = []
        while size_bytes:
            _wait(self._stdout.fileno(), select.POLLIN, until_s)
            piece = os.read(self._stdout.fileno(), min(size_bytes, _PIECE_BYTES))
            if not piece:
                raise GoneError
            pieces.append(piece)
            size_bytes -= len(piece)
        return b"".join(pieces)

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


def _wait(descriptor: int, event: int, until_s: float) -> None:
    """Wait until a pipe can be used; what is there already is seen however late it is."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, until_s - time.monotonic()) * 1_000):
        raise LateError
