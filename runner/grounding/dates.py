"""Finds a day in a text, in the usual writings of a dozen languages.

A day and month that could change places (03/04/2026) are taken either way: the document itself does
not say which is meant.
"""

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache

from .words import Span

# Month names as documents print them: English, German, French, Spanish, Italian, Portuguese, Dutch,
# Swedish, Danish, Norwegian, Polish (as after a day), Finnish. Abbreviations are beginnings of them
# with three letters or more.
_MONTHS = (
    "january januar janvier enero gennaio janeiro januari stycznia tammikuuta jänner",
    "february februar février fevrier febrero febbraio fevereiro februari lutego helmikuuta feber",
    "march märz maerz mars marzo março marco maart marts marca maaliskuuta mrt",
    "april avril abril aprile kwietnia huhtikuuta",
    "may mai mayo maggio maio mei maj maja toukokuuta",
    "june juni juin junio giugno junho czerwca kesäkuuta",
    "july juli juillet julio luglio julho lipca heinäkuuta",
    "august août aout agosto augustus augusti sierpnia elokuuta",
    "september septembre septiembre settembre setembro września wrzesnia syyskuuta sept",
    "october oktober octobre octubre ottobre outubro października pazdziernika lokakuuta okt",
    "november novembre noviembre novembro listopada marraskuuta",
    "december dezember décembre decembre diciembre dicembre dezembro grudnia joulukuuta",
)
_LETTERS_MIN = 3
_ORDINAL = r"(?:st|nd|rd|th|er|ère|º|ª|°|:e|\.)?"
_GAP = r"[\s,.\u00a0|*_-]{0,4}"
_OF = r"(?:(?:de|del|of|day\s+of|d')\s*)?"


def dates(day: date, text: str) -> Iterator[Span]:
    """Every place where `text` has this day, month and year."""
    for pattern in _patterns(day):
        for match in pattern.finditer(text):
            yield Span(*match.span())


@lru_cache(maxsize=512)
def _patterns(day: date) -> tuple[re.Pattern[str], ...]:
    numbers = _numeric(day)
    words = _worded(day)
    return (re.compile(numbers), re.compile(words, re.IGNORECASE))


def _numeric(day: date) -> str:
    year = rf"(?:{day.year}|['\u2019]?{day.year % 100:02d})"
    d, m = rf"0?{day.day}", rf"0?{day.month}"
    point = r"\s?[./-]\s?"
    either = rf"(?:{d}{point}{m}|{m}{point}{d}){point}{year}"
    iso = rf"{day.year}(?:\s?[./-]\s?|年\s?){m}(?:\s?[./-]\s?|月\s?){d}"
    joined = rf"{day:%Y%m%d}"
    return rf"(?<![\d.,/-])(?:{iso}|{either}|{joined})(?!\d)(?![./-]\d)"


def _worded(day: date) -> str:
    month = "|".join(sorted(_names(day.month), key=len, reverse=True))
    year = rf"(?:{day.year}|['\u2019]{day.year % 100:02d})"
    # "12 to 15 March 2026": the days of a span share their month
    span = rf"(?:\s*(?:-|\u2013|\u2014|to|and|bis|au|al|und|y|et)\s*\d{{1,2}}{_ORDINAL})?"
    first = rf"0?{day.day}{_ORDINAL}{span}{_GAP}{_OF}(?:{month})\.?{_GAP}{_OF}{year}"
    second = rf"(?:{month})\.?{_GAP}0?{day.day}{_ORDINAL}{span}{_GAP}{year}"
    return rf"(?<![\d\w])(?:{first}|{second})(?!\d)"


@lru_cache(maxsize=12)
def _names(month: int) -> frozenset[str]:
    names = _MONTHS[month - 1].split()
    short = {name[:length] for name in names for length in range(_LETTERS_MIN, len(name) + 1)}
    others = {
        name for place, line in enumerate(_MONTHS) if place != month - 1 for name in line.split()
    }
    # what is also the beginning of another month says nothing: `mar` is March, `juin` is not July
    return frozenset(name for name in short if name in names or name not in others)
