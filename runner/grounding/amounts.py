"""Finds an amount in a text, in any usual writing of it; signs are left aside.

    1234.50  1,234.50  1.234,50  1 234,5  1'234.50  900,-  4,70,900  7½  2.5 million  fifty thousand

Two numbers in neighbouring columns that read as one (48 310) are taken either way: the document
itself does not say which is meant.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain

from .numerals import spelled
from .words import Span, alone

_BLANK_IN = " \u00a0\u2009\u202f"  # never a line break: below a number stands another
_GROUP = rf"[.,'\u2019{_BLANK_IN}]?"
_FRACTIONS = {
    Decimal("0.5"): r"½|1/2",
    Decimal("0.25"): r"¼|1/4",
    Decimal("0.75"): r"¾|3/4",
    Decimal("0.125"): r"⅛|1/8",
    Decimal("0.375"): r"⅜|3/8",
    Decimal("0.625"): r"⅝|5/8",
    Decimal("0.875"): r"⅞|7/8",
}
# What multiplies the number before it, in the languages of `dates`; a lone letter (£2m) only beside
# a sign or code of currency: 5 m are metres.
_SCALES = (
    (10**9, r"billions?|bn|Milliarden?|Mrd|milliards?|mld|miliard\w*|miljard\w*", "b"),
    (10**7, r"crores?", ""),
    (
        10**6,
        (
            r"mio|mill|mln|mn|million(?:s|en|er)?|millón|millones|milion[eiy]|milionów|milhão|milhões"
            r"|miljoen|miljon(?:er)?|miljoonaa"
        ),
        "m",
    ),
    (10**5, r"lakhs?|lacs?", ""),
    (10**3, r"thousand|tausend|tsd|TEUR|mille|mila|mil|duizend|tusen|tys|tuhatta", "k"),
)
_CURRENCY = r"(?:[€£$¥₹]|\b[A-Z]{3})[ \u00a0]?"


def amounts(amount: Decimal, text: str) -> Iterator[Span]:
    """Every place where `text` has `amount`, in figures if it stands there in figures."""
    size = abs(amount)
    for found in (
        chain.from_iterable(alone(usual, text, joins=_is_of_number) for usual in _usual(size)),
        # a pattern finds those too, at ten times the price
        chain.from_iterable(_matches(pattern, text) for pattern in _figures(size)),
        chain.from_iterable(_matches(pattern, text) for pattern in _rounded(size)),
        spelled(size, text),
    ):
        first = next(found, None)
        if first is not None:
            yield first
            yield from found
            return


def _is_of_number(character: str) -> bool:
    return character.isdigit() or (character != "" and character in ".,'\u2019\u00a0\u2009\u202f")


def _usual(amount: Decimal) -> tuple[str, ...]:
    if amount != round(amount, 2):
        return ()  # two decimals would be another amount
    return tuple(dict.fromkeys((f"{amount:.2f}", f"{amount:,.2f}")))


def _matches(pattern: str, text: str) -> Iterator[Span]:
    return (Span(*match.span()) for match in re.finditer(pattern, text))


def _figures(amount: Decimal) -> Iterator[str]:
    """Patterns of the whole number in figures: grouped by thousands, by lakhs, and with ½."""
    ends = r"(?![.,'\u2019]?\d)"
    whole, decimals = _split(amount)
    yield _number(_thousands(whole), _GROUP, decimals) + ends
    if len(whole) > len("99999"):
        yield _number(_lakhs(whole), ",", decimals) + ends
    fraction = _FRACTIONS.get(amount % 1)
    if fraction is not None and whole == "0":
        yield rf"(?<![\d/.,])(?:{fraction})(?![\d/])"
    elif fraction is not None:
        yield rf"{_begins(whole)}[{_BLANK_IN}-]?(?:(?<=\D)|(?=\D))(?:{fraction})(?![\d/])"


def _rounded(amount: Decimal) -> Iterator[str]:
    """Patterns of a round amount as a small number and what multiplies it: 2.5 million, £2m."""
    for scale, words, letter in _SCALES:
        small = amount / scale
        if small < 1 or small != round(small, 3):
            continue
        number = _number(_thousands(_split(small)[0]), _GROUP, _split(small)[1])
        yield rf"{number}[{_BLANK_IN}\n-]?(?i:{words})(?!\w)"
        if letter:
            yield rf"{_CURRENCY}{number}(?i:{letter})(?!\w)"


def _split(amount: Decimal) -> tuple[str, str]:
    """The figures before and after the point, the latter without zeros at their end."""
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    whole, _, decimals = f"{amount:.{places}f}".partition(".")
    return whole, decimals.rstrip("0")


def _number(groups: list[str], between: str, decimals: str) -> str:
    ending = rf"[.,]{decimals}0*" if decimals else r"(?:[.,](?:0+|[-\u2013\u2014]+))?"
    return _begins(groups[0]) + "".join(between + group for group in groups[1:]) + ending


def _begins(figures: str) -> str:
    """Figures that no other figure stands before: first themselves, which `re` finds fastest."""
    return rf"{figures}(?<!\d{figures})(?<!\d[.,'\u2019\u00a0\u2009\u202f]{figures})"


def _thousands(whole: str) -> list[str]:
    head = len(whole) % 3 or 3
    return [whole[:head], *(whole[at : at + 3] for at in range(head, len(whole), 3))]


def _lakhs(whole: str) -> list[str]:
    """4,70,900: the last three figures, before them two by two."""
    before = whole[:-3]
    head = len(before) % 2 or 2
    return [
        before[:head],
        *(before[at : at + 2] for at in range(head, len(before), 2)),
        whole[-3:],
    ]
