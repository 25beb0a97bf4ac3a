"""A document read into what can be looked up: labelled values, tables and bullet lists."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

LABEL_CHARS_MAX = 60
_LABEL_MARKS = " \t*_#>`-•"
_VALUE_MARKS = " \t\r*`"
_RULE_MARKS = "-: "
_ABSENT = frozenset({"", "n/a", "none", "null", "-", "\u2013", "\u2014"})


class Mention(NamedTuple):
    """A value where it stands: the bare text of the value, and the verbatim line or cell."""

    raw: str
    quote: str


@dataclass(frozen=True, slots=True)
class Table:
    """A pipe table: normalised column names, and each row by column."""

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
    block: list[str] = field(default_factory=list)  # lines of the table being read


def normal_label(text: str) -> str:
    """A label as it is compared: lower case, no marks around it, _ and white space as one space."""
    return " ".join(text.strip(_LABEL_MARKS).lower().replace("_", " ").split())


def read_page(text: str) -> Page:
    """Read "label: value" lines, pipe tables, and bullets under a label; the first mention wins."""
    reading = _Reading()
    for line in text.split("\n"):
        if "|" in line:
            reading.block.append(line)
            continue
        if reading.block:
            _end_table(reading)
        _read_line(reading, line)
    _end_table(reading)
    return Page(
        text=text,
        scalars=reading.scalars,
        lists={label: tuple(found) for label, found in reading.lists.items()},
        tables=tuple(reading.tables),
    )


def _read_line(reading: _Reading, line: str) -> None:
    bare = line.strip()
    if reading.heading and bare.startswith(("- ", "* ", "• ")):
        bullet = bare[2:].strip(_VALUE_MARKS)
        reading.lists.setdefault(reading.heading, []).append(Mention(bullet, bare[2:].strip()))
        return
    colon = line.find(":", 0, LABEL_CHARS_MAX)
    if colon < 0:
        if bare:
            reading.heading = normal_label(bare) if bare.startswith("#") else ""
        return
    label = normal_label(line[:colon])
    raw = line[colon + 1 :].strip(_VALUE_MARKS)
    reading.heading = label if not raw else ""
    if label and raw:
        reading.scalars.setdefault(label, Mention(raw, bare))


def _end_table(reading: _Reading) -> None:
    """Turn the lines of a table into a Table; two-column rows are labels and values as well."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in reading.block]
    rows = [cells for cells in rows if any(cell.strip(_RULE_MARKS) for cell in cells)]
    reading.block.clear()
    if not rows:
        return
    columns = tuple(normal_label(cell) for cell in rows[0])
    reading.tables.append(
        Table(
            columns,
            tuple(
                {
                    column: Mention(cell.strip(_VALUE_MARKS), cell)
                    for column, cell in zip(columns, cells, strict=False)
                }
                for cells in rows[1:]
            ),
        )
    )
    for cells in rows:
        if len(cells) == 2:  # noqa: PLR2004 - a label and a value
            raw = cells[1].strip(_VALUE_MARKS)
            reading.scalars.setdefault(normal_label(cells[0]), Mention(raw, cells[1]))


def is_absent(raw: str) -> bool:
    """Whether a value says that there is none."""
    return raw.lower() in _ABSENT


_NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u202f'\u2019]\d{3})+(?:[.,]\d+)?(?!\d)|\d[\d.,]*\d|\d")
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
