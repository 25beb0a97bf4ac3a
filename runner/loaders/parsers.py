"""Files parsed in processes of their own: what becomes of one file is its own affair.

`Parsers.begin` hands a file to a child and `Parsing.text` fetches what it makes of it, so that one
file is parsed while others are read and stored. A child that dies, or has to be killed, costs only
the file it had, and that file only when a new child dies over it too: what an earlier file left
behind, or a signal that was meant for somebody else, is no verdict.
"""

import signal
import time

from runner.errors import UnparsableError
from runner.loaders.frames import MEMORY, TEXT
from runner.loaders.limits import ParseLimits
from runner.loaders.process import GoneError, LateError, ParserProcess

_GRACE_S = 1.0  # for an answer that came in time, while nobody was there to take it


class _LostError(Exception):
    """A child is lost with the file it had; the text says to what."""


class Parsers:
    """The parser processes of one reading, started as they are needed. For one thread."""

    def __init__(self, limits: ParseLimits) -> None:
        self.limits = limits
        self._idle: list[ParserProcess] = []
        self._busy: set[ParserProcess] = set()

    def begin(self, kind: str, content: bytes) -> "Parsing":
        """Begin to parse a file of a kind. Raises RunnerError when no child can be started."""
        return Parsing(self, kind, content)

    def close(self) -> None:
        """End every child, whatever it is doing."""
        for child in (*self._idle, *self._busy):
            child.kill()
            child.end()
        self._idle.clear()
        self._busy.clear()

    def take(self, *, new: bool) -> ParserProcess:
        """A child to use until it is given back or dropped."""
        child = self._idle.pop() if self._idle and not new else ParserProcess(self.limits)
        self._busy.add(child)
        return child

    def give_back(self, child: ParserProcess) -> None:
        """Keep a child for another file, unless it has read its share."""
        if child.files >= self.limits.files_a_child:
            self.drop(child)
            return
        self._busy.remove(child)
        self._idle.append(child)

    def drop(self, child: ParserProcess) -> int:
        """Let go of a child; its exit code, negative for a signal."""
        self._busy.remove(child)
        return child.end()


class Parsing:
    """One file being parsed; made by `Parsers.begin`."""

    def __init__(self, parsers: Parsers, kind: str, content: bytes) -> None:
        self._parsers = parsers
        self._kind = kind
        self._content = content
        self._child, self._until_s = self._hand_over(within_s=parsers.limits.max_s, new=False)

    def text(self) -> str:
        """Wait for the text, once. Raises UnparsableError, or RunnerError as `begin` does."""
        now_s = time.monotonic()
        try:
            return self._answer(until_s=max(self._until_s, now_s + _GRACE_S))
        except _LostError:
            left_s = self._parsers.limits.max_s - (time.monotonic() - now_s)
            self._child, until_s = self._hand_over(within_s=left_s, new=True)
        try:
            return self._answer(until_s=until_s)
        except _LostError as error:
            raise UnparsableError(str(error)) from None

    def _hand_over(self, *, within_s: float, new: bool) -> tuple[ParserProcess, float]:
        """Give a child the file; until when it may take. Its start counts for no file."""
        child = self._parsers.take(new=new)
        until_s = time.monotonic() + within_s
        try:
            child.send(self._kind, self._content, until_s)
        except LateError:
            child.kill()  # `_answer` will find it gone, as one that dies at the first bytes
        except GoneError:
            pass
        return child, until_s

    def _answer(self, *, until_s: float) -> str:
        child, limits = self._child, self._parsers.limits
        try:
            word, text = child.receive(until_s)
        except LateError:
            child.kill()
            self._parsers.drop(child)
            raise UnparsableError(_too_slow(limits)) from None
        except GoneError:
            code = self._parsers.drop(child)
            if code == -signal.SIGXCPU:
                raise UnparsableError(_too_slow(limits)) from None
            raise _LostError(_death(self._kind, code, limits)) from None
        if word == MEMORY:
            self._parsers.drop(child)
            raise _LostError(_too_large(limits))
        self._parsers.give_back(child)
        if word == TEXT:
            return text
        raise UnparsableError(text)


def _too_slow(limits: ParseLimits) -> str:
    return f"took longer than {limits.max_s:g} s to read"


def _too_large(limits: ParseLimits) -> str:
    return f"needs more than {limits.memory_max_bytes // 1_000_000} MB of memory to read"


def _death(kind: str, code: int, limits: ParseLimits) -> str:
    if code >= 0:
        return f"ended the {kind.upper()} reader (exit code {code})"
    crashed = f"crashed the {kind.upper()} reader"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"signal {-code}"
    if -code == signal.SIGABRT:  # PDFium aborts when an allocation fails
        return f"{crashed} ({name}), as a file does that {_too_large(limits)}"
    return f"{crashed} ({name})"
