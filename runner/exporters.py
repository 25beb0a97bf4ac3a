"""Result files: one line a source as JSON lines, CSV or Parquet, atomic, exact in money.

CSV cells cannot start a formula: a text that a spreadsheet might read as one gets an apostrophe in
front. To get the original back, take one leading apostrophe off each cell whose rest
`starts_formula`; no other cell was changed.
"""

import csv
import json
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from runner.errors import InputError
from runner.files import whole_file
from runner.model import DocumentState
from runner.parquet import Kind, kind_with, require_parquet, write_parquet

Format = Literal["jsonl", "csv", "parquet"]

FORMATS: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
COLUMNS_MAX = 2_000
STDOUT = "-"

_ENVELOPE = (
    *("document_id", "source", "status", "flags", "error.reason", "error.message"),
    *("prompt", "model", "attempts", "cost_usd", "latency_s", "trace_id"),
)


class ResultError(BaseModel):
    """Why a source has no record, or one that waits for a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    message: str


class ResultLine(BaseModel):
    """What a result file says of one source.

    `data` is the extraction as JSON values; `cost_usd` is exact to the nano-dollar, None when the
    price is unknown; `latency_s` is in seconds. Cost and attempts belong on a document's first
    source only, so that they add up. Raises pydantic.ValidationError for anything else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    document_id: str
    source: str
    status: DocumentState
    data: dict[str, Any] | None = None
    flags: tuple[str, ...] = ()
    error: ResultError | None = None
    prompt: str | None = None
    model: str | None = None
    attempts: Annotated[int, Field(ge=0)] = 0
    cost_usd: Annotated[Decimal, Field(ge=0, decimal_places=9)] | None = None
    latency_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    trace_id: str | None = None


def write_results(
    lines: Iterable[ResultLine],
    path: Path | None,
    *,
    format: Format | None = None,  # noqa: A002 - the option's name
    columns: Sequence[str] | None = None,
) -> int:
    """Write result lines to `path` all or nothing, and return how many.

    The format is the extension's unless given; None or `-` is standard output (`jsonl` unless
    given). The file has mode 0600 and appears, or replaces an older one, when it is complete and
    on disk; upon any error nothing is left behind. `columns` as in `write_results_to`.
    Raises InputError when the path or its extension cannot be used, or what writes that format is
    not installed, RunnerError when writing fails.
    """
    if path is None or str(path) == STDOUT:
        return write_results_to(
            cast("BinaryIO", sys.stdout.buffer), lines, format=format or "jsonl", columns=columns
        )
    chosen = format or _format_of(path)
    with whole_file(path) as stream:
        return write_results_to(
            stream, lines, format=chosen, columns=columns, spool_folder=path.absolute().parent
        )


def write_results_to(
    stream: IO[bytes],
    lines: Iterable[ResultLine],
    *,
    format: Format = "jsonl",  # noqa: A002 - the option's name
    columns: Sequence[str] | None = None,
    spool_folder: Path | None = None,
) -> int:
    """Write result lines to an open stream, and return how many; the stream stays open.

    CSV and Parquet have the envelope's columns, then one for each leaf of the data
    (`data.seller.name`), lists as JSON. `columns` (names without `data.`) are those data columns in
    that order and leave others out. Without it, and for Parquet, whose columns have types, lines
    pass through a temporary file in `spool_folder`, because the header is only known after the last
    one. Memory does not grow with the number of lines.
    Raises InputError for more than COLUMNS_MAX data columns, and without what writes Parquet.
    """
    if format == "jsonl":
        count = _write_jsonl(stream, lines)
    elif format == "parquet":
        count = _write_parquet(stream, lines, columns, spool_folder)
    elif columns is not None:
        count = _write_csv(stream, map(_flat, lines), [_PREFIX + name for name in columns])
    else:
        count = _write_spooled_csv(stream, lines, spool_folder)
    stream.flush()
    return count


