"""The one way to the terminal: nothing that came from outside reaches it as a command to it.

Data goes to stdout, talk to stderr. Documents, file names, answers and provider messages are
untrusted: `plain` takes control characters, escape sequences and direction marks out of what people
read, `json_text` writes them as JSON escapes.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from runner.log import Level, is_json, log

if TYPE_CHECKING:
    from rich.console import Console

ERROR = "error"  # the event of what ended a command

CELL_CHARS_MAX = 300
BOLD, NORMAL = "\x1b[1m", "\x1b[0m"

# An escape sequence as a whole, so that its parameters do not stay behind as text: strings (title,
# link, device control) that end, control sequences, and two-character escapes.
_SEQUENCE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]?"
)


def plain(text: str, *, chars_max: int | None = None) -> str:
    """`text` as one line that a terminal only shows; longer than `chars_max`, it ends in `…`."""
    if not text.isprintable():
        text = "".join(_visible(sign) for sign in _SEQUENCE.sub("", text))
        text = " ".join(text.split())
    if chars_max is not None and len(text) > chars_max:
        return text[: chars_max - 1] + "…"
    return text


def plain_lines(text: str) -> str:
    """`text` with its line ends kept and every line `plain`, indentation kept."""
    return "\n".join(
        line if line.isprintable() else "".join(map(_visible, _SEQUENCE.sub("", line)))
        for line in text.replace("\r\n", "\n").expandtabs(4).split("\n")
    )


def _visible(sign: str) -> str:
    # not printable: controls, formats (direction marks, invisible signs), surrogates, private use
    if sign.isprintable():
        return sign
    return " " if sign.isspace() else ""


def talk(text: str, *, event: str = "said") -> None:
    """Say something to the person, on stderr; to a machine, as that event."""
    if is_json():
        level = Level.ERROR if event == ERROR else Level.INFO
        log(event, plain_lines(text), level=level)
        return
    _write(sys.stderr, plain_lines(text) + "\n")


def say(text: str, *, bold: bool = False) -> None:
    """Write data for a person to stdout; in bold only where it is a terminal."""
    shown = plain_lines(text)
    _write(sys.stdout, (f"{BOLD}{shown}{NORMAL}" if bold else shown) + "\n")


def say_json(value: Any) -> None:
    """Write one JSON document as one line to stdout."""
    _write(sys.stdout, json_text(value) + "\n")


def stdout_lines(lines: Iterable[str]) -> None:
    """Write many lines of JSON text that is escaped already."""
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _write(stream: TextIO, text: str) -> None:
    # a terminal or pipe of another encoding must not end a run
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def json_text(value: Any) -> str:
    """`value` as JSON: decimals as exact numbers, and what `plain` takes out as escapes."""
    return escaped_json(_json(value))


def escaped_json(text: str) -> str:
    """JSON text, equal as JSON, with every character that is not printable as an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in _no_del(text))


def _no_del(text: str) -> str:
    # the one unprintable character that json.dumps leaves as it is
    return text.replace("\x7f", "\\u007f")


def _json(value: Any) -> str:
    match value:
        case Decimal():
            return f"{value.normalize():f}"
        case str() | int() | float() | None:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        case Mapping():
            return (
                "{" + ", ".join(f"{_json(str(k))}: {_json(one)}" for k, one in value.items()) + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(map(_json, value)) + "]"
        case _:
            return _json(dict(value))  # a pydantic model, as its fields


def cell(value: object) -> str:
    """A value as a person reads it in a table or a list."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return plain(str(value), chars_max=CELL_CHARS_MAX)


def console(stream: TextIO) -> "Console":
    """A rich console on `stream` that takes text as text, never as markup."""
    from rich.console import Console  # noqa: PLC0415 - `runner --help` needs none of it

    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
    )


def hush_stdout() -> None:
    """After the reader of stdout went away: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def lines_of(pairs: Iterable[tuple[str, Any]]) -> str:
    """`name  value` lines with the values under each other; pairs without a value are left out."""
    kept = [(name, value) for name, value in pairs if value not in (None, "", (), [])]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name:<{width}}  {plain(cell(value))}" for name, value in kept)
