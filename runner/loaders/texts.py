"""What a usable text is: how bytes are decoded, and what is refused."""

from collections.abc import Iterable
from itertools import islice

from runner.errors import UnparsableError
from runner.loaders.limits import TEXT_MAX_BYTES
from runner.model import SourceText

NAMES_MAX = 20
NAME_MAX_CHARS = 50

UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")

# C0 controls that never stand in a text; bytes that decode to one of these are some binary format
_CONTROLS = frozenset(map(chr, range(32))) - set("\t\n\r\f") | {"\x7f"}


def decode(content: bytes, *, fallback: str = "cp1252") -> str:
    """The text in `content`: by its byte order mark, else UTF-8, else `fallback`.

    `fallback` is believed only when every byte decodes and no control character comes out.
    Raises UnparsableError for NUL bytes, for a UTF-16 that is broken, and for anything else.
    """
    if content.startswith(UTF16_BOMS):
        return _decode_utf16(content)
    if b"\0" in content:
        raise UnparsableError("NUL bytes: a binary file, not a text")
    try:
        return content.removeprefix(UTF8_BOM).decode("utf-8")
    except UnicodeDecodeError as utf8_error:
        return _decode_fallback(content, fallback, utf8_error)


def _decode_utf16(content: bytes) -> str:
    try:
        return content.decode("utf-16")
    except UnicodeDecodeError as error:
        raise UnparsableError(f"starts like UTF-16 but is not: {error.reason}") from error


def _decode_fallback(content: bytes, fallback: str, utf8_error: UnicodeDecodeError) -> str:
    refusal = (
        f"neither UTF-8 (byte {utf8_error.start}: {utf8_error.reason}) nor {fallback}: "
        "save it as UTF-8"
    )
    try:
        text = content.decode(fallback)
    except (UnicodeDecodeError, LookupError) as error:
        raise UnparsableError(refusal) from error
    if not _CONTROLS.isdisjoint(text):
        raise UnparsableError(refusal)
    return text


def usable(text: str) -> str:
    """`text` itself, when a document can be made of it.

    Raises UnparsableError when it is empty or blank, over TEXT_MAX_BYTES of UTF-8, or holds what
    no database stores (NUL, half of a surrogate pair).
    """
    usable_utf8(text)
    return text


def usable_utf8(text: str) -> bytes:
    """The UTF-8 of a text of which a document can be made. Raises UnparsableError as `usable`."""
    if not text or text.isspace():
        raise UnparsableError("empty: there is no text in it")
    if "\0" in text:
        raise UnparsableError("the text holds a NUL character")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise UnparsableError(
            f"the text holds half of a surrogate pair at character {error.start}"
        ) from error
    if len(content) > TEXT_MAX_BYTES:
        raise UnparsableError(over_cap("its text", TEXT_MAX_BYTES))
    return content


def over_cap(what: str, cap_bytes: int) -> str:
    """The message for something that is larger than its cap."""
    return f"{what} is larger than the cap of {cap_bytes // 1_000_000} MB: split it"


def shown_names(names: Iterable[str]) -> str:
    """The first names of a row, for a message: as many and as much of each as a person reads."""
    return ", ".join(repr(name[:NAME_MAX_CHARS]) for name in islice(names, NAMES_MAX)) or "none"


def clean_name(name: str) -> str:
    """`name` as every database and terminal encoding can hold it: what UTF-8 cannot, escaped."""
    return name.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def unreadable(source: str, error: str) -> SourceText:
    """A source whose bytes could not be had: its name and error are its identity instead."""
    identity = f"\0unreadable\0{source}\0{error}".encode("utf-8", "backslashreplace")
    return SourceText(source=source, content=identity, text=None, error=error)
