"""A parser process as the reading process holds it: a child that takes files and gives texts."""

import shlex
import time

from runner.children import Child, GoneError, LateError
from runner.errors import RunnerError
from runner.loaders.frames import HEADER_BYTES, READY, WORDS, pack_header, unpack_header
from runner.loaders.limits import START_MAX_S, TEXT_MAX_BYTES, ParseLimits


class ParserProcess:
    """A running child. Every wait for it ends at a given moment of the monotonic clock."""

    def __init__(self, limits: ParseLimits) -> None:
        """Start it and wait until it can take a file. Raises RunnerError when it does not start."""
        self.files = 0
        try:
            self._child = Child(
                "runner.loaders.child", str(limits.memory_max_bytes), str(limits.max_s)
            )
        except OSError as error:
            raise RunnerError(
                f"the process that parses files cannot be started: {error.strerror}"
            ) from error
        self._wait_ready()

    def _wait_ready(self) -> None:
        try:
            word, _ = self.receive(time.monotonic() + START_MAX_S)
        except (LateError, GoneError):
            word = ""
        if word != READY:
            raise RunnerError(
                f"the process that parses files does not start (exit code {self.end()}); "
                f"`{shlex.join(self._child.command)}` says why"
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def send(self, kind: str, content: bytes, until_s: float) -> None:
        """Hand a file over. Raises LateError or GoneError when it is not taken."""
        self.files += 1
        self._child.write(pack_header(kind, len(content)), until_s)
        self._child.write(content, until_s)

    def receive(self, until_s: float) -> tuple[str, str]:
        """Its next word and what belongs to it. Raises LateError or GoneError."""
        word, size_bytes = unpack_header(self._child.read(HEADER_BYTES, until_s))
        if word not in WORDS or size_bytes > TEXT_MAX_BYTES:
            raise GoneError
        try:
            return word, self._child.read(size_bytes, until_s).decode()
        except UnicodeDecodeError as error:
            raise GoneError from error

    def kill(self) -> None:
        """Stop what it is doing; `end` is still to be called."""
        self._child.kill()

    def end(self) -> int:
        """Let it end, or kill it when it does not; its exit code, negative for a signal."""
        return self._child.end()
