"""Whole files: each read once, within its cap, and handed on to be parsed."""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runner.errors import UnparsableError
from runner.loaders.kinds import CONFINED, parse
from runner.loaders.limits import FILE_MAX_BYTES
from runner.loaders.parsers import Parsers, Parsing
from runner.loaders.texts import over_cap, unreadable
from runner.model import SourceText


def open_regular(path: Path, *, read_bytes: int = io.DEFAULT_BUFFER_SIZE) -> BinaryIO:
    """Open a regular file, to be read so much at once, without waiting for a pipe's other end.

    Raises OSError, also when `path` is a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb", read_bytes)


@dataclass(frozen=True, slots=True)
class FileUnderway:
    """A file that has been read and is being parsed."""

    source: str
    content: bytes
    parsing: Parsing

    def finish(self) -> SourceText:
        """Wait for its text, or for why there is none."""
        try:
            text = self.parsing.text()
        except UnparsableError as error:
            return _unparsable(self.source, self.content, error)
        return SourceText(source=self.source, content=self.content, text=text)


def begin_file(
    *, source: str, path: Path, kind: str, parsers: Parsers
) -> SourceText | FileUnderway:
    """One file as one source; an error of reading or parsing is the source's, never raised.

    Kinds that cannot be trusted are parsed in another process while the caller goes on.
    """
    try:
        content = _content(path)
    except OSError as error:
        return unreadable(source, f"cannot be read: {error.strerror}")
    except UnparsableError as error:
        return unreadable(source, str(error))
    if kind in CONFINED:
        return FileUnderway(source, content, parsers.begin(kind, content))
    return plain_text(source=source, content=content)


def _content(path: Path) -> bytes:
    """The bytes of a file as they stood at one moment. Raises OSError or UnparsableError."""
    with open_regular(path) as stream:
        before = os.fstat(stream.fileno())
        if before.st_size > FILE_MAX_BYTES:
            raise UnparsableError(over_cap("the file", FILE_MAX_BYTES))
        content = stream.read(FILE_MAX_BYTES + 1)
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnparsableError("changed while it was being read: submit it again")
    if len(content) > FILE_MAX_BYTES:
        raise UnparsableError(over_cap("the file", FILE_MAX_BYTES))
    return content


def plain_text(*, source: str, content: bytes) -> SourceText:
    """Content that is a text itself as a source: with that text, or with why it is none."""
    try:
        return SourceText(source=source, content=content, text=parse("text", content))
    except UnparsableError as error:
        return _unparsable(source, content, error)


def _unparsable(source: str, content: bytes, error: UnparsableError) -> SourceText:
    return SourceText(source=source, content=content, text=None, error=str(error))
