"""Finds an amount in a text, in any usual writing of it; signs are left aside.

    1234.50  1,234.50  1.234,50  1 234,5  1'234.50  900,-  4,70,900  7½  2.5 million  fifty thousand

Two numbers in neighbouring columns that read as one (48 310) are taken either way: the document
itself does not say which is meant.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain, islice
from typing import NamedTuple

from .numerals import spelled
from .words import Span

RUNS_MAX = 200_000  # of figures that are read: no real document has more
WHOLE_FIGURES_MAX = 15
_RUNS_A_NUMBER = 20  # more than one number can have

# What stands between the figures of one number: never a line break, below a number is another.
_POINTS = frozenset(".,")
_APART = frozenset(".,'\u2019\u00a0\u2009\u202f")
_GROUPS = _APART | {" "}  # a plain blank may part two numbers as well as groups of one
_BLANK_IN = r"[ \u00a0-]?"

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


class _Run(NamedTuple):
    """Figures with no other sign among them."""

    figures: str
    start: int
    end: int
    then: str  # the one sign before the next run; empty when the next is farther off


class Amounts:
    """The amounts of a text: those in figures are read once, all others when they are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._in_figures: defaultdict[str, list[Span]] = defaultdict(list)
        runs = _runs(text)
        for place, run in enumerate(runs[:RUNS_MAX]):
            before = runs[place - 1].then if place else ""
            if before not in _APART:
                for number, end in chain(_readings(runs, place), _lakhs(runs, place)):
                    self._in_figures[number].append(Span(run.start, end))
                if _is_point_of_its_own(text, run.start - 1):  # $.50
                    self._in_figures[_key("0", run.figures)].append(Span(run.start - 1, run.end))

    def places(self, amount: Decimal) -> Iterator[Span]:
        """Every place of `amount`, in figures if it stands there in figures."""
        size = abs(amount)
        whole, _, decimals = f"{size:f}".partition(".")
        places = self._in_figures.get(_key(whole, decimals))
        if places is not None:
            return iter(places)
        others = chain(_with_fraction(size), _rounded(size))
        found = (re.finditer(pattern, self._text) for pattern in others)
        return chain(
            (Span(*match.span()) for match in chain.from_iterable(found)),
            spelled(size, self._text),
        )


def _runs(text: str) -> list[_Run]:
    runs: list[_Run] = []
    matches = islice(re.finditer(r"\d+", text), RUNS_MAX + _RUNS_A_NUMBER)
    match = next(matches, None)
    while match is not None:
        following = next(matches, None)
        start, end = match.span()
        then = text[end] if following is not None and following.start() == end + 1 else ""
        runs.append(_Run(_ascii(match[0]), start, end, then))
        match = following
    return runs


def _ascii(figures: str) -> str:
    """Figures of any script as 0 to 9."""
    return figures if figures.isascii() else "".join(str(int(figure)) for figure in figures)


def _key(whole: str, decimals: str = "") -> str:
    return f"{whole}.{decimals.rstrip('0')}"


def _readings(runs: list[_Run], place: int) -> Iterator[tuple[str, int]]:
    """Each number that begins with this run, and its end: 1.234 is one and a bit, or more."""
    run = runs[place]
    whole, groups = run.figures, len(run.figures) <= len("999")
    while True:
        then = run.then
        if then not in _APART:
            yield _key(whole), run.end
        if not then:
            return
        place += 1
        following = runs[place]
        if then in _POINTS and following.then not in _APART:
            yield _key(whole, following.figures), following.end
        if not (groups and then in _GROUPS and len(following.figures) == len("000")):
            return
        whole, run = whole + following.figures, following
        if len(whole) > WHOLE_FIGURES_MAX:
            return


def _lakhs(runs: list[_Run], place: int) -> Iterator[tuple[str, int]]:
    """4,70,900.00: after the first two figures or one, two by two, and three at the end."""
    run, whole = runs[place], ""
    while len(run.figures) <= len("99") and run.then == "," and len(whole) < WHOLE_FIGURES_MAX:
        whole, place = whole + run.figures, place + 1
        run = runs[place]
    if len(whole) > len("99") and len(run.figures) == len("000"):
        whole += run.figures
        if run.then not in _APART:
            yield _key(whole), run.end
        elif run.then == "." and runs[place + 1].then not in _APART:
            yield _key(whole, runs[place + 1].figures), runs[place + 1].end


def _is_point_of_its_own(text: str, place: int) -> bool:
    return place >= 0 and text[place] in _POINTS and not text[max(0, place - 1) : place].isalnum()


def _with_fraction(amount: Decimal) -> Iterator[str]:
    fraction, whole = _FRACTIONS.get(amount % 1), int(amount)
    if fraction is not None and whole == 0:
        yield rf"(?<![\d/.,])(?:{fraction})(?![\d/])"
    elif fraction is not None:
        yield rf"(?<!\d)(?<!\d[.,]){whole}{_BLANK_IN}(?:(?<=\D)|(?=\D))(?:{fraction})(?![\d/])"


def _rounded(amount: Decimal) -> Iterator[str]:
    """Patterns of a round amount as a small number and what multiplies it: 2.5 million, £2m."""
    for scale, words, letter in _SCALES:
        small = amount / scale
        if 1 <= small < scale and small == round(small, 3):
            number = f"{small.normalize():f}".replace(".", "[.,]")
            yield rf"(?<!\d)(?<!\d[.,]){number}(?:{_BLANK_IN}|\n)(?i:{words})(?!\w)"
            if letter:
                yield rf"{_CURRENCY}{number}(?i:{letter})(?!\w)"
