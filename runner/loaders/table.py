"""CSV files: rows with quoted line breaks, large cells and broken neighbours, one at a time."""

import csv
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from runner.errors import UnparsableError
from runner.loaders.limits import ROW_MAX_BYTES
from runner.loaders.rows import RowFields, row_source, skip_row
from runner.loaders.texts import (
    UTF8_BOM,
    UTF16_BOMS,
    decode,
    over_cap,
    shown_names,
    unreadable,
)
from runner.model import SourceText

_FIRST_LINE_BYTES = 65_536
_DELIMITERS = ",;\t"


class _RowTooLongError(Exception):
    """A row has passed ROW_MAX_BYTES; what follows of it is to be skipped."""


@dataclass(frozen=True, slots=True)
class _BrokenRow:
    """A row that the csv module refuses."""

    problem: str


class _Feed:
    """Physical lines for the csv reader; knows how much the present row has taken.

    Bytes that are no UTF-8 travel as surrogates, so that one bad cell does not end the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._row_bytes = 0
        self._quotes = 0
        self._line = b""

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        self._line = self._stream.readline(ROW_MAX_BYTES - self._row_bytes + 1)
        if not self._line:
            raise StopIteration
        self._row_bytes += len(self._line)
        self._quotes += self._line.count(b'"')
        if self._row_bytes > ROW_MAX_BYTES:
            raise _RowTooLongError
        return self._line.decode("utf-8", "surrogateescape")

    def begin_row(self) -> None:
        """A new row starts with the next line."""
        self._row_bytes = self._quotes = 0

    def skip_row(self) -> None:
        """Pass over what is left of the present row: up to a line end outside quotes."""
        if self._line and not self._ends_row(self._line):
            skip_row(self._stream, is_end=self._ends_after)

    def _ends_after(self, piece: bytes) -> bool:
        self._quotes += piece.count(b'"')
        return self._ends_row(piece)

    def _ends_row(self, piece: bytes) -> bool:
        return self._quotes % 2 == 0 and piece.endswith(b"\n")


def _rows(stream: BinaryIO, *, delimiter: str) -> Iterator[list[str] | _BrokenRow]:
    # the module's own limit, 128 kB a cell, is a setting of the process
    csv.field_size_limit(ROW_MAX_BYTES)
    feed = _Feed(stream)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin_row()
        try:
            yield next(reader)
        except StopIteration:
            return
        except _RowTooLongError:
            feed.skip_row()
            yield _BrokenRow(over_cap("the row", ROW_MAX_BYTES) + ", or close its open quote")
        except csv.Error as error:
            feed.skip_row()
            yield _BrokenRow(f"the row is not CSV: {error} (is a quote not closed or not doubled?)")


def _cell(text: str) -> str:
    """A cell's text; one that is no UTF-8 is read again as the older encoding of spreadsheets."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return decode(text.encode("utf-8", "surrogateescape"))
    return text


def csv_sources(
    stream: BinaryIO, *, container: str, fields: RowFields
) -> Generator[SourceText, None, None]:
    """The rows of a seekable CSV file whose first row is its header.

    The divider is the one of comma, semicolon and tab that stands most often in the first line.
    The text is the field that `fields` names, or the only column. Row number 1 is the row after
    the header. Memory: one row. Raises UnparsableError when the header does not fit `fields`.
    """
    rows, header = _open_table(stream)
    columns = _columns(header, fields)
    for number, row in enumerate(rows, start=1):
        if row:
            yield _row(row, header, container=container, number=number, fields=columns)


def check_table(stream: BinaryIO, fields: RowFields) -> None:
    """Raise UnparsableError when the file's header does not fit `fields`."""
    _, header = _open_table(stream)
    _columns(header, fields)


def _open_table(stream: BinaryIO) -> tuple[Iterator[list[str] | _BrokenRow], list[str]]:
    first = stream.readline(_FIRST_LINE_BYTES)
    if first.startswith(UTF16_BOMS):
        raise UnparsableError("UTF-16: save it as UTF-8")
    counts = {divider: first.count(divider.encode()) for divider in _DELIMITERS}
    stream.seek(len(UTF8_BOM) if first.startswith(UTF8_BOM) else 0)
    rows = _rows(stream, delimiter=max(_DELIMITERS, key=counts.__getitem__))
    header = next(rows, None)
    if isinstance(header, _BrokenRow):
        raise UnparsableError(f"the header row cannot be read: {header.problem}")
    if not header:
        raise UnparsableError("empty: the first row must be a header")
    return rows, [_cell(name) for name in header]


def _columns(header: list[str], fields: RowFields) -> RowFields:
    text = fields.text
    shown = shown_names(header)
    if text is None:
        if len(header) > 1:
            raise UnparsableError(f"which column is the text? name it (--text-field) of: {shown}")
        text = header[0]
    for name in filter(None, (text, fields.id)):
        if header.count(name) != 1:
            raise UnparsableError(f"{header.count(name)} columns are named {name!r} of: {shown}")
    return RowFields(text=text, id=fields.id)


def _row(
    row: list[str] | _BrokenRow,
    header: list[str],
    *,
    container: str,
    number: int,
    fields: RowFields,
) -> SourceText:
    source = f"{container}#{number}"
    if isinstance(row, _BrokenRow):
        return unreadable(source, row.problem)
    raw = json.dumps(row).encode()
    try:
        cells = _cells(row, header)
    except UnparsableError as error:
        return SourceText(source=source, content=raw, text=None, error=str(error))
    return row_source(container=container, number=number, row=cells, raw=raw, fields=fields)


def _cells(row: list[str], header: list[str]) -> dict[str, str]:
    if any(row[len(header) :]):
        raise UnparsableError(
            f"the row has {len(row)} cells, the header {len(header)}: is a quote missing?"
        )
    return {name: _cell(cell) for name, cell in zip(header, row, strict=False)}
