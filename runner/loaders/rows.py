"""Rows: one JSON line, one table row or one Python value as a source."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from pydantic_core import from_json

from runner.errors import UnparsableError
from runner.loaders.limits import ROW_MAX_BYTES, ROW_SKIP_MAX_BYTES
from runner.loaders.texts import (
    UTF8_BOM,
    UTF16_BOMS,
    clean_name,
    over_cap,
    shown_names,
    unreadable,
    usable_utf8,
)
from runner.model import SourceText

ID_MAX_CHARS = 500
DEFAULT_TEXT_FIELD = "text"

_PIECE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class RowFields:
    """Which field of a row is its text and which its id; `id` None: the row number."""

    text: str | None = None
    id: str | None = None


def from_iterable(
    items: Iterable[str | tuple[str, str] | Mapping[str, object]],
    *,
    text_field: str = DEFAULT_TEXT_FIELD,
    id_field: str = "id",
    limit: int | None = None,
) -> Iterator[SourceText]:
    """Sources from Python values: a text, an (id, text) pair, or a mapping with `text_field`.

    A source is named by its id; without one (a text, a mapping without `id_field`) by `#` and its
    place, counted from 1. A value that is none of these gives a source with an error; its
    neighbours are not affected. At most `limit` items are taken. Constant memory.
    """
    for number, item in enumerate(islice(items, limit), start=1):
        source = f"#{number}"
        try:
            row_id, text = _item_parts(item, text_field=text_field, id_field=id_field)
            source = source if row_id is None else row_id
            yield _text_source(source, text)
        except UnparsableError as error:
            yield unreadable(source, str(error))


def _item_parts(item: object, *, text_field: str, id_field: str) -> tuple[str | None, object]:
    match item:
        case str():
            return None, item
        case (row_id, text):
            return _checked_id(row_id), text
        case Mapping():
            row_id = _checked_id(item[id_field]) if id_field in item else None
            return row_id, _field(item, text_field)
    raise UnparsableError(
        f"of type {type(item).__name__}: neither a text, an (id, text) pair nor a mapping"
    )


def row_source(
    *, container: str, number: int, row: object, raw: bytes, fields: RowFields
) -> SourceText:
    """One row of `container` as a source named `container#id`, or `container#number` without one.

    `raw` is the row's identity when no text can be taken from it.
    """
    source = f"{container}#{number}"
    try:
        text, row_id = _row_parts(row, fields)
        source = source if row_id is None else f"{container}#{row_id}"
        return _text_source(source, text)
    except UnparsableError as error:
        return SourceText(source=source, content=raw, text=None, error=str(error))


def _row_parts(row: object, fields: RowFields) -> tuple[object, str | None]:
    match row:
        case str() if fields.id is None:
            return row, None
        case str():
            raise UnparsableError(f"the row is a string and has no id field {fields.id!r}")
        case Mapping():
            row_id = None if fields.id is None else _checked_id(_field(row, fields.id))
            return _field(row, fields.text or DEFAULT_TEXT_FIELD), row_id
    raise UnparsableError(
        f"the row is of type {type(row).__name__}: neither an object nor a string"
    )


def _field(row: Mapping[str, object], name: str) -> object:
    if name not in row:
        raise UnparsableError(f"the row has no field {name!r}, only {shown_names(row)}")
    return row[name]


def _checked_id(row_id: object) -> str:
    if isinstance(row_id, bool) or not isinstance(row_id, str | int) or row_id == "":
        raise UnparsableError(f"the row's id is neither a text nor a whole number: {row_id!r:.50}")
    name = clean_name(str(row_id))
    if len(name) > ID_MAX_CHARS:
        raise UnparsableError(f"the row's id is longer than {ID_MAX_CHARS} characters")
    return name


def _text_source(source: str, text: object) -> SourceText:
    if not isinstance(text, str):
        raise UnparsableError(f"the text is of type {type(text).__name__}, not a string")
    try:
        return SourceText(source=source, content=usable_utf8(text), text=text)
    except UnparsableError as error:
        content = text.encode("utf-8", "surrogatepass")
        return SourceText(source=source, content=content, text=None, error=str(error))


def jsonl_sources(
    stream: BinaryIO, *, container: str, fields: RowFields
) -> Generator[SourceText, None, None]:
    """The rows of JSON lines: objects with a text field (`text` by default) or plain strings.

    The row number is the line number, from 1; blank lines are passed over. A line that is too
    long, no UTF-8 or no JSON gives a source with an error. Memory: one line.
    Raises UnparsableError for a file in UTF-16.
    """
    for number, line in enumerate(_lines(stream), start=1):
        if line is None:
            yield unreadable(f"{container}#{number}", over_cap("the row", ROW_MAX_BYTES))
        elif number == 1 and line.startswith(UTF16_BOMS):
            raise UnparsableError("UTF-16: save it as UTF-8")
        elif line.strip():
            yield _json_source(line, container=container, number=number, fields=fields)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a stream without their ends; None for one that is longer than ROW_MAX_BYTES."""
    bom = UTF8_BOM
    while line := stream.readline(ROW_MAX_BYTES + 1):
        if len(line) <= ROW_MAX_BYTES:
            yield line.rstrip(b"\r\n").removeprefix(bom)
            bom = b""
            continue
        if not line.endswith(b"\n"):
            skip_row(stream, is_end=lambda piece: piece.endswith(b"\n"))
        yield None


def skip_row(stream: BinaryIO, *, is_end: Callable[[bytes], bool]) -> None:
    """Pass over the rest of a row that is too large, up to the piece that is its end.

    A piece ends where its line does, or after a megabyte. Raises UnparsableError when no end is
    found within ROW_SKIP_MAX_BYTES: a sparse file of terabytes is not read to its end.
    """
    skipped_bytes = 0
    while piece := stream.readline(_PIECE_BYTES):
        skipped_bytes += len(piece)
        if is_end(piece):
            return
        if skipped_bytes > ROW_SKIP_MAX_BYTES:
            raise UnparsableError(
                f"a row of it has no end within {ROW_SKIP_MAX_BYTES // 1_000_000} MB: nothing "
                "after that is read"
            )


def _json_source(line: bytes, *, container: str, number: int, fields: RowFields) -> SourceText:
    try:
        row = _json_value(line)
    except UnicodeDecodeError as error:
        problem = f"the row is not UTF-8: byte {error.start}: {error.reason}"
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deep
        problem = f"the row is not JSON: {error}"
    else:
        return row_source(container=container, number=number, row=row, raw=line, fields=fields)
    return SourceText(source=f"{container}#{number}", content=line, text=None, error=problem)


def _json_value(line: bytes) -> object:
    """As `json.loads` of the UTF-8 reads it, and refuses it; mostly in half of the time."""
    try:
        return from_json(line, cache_strings="keys")
    except ValueError:
        # also what it alone refuses: deep nesting, and halves of surrogate pairs
        return json.loads(line.decode("utf-8"))
