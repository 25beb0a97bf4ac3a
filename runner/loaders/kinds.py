"""Kinds of files by their names, and a whole file's bytes parsed to text."""

from collections.abc import Callable
from pathlib import Path

from runner.errors import UnparsableError
from runner.loaders.limits import REASON_MAX_CHARS, TEXT_MAX_BYTES
from runner.loaders.texts import decode, over_cap, usable

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

# what a hostile file can make crash, grow or spin; decoding a plain text can do none of that
CONFINED = frozenset({"html", "pdf", "docx"})


def kind_of(path: Path) -> str | None:
    """The kind of a file by its extension (case does not matter); None when no loader reads it."""
    return KINDS.get(path.suffix.lower())


def _text(content: bytes) -> str:
    if len(content) > 2 * TEXT_MAX_BYTES:  # UTF-16 takes at most twice what UTF-8 does
        raise UnparsableError(over_cap("its text", TEXT_MAX_BYTES))
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

    Raises UnparsableError when this content gives no usable text, MemoryError when there is no
    memory for it, and nothing else. It sets no limit on time or memory: the kinds in CONFINED are
    parsed by `Parsers`, in a process that has them.
    """
    reader = _READERS[kind]
    try:
        text = reader(content)
    except (UnparsableError, MemoryError):
        raise
    except RecursionError as error:
        raise UnparsableError(f"broken {kind} file: nested too deep") from error
    except Exception as error:  # the parsers raise anything on a broken file
        reason = f"{type(error).__name__}: {error}"[:REASON_MAX_CHARS]
        raise UnparsableError(f"broken {kind} file: {reason}") from error
    return usable(text.replace("\r\n", "\n").replace("\r", "\n"))
