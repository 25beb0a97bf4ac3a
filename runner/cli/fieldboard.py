"""Where the fields of a growing answer are shown: in place on a terminal, else line by line."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from runner.cli.fields import Leaf
from runner.cli.terminal import CELL_CHARS_MAX, console, plain

if TYPE_CHECKING:
    from rich.table import Table

LINES_BESIDE = 2  # of a terminal, for how it goes on and for the cursor


class FieldBoard(Protocol):
    """Where fields are shown."""

    def show(self, found: Sequence[Leaf], words: str) -> None:
        """Show the fields so far, the last one perhaps in part, and in words how it goes on."""

    def close(self, found: Sequence[Leaf], marks: Mapping[str, str]) -> None:
        """Show all fields with their marks, and leave the terminal as it was."""


class LiveFields:
    """A table that is drawn anew in place; of one too long for the terminal, its newest rows."""

    def __init__(self, stream: TextIO) -> None:
        from rich.live import Live  # noqa: PLC0415 - a pipe needs none of it

        self._console = console(stream)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._live.start()

    def show(self, found: Sequence[Leaf], words: str) -> None:
        """Draw the table anew, how it goes on below it."""
        from rich.console import Group  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        newest = found[-max(1, self._console.height - LINES_BESIDE) :]
        going_on = Text(plain(words), style="dim", no_wrap=True)
        self._live.update(Group(_table(newest, {}), going_on), refresh=True)

    def close(self, found: Sequence[Leaf], marks: Mapping[str, str]) -> None:
        """Draw the whole table for the last time; it stays."""
        self._live.update(_table(found, marks))
        self._live.stop()


def _table(found: Sequence[Leaf], marks: Mapping[str, str]) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True)
    for leaf in found:
        table.add_row(
            Text(plain(leaf.path, chars_max=CELL_CHARS_MAX), style="bold"),
            Text(plain(leaf.words, chars_max=CELL_CHARS_MAX)),
            Text(marks.get(leaf.path, "")),
        )
    return table


class PlainFields:
    """A line for each field once it is complete, and at the end a line for each mark."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written: set[str] = set()

    def show(self, found: Sequence[Leaf], words: str) -> None:  # noqa: ARG002 - for terminals
        """Write what has become complete: whatever another field has followed."""
        for leaf in found[:-1]:
            self._write_once(leaf)

    def close(self, found: Sequence[Leaf], marks: Mapping[str, str]) -> None:
        """Write what is left, and then the marks."""
        for leaf in found:
            self._write_once(leaf)
        for path, mark in marks.items():
            self._write(f"{mark}  {plain(path, chars_max=CELL_CHARS_MAX)}")

    def _write_once(self, leaf: Leaf) -> None:
        if leaf.path not in self._written:
            self._written.add(leaf.path)
            self._write(f"{plain(leaf.path, chars_max=CELL_CHARS_MAX)}  {plain(leaf.words)}")


class NoFields:
    """Nobody watches."""

    def show(self, found: Sequence[Leaf], words: str) -> None:
        """Nothing to show it on."""

    def close(self, found: Sequence[Leaf], marks: Mapping[str, str]) -> None:
        """Nothing to show it on."""