def _write_jsonl(stream: IO[bytes], lines: Iterable[ResultLine]) -> int:
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007 - the last count is the answer
        stream.write(_encoded(json_line(line) + "\n"))
    return count


def _encoded(text: str) -> bytes:
    # half a surrogate pair, which UTF-8 cannot say, becomes its JSON escape
    return text.encode("utf-8", "backslashreplace")


def json_line(line: ResultLine) -> str:
    """A result line as one line of JSON, without its end; the cost is a number, exact."""
    head = {
        "document_id": line.document_id,
        "source": line.source,
        "status": line.status.value,
        "data": line.data,
        "flags": line.flags,
        "error": line.error.model_dump() if line.error else None,
        "prompt": line.prompt,
        "model": line.model,
        "attempts": line.attempts,
    }
    tail = {"latency_s": line.latency_s, "trace_id": line.trace_id}
    # the json module has no exact decimals, so the cost is set between two pieces
    return f'{_json(head)[:-1]}, "cost_usd": {_usd(line.cost_usd) or "null"}, {_json(tail)[1:]}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _usd(cost: Decimal | None) -> str:
    if cost is None:
        return ""
    digits = f"{cost:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


# --- CSV ------------------------------------------------------------------------------------------

_PREFIX = "data."

# a cell that Python's own JSON gives for a number: harmless, and better left a number
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# acute accent, low quotes, full-width quotes; the other quotes have categories of their own
_QUOTES = frozenset("'\"`\u00b4\u201a\u201e\uff07\uff02")
# controls, invisible signs, opening and closing quotes
_PASSED_OVER = frozenset({"Cc", "Cf", "Pi", "Pf"})
_TRIGGERS = frozenset("=+-@")
_ROW_BREAKERS = frozenset("\t\r\n")


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet might read this cell as a formula.

    It might when the first character after any whitespace, quotes and invisible characters is one
    of `= + - @` (full-width, small and raised forms too), or when a tab or a line end stands among
    those. Plain numbers such as -12.5 do not.
    """
    if _PLAIN_NUMBER.fullmatch(text):
        return False
    for sign in text:
        if sign in _ROW_BREAKERS:
            return True
        if not _is_passed_over(sign):
            return unicodedata.normalize("NFKC", sign)[0] in _TRIGGERS
    return False


def _is_passed_over(sign: str) -> bool:
    return sign.isspace() or sign in _QUOTES or unicodedata.category(sign) in _PASSED_OVER


def safe_cell(text: str) -> str:
    """`text` as a cell that cannot start a formula: with an apostrophe in front where needed."""
    return "'" + text if starts_formula(text) else text


def _flat(line: ResultLine) -> dict[str, str]:
    """The cells of one line by column; names and texts are safe already."""
    cells = {
        "document_id": safe_cell(line.document_id),
        "source": safe_cell(line.source),
        "status": line.status.value,
        "flags": _json(line.flags),
        "error.reason": safe_cell(line.error.reason) if line.error else "",
        "error.message": safe_cell(line.error.message) if line.error else "",
        "prompt": safe_cell(line.prompt or ""),
        "model": safe_cell(line.model or ""),
        "attempts": str(line.attempts),
        "cost_usd": _usd(line.cost_usd),
        "latency_s": _cell(line.latency_s),
        "trace_id": safe_cell(line.trace_id or ""),
    }
    cells.update(_leaves(_PREFIX, line.data or {}))
    return cells


def _escaped(name: str) -> str:
    return name.replace(".", "\\.")


def _leaves(prefix: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        column = prefix + _escaped(name)
        if isinstance(value, dict) and value:
            yield from _leaves(column + ".", value)
        else:
            yield column, _cell(value)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return safe_cell(value)
        case dict() if not value:
            return ""
        case _:
            return _json(value)


class _Encoder:
    """The text side of a byte stream, as the csv module needs it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_encoded(text))


