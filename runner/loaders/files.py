"""Whole files: which kinds there are, reading one within its cap, and its bytes parsed to text."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from runner.errors import UnparsableError
from runner.loaders.texts import FILE_MAX_BYTES, decode, over_cap, unreadable, usable
from runner.model import SourceText

# extension -> kind; `jsonl` and `csv` are read row by row, the others are one document a file
KINDS = {
    ".txt": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".jsonl": "jsonl",
    ".csv": "csv",
}

Parser = Callable[[str, bytes], str]


def kind_of(path: Path) -> str | None:
    """The kind of a file by its extension (case does not matter); None when no loader reads it."""
    return KINDS.get(path.suffix.lower())


def _text(content: bytes) -> str:
    return decode(content)


def _html(content: bytes) -> str:
    from runner.loaders.html import html_text  # noqa: PLC0415 - selectolax only when needed

    return html_text(content)


def _pdf(content: bytes) -> str:
    from runner.loaders.pdf import pdf_text  # noqa: PLC0415 - pypdfium2 only when needed

    return pdf_text(content)


def _docx(content: bytes) -> str:
    from runner.loaders.word import docx_text  # noqa: PLC0415 - python-docx only when needed

    return docx_text(content)


_READERS: dict[str, Callable[[bytes], str]] = {
    "text": _text,
    "html": _html,
    "pdf": _pdf,
    "docx": _docx,
}


def parse(kind: str, content: bytes) -> str:
    """The text of one file of a kind (`text`, `html`, `pdf`, `docx`), with bare line feeds.

    Raises UnparsableError, and nothing else, when this content gives no usable text. It sets no
    limit on time or memory: a caller that does not trust the content runs it in a limited process.
    """
    reader = _READERS[kind]
    try:
        text = reader(content)
    except UnparsableError:
        raise
    except Exception as error:  # the parsers raise anything on a broken file
        raise UnparsableError(f"broken {kind} file: {type(error).__name__}: {error}") from error
    return usable(text.replace("\r\n", "\n").replace("\r", "\n"))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for a pipe's other end.

    Raises OSError, also when `path` is a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_file(*, source: str, path: Path, kind: str, parser: Parser) -> SourceText:
    """One file as one source; an error of reading or parsing is the source's, never raised."""
    try:
        with open_regular(path) as stream:
            content = stream.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        return unreadable(source, f"cannot be read: {error.strerror}")
    return parsed(source=source, content=content, kind=kind, parser=parser)


def parsed(*, source: str, content: bytes, kind: str, parser: Parser) -> SourceText:
    """Content as a source: with its text, or with the error that `parser` gives.

    Content that ends beyond FILE_MAX_BYTES is not parsed.
    """
    if len(content) > FILE_MAX_BYTES:
        return unreadable(source, over_cap("the file", FILE_MAX_BYTES))
    try:
        text = parser(kind, content)
    except UnparsableError as error:
        return SourceText(source=source, content=content, text=None, error=str(error))
    return SourceText(source=source, content=content, text=text)
