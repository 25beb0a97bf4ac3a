"""Finds the days that a text names, in the usual writings of a dozen languages.

    2026-03-12  12.03.2026  3/12/26  12-Mar-26  12. März 2026  March 12th, 2026  1.3.-12.3.2026

A day and month that could change places (03/04/2026) are taken either way: the document itself does
not say which is meant.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import chain

from .words import Span, is_of_word

# Month names as documents print them: English, German, French, Spanish, Italian, Portuguese, Dutch,
# Swedish, Danish, Norwegian, Polish and Czech (as after a day). Abbreviations are their beginnings.
_MONTHS = (
    "january januar janvier enero gennaio janeiro januari stycznia ledna jänner",
    "february februar février fevrier febrero febbraio fevereiro februari lutego února feber",
    "march märz maerz mars marzo março marco maart marts marca března mrt mrz",
    "april avril abril aprile kwietnia dubna",
    "may mai mayo maggio maio mei maj maja května",
    "june juni juin junio giugno junho czerwca června",
    "july juli juillet julio luglio julho lipca července",
    "august août aout agosto augustus augusti sierpnia srpna",
    "september septembre septiembre settembre setembro września wrzesnia září",
    "october oktober octobre octubre ottobre outubro października pazdziernika října",
    "november novembre noviembre novembro listopada listopadu",
    "december dezember décembre decembre diciembre dicembre dezembro grudnia prosince",
)
_WHOLE_MONTHS = (  # Finnish; their first letters would be those of other months
    "tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta"
    " syyskuuta lokakuuta marraskuuta joulukuuta"
)
_LETTERS_MIN = 3

_ORDINAL = r"(?:st|nd|rd|th|er|ère|º|ª|°|:[ae]|\.)?"
_GAP = r"[\s,.\u00a0|*_-]{0,4}"
_OF = r"(?:(?:de|del|of|day\s+of)\s+|d['\u2019]\s?)?"
_TO = r"\s?(?:-|\u2013|\u2014|to|until|through|and|bis|und|au|et|al|y|t/m|en|till|do|a)\s?"
_WORD = r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f]){2,14}"
_DAY = rf"(\d\d?)(?!\d)(?<!\d\d\d){_ORDINAL}"
_YEAR = r"(?:\d{4}|['\u2019]\d\d)(?!\d)"
# two figures without an apostrophe are a year when nothing makes them another number
_BARE_YEAR = r"\d\d(?![.,:/%]?\d)"
_POINT = r"\s?[./-]\s?"

# Beside a date in figures is no figure, and none beyond a point or dash, but for the other end of a
# span: 01.01.2026-31.03.2026, 2026-01-01/2026-03-31.
_BEGINS = re.compile(r"(?<![\d.,/-])|(?<=[\d.][\d.]-)(?=\d{1,2}[./])|(?<=\d\d/)(?=\d{4}-)")
_ENDS = r"(?!\d)(?:(?![./-]\d)|(?=-\d{1,2}[./]\d)|(?=/\d{4}-))"

# Each pattern begins with a plain figure: `re` then looks at no other place.
_YEAR_FIRST = re.compile(
    rf"(\d\d\d\d)(?:(?:{_POINT}|年\s?)(\d\d?)(?:{_POINT}|月\s?)(\d\d?)日?|(\d\d)(\d\d)){_ENDS}"
)
_YEAR_LAST = re.compile(rf"(\d\d?){_POINT}(\d\d?){_POINT}['\u2019]?(\d{{4}}|\d\d){_ENDS}")
_DAY_FIRST = re.compile(
    rf"{_DAY}{_GAP}{_OF}({_WORD})\.?(?:{_GAP}{_OF}({_YEAR})|[ ./-]({_BARE_YEAR}))", re.IGNORECASE
)
_DAY_AND_YEAR = re.compile(rf"{_DAY}(?:{_TO}{_DAY})?{_GAP}({_YEAR})", re.IGNORECASE)

# What stands before a day, and belongs to it: its month, or the first day of a span of days.
_BEFORE_CHARS = 24
_MONTH_BEFORE = re.compile(rf"(?<!\w)({_WORD})\.?{_GAP}\Z")
_DAY_BEFORE = re.compile(rf"(?<!\w){_DAY}{_GAP}{_OF}({_WORD})?\.?{_TO}\Z", re.IGNORECASE)
_MONTH_AND_DAY_BEFORE = re.compile(rf"(?<!\w)({_WORD})\.?{_GAP}{_DAY}{_TO}\Z", re.IGNORECASE)
_FIGURES_BEFORE = re.compile(rf"(?<![\d.])(\d\d?)\.(\d\d?)\.{_TO}\Z")

_Named = tuple[int, int, int, Span]  # year, month, day: which may be no day of the calendar


def days(text: str) -> Mapping[date, list[Span]]:
    """Every day that a text names with its month and year, and where, in document order.

    The first day of a span that shares month or year with the last (12 to 15 March 2026) stands
    where both do.
    """
    found: defaultdict[date, list[Span]] = defaultdict(list)
    for year, month, day, span in chain(_in_figures(text), _day_first(text), _month_first(text)):
        try:
            found[date(year, month, day)].append(span)
        except ValueError:
            continue  # 31.02.2026
    for spans in found.values():
        spans.sort()
    return found


def _in_figures(text: str) -> Iterator[_Named]:
    for match in _YEAR_FIRST.finditer(text):
        if _BEGINS.match(text, match.start()):
            year, month, day = (int(part) for part in match.groups() if part)
            yield year, month, day, Span(*match.span())
    for match in _YEAR_LAST.finditer(text):
        if _BEGINS.match(text, match.start()):
            year = _year(match[3])
            yield from _either_way(match[1], match[2], year, Span(*match.span()))
            first = _before(_FIGURES_BEFORE, match.start(), text)
            if first is not None:
                yield from _either_way(first[1], first[2], year, _joined(first, match))


def _either_way(one: str, other: str, year: int, span: Span) -> Iterator[_Named]:
    yield year, int(other), int(one), span
    if one != other:
        yield year, int(one), int(other), span


def _day_first(text: str) -> Iterator[_Named]:
    for match in _each(_DAY_FIRST, text):
        month = _month(match[2])
        if month is None or is_of_word(text[match.start() - 1 : match.start()]):
            continue
        year = _year(match[3] or match[4])
        yield year, month, int(match[1]), Span(*match.span())
        first = _before(_DAY_BEFORE, match.start(), text)
        if first is not None:
            own = _month(first[2]) if first[2] else month
            yield year, own or 0, int(first[1]), _joined(first, match)


def _month_first(text: str) -> Iterator[_Named]:
    for match in _each(_DAY_AND_YEAR, text):
        before = _before(_MONTH_BEFORE, match.start(), text)
        month = _month(before[1]) if before is not None else None
        if before is None or month is None:
            continue
        year, span = _year(match[3]), _joined(before, match)
        yield year, month, int(match[1]), span
        if match[2]:
            yield year, month, int(match[2]), span
        first = _before(_MONTH_AND_DAY_BEFORE, span.start, text)
        if first is not None:
            yield year, _month(first[1]) or 0, int(first[2]), _joined(first, match)


def _each(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Every match, those within another too: in "12 del 27 marzo 2026" the first is no day."""
    match = pattern.search(text)
    while match is not None:
        yield match
        match = pattern.search(text, match.end(1))


def _before(pattern: re.Pattern[str], place: int, text: str) -> re.Match[str] | None:
    return pattern.search(text, max(0, place - _BEFORE_CHARS), place)


def _joined(first: re.Match[str], last: re.Match[str]) -> Span:
    return Span(first.start(), last.end())


def _year(figures: str) -> int:
    year = int(figures.lstrip("'\u2019"))
    return year if len(figures) == len("2026") else 2000 + year


def _month(word: str) -> int | None:
    return _MONTH_OF.get(unicodedata.normalize("NFC", word).casefold())


def _month_names() -> Iterator[tuple[str, int]]:
    """Every name and clear abbreviation: `jui`, which begins June and July, says nothing."""
    for month, whole in enumerate(_WHOLE_MONTHS.split(), 1):
        yield whole, month
    for month, line in enumerate(_MONTHS, 1):
        others = " ".join(_MONTHS[: month - 1] + _MONTHS[month:])
        for name in line.split():
            short = (name[:length] for length in range(_LETTERS_MIN, len(name)))
            yield from ((one, month) for one in short if f" {one}" not in f" {others}")
            yield name, month


_MONTH_OF = dict(_month_names())