def _write_csv(
    stream: IO[bytes], rows: Iterable[Mapping[str, str]], data_columns: Sequence[str]
) -> int:
    writer = csv.writer(_Encoder(stream))
    header = (*_ENVELOPE, *data_columns)
    writer.writerow(header)
    count = 0
    for count, cells in enumerate(rows, start=1):  # noqa: B007 - the last count is the answer
        writer.writerow(cells.get(column, "") for column in header)
    return count


def _write_spooled_csv(stream: IO[bytes], lines: Iterable[ResultLine], folder: Path | None) -> int:
    with tempfile.TemporaryFile("w+", encoding="ascii", dir=folder) as spool:
        columns: dict[str, bool] = {}  # column -> whether it ever held something
        for line in lines:
            cells = _flat(line)
            _note_columns(columns, cells)
            spool.write(json.dumps(cells) + "\n")
        spool.seek(0)
        return _write_csv(stream, map(json.loads, spool), _header(columns))


def _note_columns(columns: dict[str, bool], cells: Mapping[str, str]) -> None:
    for column, cell in cells.items():
        if column.startswith(_PREFIX):
            columns[column] = columns.get(column, False) or cell != ""
    _refuse_too_many(columns)


def _refuse_too_many(columns: Mapping[str, object]) -> None:
    if len(columns) > COLUMNS_MAX:
        raise InputError(
            f"the data has more than {COLUMNS_MAX} columns: export .jsonl, or name the columns"
        )


def _header(columns: Mapping[str, bool]) -> list[str]:
    """The data columns, without those of an object that was only ever absent in its place."""
    parents = {
        column[:end] for column in columns for end in range(len(column)) if column[end] == "."
    }
    return [column for column, filled in columns.items() if filled or column not in parents]


# --- Parquet --------------------------------------------------------------------------------------

_KINDS: Mapping[str, Kind] = dict.fromkeys(_ENVELOPE, Kind.TEXT) | {
    "flags": Kind.TEXTS,
    "attempts": Kind.INTEGER,
    "cost_usd": Kind.USD,
    "latency_s": Kind.NUMBER,
}


def _write_parquet(
    stream: IO[bytes],
    lines: Iterable[ResultLine],
    columns: Sequence[str] | None,
    folder: Path | None,
) -> int:
    require_parquet()
    with tempfile.TemporaryFile("w+", encoding="ascii", dir=folder) as spool:
        kinds: dict[str, Kind] = {}
        for line in lines:
            values = dict(_values(_PREFIX, line.data or {}))
            for column, value in values.items():
                kinds[column] = kind_with(kinds.get(column, Kind.NOTHING), value)
            _refuse_too_many(kinds)
            spool.write(json.dumps(_envelope(line) | values) + "\n")
        spool.seek(0)
        filled = {column: kind is not Kind.NOTHING for column, kind in kinds.items()}
        names = _header(filled) if columns is None else [_PREFIX + name for name in columns]
        typed = {name: kinds.get(name, Kind.NOTHING) for name in names}
        return write_parquet(stream, map(json.loads, spool), {**_KINDS, **typed})


def _envelope(line: ResultLine) -> dict[str, Any]:
    return {
        "document_id": line.document_id,
        "source": line.source,
        "status": line.status.value,
        "flags": line.flags,
        "error.reason": line.error and line.error.reason,
        "error.message": line.error and line.error.message,
        "prompt": line.prompt,
        "model": line.model,
        "attempts": line.attempts,
        "cost_usd": _usd(line.cost_usd) or None,
        "latency_s": line.latency_s,
        "trace_id": line.trace_id,
    }


def _values(prefix: str, data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every leaf with its column, as in CSV; lists as JSON."""
    for name, value in data.items():
        column = prefix + _escaped(name)
        if isinstance(value, dict):
            yield from _values(column + ".", value) if value else [(column, None)]
        else:
            yield column, _json(value) if isinstance(value, list) else value


# --- files ----------------------------------------------------------------------------------------


def _format_of(path: Path) -> Format:
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputError(
            f"{path}: unknown result format {path.suffix!r}; known are {' '.join(FORMATS)}"
        )
    if found == "parquet":
        require_parquet()
    return found
