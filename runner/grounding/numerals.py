"""Finds an amount that a text gives in words alone, as contracts do: English, German, French.

"shall not exceed two hundred and fifty thousand euros"
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from .words import Span

SPELLED_MIN, SPELLED_MAX = 2, 999_999_999  # "one" says nothing: it is an article, too
# Below it, German and French words are also others: sept. is a month, cent a coin, elf a fairy.
FOREIGN_MIN = 1_000

_ONES = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen",
    "de": "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn"
    " fünfzehn sechzehn siebzehn achtzehn neunzehn",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze"
    " seize dix-sept dix-huit dix-neuf",
}
_TENS = {
    "en": "- - twenty thirty forty fifty sixty seventy eighty ninety",
    "de": "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "fr": "- - vingt trente quarante cinquante soixante soixante quatre-vingts? quatre-vingts?",
}
_UNITS = "hundred thousand million cent cents mille millions tausend millionen"

_ENGLISH, _GERMAN, _FRENCH = (_ONES[language].split() for language in ("en", "de", "fr"))
_ENGLISH_TENS, _GERMAN_TENS, _FRENCH_TENS = (
    _TENS[language].split() for language in ("en", "de", "fr")
)
_NEIGHBOURS = frozenset(
    [*_ENGLISH, *_ENGLISH_TENS, *_FRENCH, *_FRENCH_TENS, *_UNITS.split()],
)
_BEFORE = re.compile(r"([^\W\d_]+)[\s,-]*(?:(?:and|et)\s+)?\Z")
_AFTER = re.compile(r"[\s,-]*(?:(?:and|et)\s+)?([^\W\d_]+)")
_NEIGHBOUR_CHARS = 40


def spelled(amount: Decimal, text: str) -> Iterator[Span]:
    """Every place where `text` spells out `amount`, a whole number from 2 to 999,999,999."""
    if amount != int(amount) or not SPELLED_MIN <= amount <= SPELLED_MAX:
        return
    lowered = text.lower()
    if not any(word in lowered for word in _hints(int(amount))):
        return  # a pattern that minds no case costs twenty times as much
    for match in _pattern(int(amount)).finditer(text):
        start, end = match.span()
        before = _BEFORE.search(text[max(0, start - _NEIGHBOUR_CHARS) : start])
        after = _AFTER.match(text, end)
        if not (_continues(before) or _continues(after)):
            yield Span(start, end)


def _hints(number: int) -> tuple[str, ...]:
    """Words of which a text has one when it spells out this number."""
    if number < len(_ENGLISH):
        return (_ENGLISH[number],)
    if number < 100:  # noqa: PLR2004 - how numbers are worded
        return (_ENGLISH_TENS[number // 10],)
    return ("hundred",) if number < FOREIGN_MIN else ("thousand", "million", "tausend", "mille")


def _continues(neighbour: re.Match[str] | None) -> bool:
    """Whether the word beside a number is of the number, too, which is then another one."""
    return neighbour is not None and neighbour[1].casefold() in _NEIGHBOURS


@lru_cache(maxsize=256)
def _pattern(number: int) -> re.Pattern[str]:
    ways = [_english(number)]
    if number >= FOREIGN_MIN:
        ways += [_german(number), _french(number)]
    return re.compile(rf"(?<!\w)(?:{'|'.join(ways)})(?!\w)", re.IGNORECASE)


def _english(number: int) -> str:
    if number < len(_ENGLISH):
        return _ENGLISH[number]
    if number < 100:  # noqa: PLR2004 - how numbers are worded
        tens, ones = divmod(number, 10)
        return _ENGLISH_TENS[tens] + (rf"[\s-]*{_ENGLISH[ones]}" if ones else "")
    unit, word = _unit(number, ((10**6, "million"), (1_000, "thousand"), (100, "hundred")))
    many, rest = divmod(number, unit)
    first = "(?:one|a)" if many == 1 else _english(many)
    return rf"{first}[\s-]+{word}" + (rf",?\s+(?:and\s+)?{_english(rest)}" if rest else "")


def _german(number: int) -> str:
    if number < len(_GERMAN):
        return _GERMAN[number] + ("s?" if number == 1 else "")
    if number < 100:  # noqa: PLR2004
        tens, ones = divmod(number, 10)
        return (rf"{_GERMAN[ones]}und" if ones else "") + _GERMAN_TENS[tens]
    unit, word = _unit(number, ((10**6, "Million(?:en)?"), (1_000, "tausend"), (100, "hundert")))
    many, rest = divmod(number, unit)
    first = r"(?:eine?\s*)?" if many == 1 else rf"{_german(many)}\s*"
    return f"{first}{word}" + (rf"\s*(?:und)?{_german(rest)}" if rest else "")


def _french(number: int) -> str:
    if number < len(_FRENCH):
        return _FRENCH[number]
    if number < 100:  # noqa: PLR2004
        tens, ones = divmod(number, 10)
        if tens in (7, 9):  # soixante-dix, quatre-vingt-dix
            ones += 10
        joined = r"[\s-]+(?:et[\s-]+)?"
        return _FRENCH_TENS[tens] + (joined + _FRENCH[ones] if ones else "")
    unit, word = _unit(number, ((10**6, "millions?"), (1_000, "mille"), (100, "cents?")))
    many, rest = divmod(number, unit)
    first = "" if many == 1 and unit < 10**6 else _french(many) + r"[\s-]+"
    return first + word + (rf"[\s-]+{_french(rest)}" if rest else "")


def _unit(number: int, units: tuple[tuple[int, str], ...]) -> tuple[int, str]:
    return next(unit for unit in units if number >= unit[0])
