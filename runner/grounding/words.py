"""Finds words in a text: as whole words, exactly, then letter case, blanks and widths aside."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

FUZZY_MIN = 90.0  # of 100: a few wrong letters of a long quote, no wrong word of a short one
FUZZY_CHARS_MIN = 20
HYPHENS_MAX = 8  # of a name, that a line's end may have taken

# Table rules and emphasis separate words as blanks do; soft hyphens and signs of no width join. A
# single plain blank needs no mending, so it is no gap.
_SIGNS = r"*_`|\u00ad\u200b-\u200d\u2060\ufeff"
_GAP = re.compile(rf"[-\u2010](?<=[^\W\d_].)[ \t]*\n\s*|[\s{_SIGNS}]{{2,}}|[^\S ]|[{_SIGNS}]")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_JOINS = re.compile(r"\u00ad\s*|[\u00ad\u200b-\u200d\u2060\ufeff]+")
_CLUSTER = re.compile(r"[\s\S][\u0300-\u036f\u3099\u309a]*")  # a sign and the accents set upon it
_ALIKE = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | {"\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"'}
)


class Span(NamedTuple):
    """A place in a text: characters `start` up to, not including, `end`."""

    start: int
    end: int


def exact(words: str, text: str) -> Iterator[Span]:
    """Every place where the text has these very words, as whole words."""
    return alone(words, text, joins=is_of_word)


def alone(wanted: str, text: str, *, joins: Callable[[str], bool]) -> Iterator[Span]:
    """Every place of `wanted` with no character beside it that joins it.

    A pattern compiled for each value would cost ten times as much.
    """
    if not wanted:
        return
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        # a value that itself ends in a sign needs no gap there
        before = joins(wanted[0]) and joins(text[start - 1 : start])
        after = joins(wanted[-1]) and joins(text[end : end + 1])
        if not before and not after:
            yield Span(start, end)
        start = text.find(wanted, start + 1)


def is_of_word(character: str) -> bool:
    """Whether a character beside a word makes it another word."""
    return character.isalnum() or character == "_"


class Folded:
    """A text with case, widths, blanks, dashes and quotation marks made alike, and the way back.

    Words that a hyphen breaks at a line's end are whole again.
    """

    def __init__(self, text: str) -> None:
        self._original = text
        self.text, self._origins = _folded(text)

    def places(self, words: str, *, whole: bool = True) -> Iterator[Span]:
        """Every place of these words, as a span of the original text."""
        joins = is_of_word if whole else (lambda _: False)
        for wanted in _as_broken(folded(words)):
            found = alone(wanted, self.text, joins=joins)
            first = next(found, None)
            if first is not None:
                yield self.origin(first)
                yield from map(self.origin, found)
                return

    def origin(self, span: Span) -> Span:
        """Where a place of the folded text stands in the original."""
        end = self._origins[span.end - 1] + 1
        while unicodedata.combining(self._original[end : end + 1] or " "):
            end += 1  # an accent of its own belongs to the sign before it
        return Span(self._origins[span.start], end)


def folded(text: str) -> str:
    """Words as `Folded` has them, without outer blanks."""
    return _folded(text)[0].strip()


def _as_broken(words: str) -> Iterator[str]:
    """The words, and as `_folded` has them where a line's end parts them at a hyphen of theirs."""
    yield words
    for hyphen in islice(_HYPHEN.finditer(words), HYPHENS_MAX):
        yield words[: hyphen.start()] + words[hyphen.end() :]


def _folded(text: str) -> tuple[str, list[int]]:
    """The folded text, and for each of its signs the place in the original."""
    signs: list[str] = []
    origins: list[int] = []
    place = 0
    for gap in _GAP.finditer(text):
        _fold_words(text, place, gap.start(), signs, origins)
        sign = _instead_of(gap[0], text[gap.end() : gap.end() + 1])
        signs.append(sign)
        origins.extend([gap.start()] * len(sign))
        place = gap.end()
    _fold_words(text, place, len(text), signs, origins)
    return "".join(signs), origins


def _instead_of(gap: str, after: str) -> str:
    if gap[0] in "-\u2010":  # at a line's end: of the word before a capital or figure, else not
        return "" if after.islower() else "-"
    return "" if _JOINS.fullmatch(gap) else " "


def _fold_words(text: str, start: int, end: int, signs: list[str], origins: list[int]) -> None:
    words = text[start:end].translate(_ALIKE)
    plain = words.casefold()
    if len(plain) == len(words) and unicodedata.is_normalized("NFKC", words):
        signs.append(plain)  # nearly always: one sign each
        origins.extend(range(start, end))
        return
    for cluster in _CLUSTER.finditer(words):
        plain = unicodedata.normalize("NFKC", cluster[0]).casefold()
        signs.append(plain)
        origins.extend([start + cluster.start()] * len(plain))


def alike(words: str, folded_text: Folded) -> Span | None:
    """The place that says nearly the same: for long prose only, never for a number, date or id."""
    wanted = folded(words)
    if len(wanted) < FUZZY_CHARS_MIN or len(folded_text.text) < len(wanted):
        return None  # a text that is shorter than the words would be looked for in them
    from rapidfuzz import fuzz  # noqa: PLC0415 - only a model's inexact quote needs it

    found = fuzz.partial_ratio_alignment(wanted, folded_text.text, score_cutoff=FUZZY_MIN)
    if found is None or found.dest_end <= found.dest_start:
        return None
    # numbers are not prose: a quote must have every one of them as the text does
    there = folded_text.text[found.dest_start : found.dest_end]
    if _numbers(wanted) != _numbers(there):
        return None
    return folded_text.origin(Span(found.dest_start, found.dest_end))


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)
