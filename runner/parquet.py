"""Parquet files: rows of typed columns, written a part at a time; needs the extra `parquet`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from importlib.util import find_spec
from itertools import islice
from typing import IO, Any

from runner.errors import InputError

ROWS_AT_ONCE = 2_000
INTEGER_BITS = 64
EXACT_BITS = 53  # of a whole number that a float has exactly
USD_DIGITS, USD_PLACES = 38, 9


class Kind(Enum):
    """What a column holds; NOTHING until a value was seen."""

    NOTHING = "nothing"
    TEXT = "text"
    TEXTS = "texts"
    BOOLEAN = "boolean"
    INTEGER = "integer"  # that a float has exactly
    LONG = "long"
    NUMBER = "number"
    USD = "usd"


def require_parquet() -> None:
    """Raise InputError, which names the extra, unless Parquet files can be written here."""
    if find_spec("pyarrow") is None:
        raise InputError(
            "a .parquet file needs the extra `parquet`, which is not installed: "
            "`pip install 'extraction-runner[parquet]'`, or name a .jsonl or .csv file"
        )


def kind_with(known: Kind, value: object) -> Kind:
    """The kind of a column that also holds this JSON value, so that no value loses anything.

    Whole numbers and others are numbers together while a float has each exactly; whatever else is
    mixed is text.
    """
    seen = _kind_of(value)
    if Kind.NOTHING in (known, seen):
        return known if seen is Kind.NOTHING else seen
    if known is seen:
        return known
    return _TOGETHER.get(frozenset((known, seen)), Kind.TEXT)


_TOGETHER = {
    frozenset((Kind.INTEGER, Kind.LONG)): Kind.LONG,
    frozenset((Kind.INTEGER, Kind.NUMBER)): Kind.NUMBER,
}


def _kind_of(value: object) -> Kind:
    match value:
        case None:
            return Kind.NOTHING
        case bool():
            return Kind.BOOLEAN
        case int():
            if value.bit_length() <= EXACT_BITS:
                return Kind.INTEGER
            return Kind.LONG if value.bit_length() < INTEGER_BITS else Kind.TEXT
        case float():
            return Kind.NUMBER
        case _:
            return Kind.TEXT


def write_parquet(
    stream: IO[bytes], rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Kind]
) -> int:
    """Write rows to an open stream, and return how many; a column that a row lacks is null there.

    US dollars are exact decimals. In a text column other JSON values stand as JSON.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra, and 0.2 s that only this needs
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415 - as above

    types = {
        Kind.NOTHING: pa.string(),
        Kind.TEXT: pa.string(),
        Kind.TEXTS: pa.list_(pa.string()),
        Kind.BOOLEAN: pa.bool_(),
        Kind.INTEGER: pa.int64(),
        Kind.LONG: pa.int64(),
        Kind.NUMBER: pa.float64(),
        Kind.USD: pa.decimal128(USD_DIGITS, USD_PLACES),
    }
    schema = pa.schema([(_sayable(name), types[kind]) for name, kind in columns.items()])
    count = 0
    with ParquetWriter(stream, schema, compression="zstd") as writer:
        for some in _parts(rows):
            values = [
                [_value(row.get(name), kind) for row in some] for name, kind in columns.items()
            ]
            arrays = [pa.array(one, type=of.type) for one, of in zip(values, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(some)
    return count


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while some := list(islice(iterator, ROWS_AT_ONCE)):
        yield some


def _value(value: Any, kind: Kind) -> Any:
    match kind:
        case _ if value is None:
            return None
        case Kind.TEXT | Kind.NOTHING:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            return _sayable(text)
        case Kind.TEXTS:
            return [_sayable(one) for one in value]
        case Kind.NUMBER:
            return float(value)
        case Kind.USD:
            return Decimal(value)
        case _:
            return value


def _sayable(text: str) -> str:
    # half a surrogate pair, which UTF-8 cannot say, becomes its JSON escape
    return text.encode("utf-8", "backslashreplace").decode()
