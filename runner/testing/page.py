"""A document read into what can be looked up: labelled values, tables and bullet lists."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

LABEL_CHARS_MAX = 60
_LABEL_MARKS = " \t*_#>`-\u2022"
_VALUE_MARKS = " \t\r*`"
_RULE_MARKS = "-: "
WIDE_COLUMNS_MIN = 3
_GAP = re.compile(r"\s{2,}")
# the blanks before a further "label:" on the same line
_NEXT_LABEL = re.compile(r"\s{2,}(?=[^\s:]+(?: [^\s:]+){0,4}:)")
_ABSENT = frozenset({"", "n/a", "none", "null", "-", "\u2013", "\u2014"})


class Mention(NamedTuple):
    """A value where it stands: the bare text of the value, and the verbatim line or cell."""

    raw: str
    quote: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table: normalised column names, and each row by column."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Mention], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What one document says; labels are lower case with single spaces."""

    text: str
    scalars: Mapping[str, Mention]
    lists: Mapping[str, tuple[Mention, ...]]
    tables: tuple[Table, ...]


@dataclass(slots=True)
class _Reading:
    """A page in the making."""

    scalars: dict[str, Mention] = field(default_factory=dict)
    lists: dict[str, list[Mention]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    heading: str = ""  # the label whose bullets may follow
    block: list[list[str]] = field(default_factory=list)  # cells of the table being read


def normal_label(text: str) -> str:
    """A label as it is compared: lower case, no marks around it, _ and white space as one space.

    Of a label in two languages ("Rechnungsnummer / Invoice number") the last is taken.
    """
    if " / " in text:
        text = text.rpartition(" / ")[2]
    return " ".join(text.strip(_LABEL_MARKS).lower().replace("_", " ").split())


def read_page(text: str) -> Page:
    """Read "label: value" lines, tables, and bullets under a label; the first mention wins.

    A table is a run of lines with pipes, or with three or more columns two blanks apart.
    """
    reading = _Reading()
    for line in text.split("\n"):
        cells = _cells(line)
        if cells:
            reading.block.append(cells)
        elif not reading.block or not _is_rule(line):
            _end_table(reading)
            _read_line(reading, line.strip())
    _end_table(reading)
    return Page(
        text=text,
        scalars=reading.scalars,
        lists={label: tuple(found) for label, found in reading.lists.items()},
        tables=tuple(reading.tables),
    )


def _cells(line: str) -> list[str]:
    """The cells of a table's line; none for any other line."""
    if "|" in line:
        return [cell.strip() for cell in line.strip().strip("|").split("|")]
    if "  " not in line or ":" in line:
        return []
    cells = _GAP.split(line.strip())
    return cells if len(cells) >= WIDE_COLUMNS_MIN else []


def _is_rule(line: str) -> bool:
    bare = line.strip()
    return bare != "" and not bare.strip("-=+ ")


def _read_line(reading: _Reading, bare: str) -> None:
    if reading.heading and bare.startswith(("- ", "* ", "\u2022 ")):
        bullet = bare[2:].strip(_VALUE_MARKS)
        reading.lists.setdefault(reading.heading, []).append(Mention(bullet, bare[2:].strip()))
    elif ":" not in bare[:LABEL_CHARS_MAX]:
        if bare:
            reading.heading = normal_label(bare) if bare.startswith("#") else ""
    elif "  " in bare:
        for part in _NEXT_LABEL.split(bare):
            _read_label(reading, part)
    else:
        _read_label(reading, bare)


def _read_label(reading: _Reading, bare: str) -> None:
    name, _, value = bare.partition(":")
    label, raw = normal_label(name), value.strip(_VALUE_MARKS)
    reading.heading = label if not raw else ""
    if label and raw:
        reading.scalars.setdefault(label, Mention(raw, bare))


def _end_table(reading: _Reading) -> None:
    """Turn the lines of a table into a Table; two-column rows are labels and values as well."""
    if not reading.block:
        return
    rows = [cells for cells in reading.block if any(cell.strip(_RULE_MARKS) for cell in cells)]
    reading.block = []
    if not rows:
        return
    columns = tuple(normal_label(cell) for cell in rows[0])
    reading.tables.append(Table(columns, tuple(_row(columns, cells) for cells in rows[1:])))
    for cells in rows:
        if len(cells) == 2:  # noqa: PLR2004 - a label and a value
            raw = cells[1].strip(_VALUE_MARKS)
            reading.scalars.setdefault(normal_label(cells[0]), Mention(raw, cells[1]))


def _row(columns: tuple[str, ...], cells: list[str]) -> dict[str, Mention]:
    mentions = [Mention(cell.strip(_VALUE_MARKS), cell) for cell in cells]
    return dict(zip(columns, mentions, strict=False))


def is_absent(raw: str) -> bool:
    """Whether a value says that there is none."""
    return raw.lower() in _ABSENT


_NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u202f'\u2019]\d{3})+(?:[.,]\d+)?(?!\d)|\d[\d.,]*\d|\d")
_PLAIN_NUMBER = re.compile(r"-?(?:\d+|\d+\.\d+|\d{1,3}(?:,\d{3})+\.\d+)")
_THOUSANDS = re.compile(r"[ \u00a0\u202f'\u2019]")
_GROUP_DIGITS = 3
_MONTHS = {
    name: position
    for position, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_ISO = re.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\b")
_DAY_FIRST = re.compile(
    r"\b(\d{1,2})(?:st|nd|rd|th)?[-./\s]+([A-Za-z]{3,9}|\d{1,2})[-./,\s]+(\d{4})\b"
)
_MONTH_FIRST = re.compile(r"\b([A-Za-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})\b")


def number_text(raw: str) -> str | None:
    """The first number in `raw` in plain decimal notation ("-1234.50"); None when there is none.

    Of two kinds of separator the last is the decimal one; a single comma is one unless exactly
    three digits follow it; a single point always is.
    """
    if _PLAIN_NUMBER.fullmatch(raw):  # nearly every cell of a table
        return raw.replace(",", "")
    found = _NUMBER.search(raw)
    if found is None:
        return None
    digits = _THOUSANDS.sub("", found.group())
    if "," in digits and "." in digits:
        decimal = max(digits.rfind(","), digits.rfind("."))
        digits = re.sub("[.,]", "", digits[:decimal]) + "." + digits[decimal + 1 :]
    elif digits.count(",") == 1 and len(digits) - digits.find(",") - 1 != _GROUP_DIGITS:
        digits = digits.replace(",", ".")
    elif "," in digits or digits.count(".") > 1:
        digits = re.sub("[.,]", "", digits)
    negative = any(mark in "-\u2212(" for mark in raw[: found.start()])
    return f"-{digits}" if negative else digits


def iso_date(raw: str) -> str | None:
    """The first date in `raw` as YYYY-MM-DD; None when there is none. 03/04/2026 is day first."""
    found = _ISO.search(raw)
    if found:
        return _iso(found[1], found[2], found[3])
    found = _DAY_FIRST.search(raw)
    if found:
        return _iso(found[3], found[2], found[1]) or _iso(found[3], found[1], found[2])
    found = _MONTH_FIRST.search(raw)
    return _iso(found[3], found[1], found[2]) if found else None


def _iso(year: str, month: str, day: str) -> str | None:
    number = int(month) if month.isdigit() else _MONTHS.get(month[:3].lower(), 0)
    try:
        return date(int(year), number, int(day)).isoformat()
    except ValueError:
        return None
