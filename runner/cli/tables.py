"""Tables for people: ids and numbers stay whole, texts take the room that is left."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from runner.cli.terminal import cell, say

GAP = "  "
FLEXIBLE_MIN = 20
PIPE_COLUMNS = 10_000  # a pipe has no width: nothing is cut for it


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. It keeps its width, unless it `shrinks` or `folds`.

    So what a person copies is whole, even where the terminal has to wrap the line.
    """

    title: str
    right: bool = False
    shrinks: bool = False  # is cut with an ellipsis when there is no room
    folds: bool = False  # goes on below when there is no room

    @property
    def is_flexible(self) -> bool:
        """Whether it may become narrower than what is in it."""
        return self.shrinks or self.folds


def say_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Write a table to stdout; None is an empty cell, numbers get thousands separators.

    A column without any value is left out.
    """
    is_terminal = sys.stdout.isatty()
    room = shutil.get_terminal_size().columns if is_terminal else PIPE_COLUMNS
    for number, line in enumerate(format_table(columns, rows, room=room)):
        say(line, bold=is_terminal and number == 0)


def format_table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], *, room: int
) -> list[str]:
    """The lines of a table for `room` terminal columns, its header first; none without values."""
    cells = [[cell(value) for value in row] for row in rows]
    kept = [place for place in range(len(columns)) if any(row[place] for row in cells)]
    if not kept:
        return []
    shown = [columns[place] for place in kept]
    table = [[columns[place].title for place in kept]]
    table += [[row[place] for place in kept] for row in cells]
    widths = _widths(shown, table, room=room)
    return [line for row in table for line in _lines(shown, row, widths)]


def _widths(columns: Sequence[Column], table: Sequence[Sequence[str]], *, room: int) -> list[int]:
    widths = [max(map(_width, one)) for one in zip(*table, strict=True)]
    flexible = [place for place, column in enumerate(columns) if column.is_flexible]
    over = sum(widths) + len(GAP) * (len(widths) - 1) - room
    while over > 0 and flexible:
        widest = max(flexible, key=lambda place: widths[place])
        if widths[widest] <= FLEXIBLE_MIN:
            break
        widths[widest] -= 1
        over -= 1
    return widths


def _lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row as one line, or as several where a cell goes on below."""
    stacks = [
        _folded(text, width) if column.folds else [_cut(text, width)]
        for column, text, width in zip(columns, row, widths, strict=True)
    ]
    return [
        GAP.join(
            _padded(text, width, right=column.right)
            for column, text, width in zip(columns, parts, widths, strict=True)
        ).rstrip()
        for parts in zip_longest(*stacks, fillvalue="")
    ]


def _folded(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        if line and _width(line) + 1 + _width(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """Terminal columns: signs of East Asian scripts take two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - most tables need none of it

    return cell_len(text)
