"""Finds words in a text: as whole words, exactly, then letter case, blanks and widths aside."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

FUZZY_MIN = 90.0  # of 100: a few wrong letters of a long quote, no wrong word of a short one
FUZZY_CHARS_MIN = 20

# Table rules, emphasis and soft hyphens separate or join words as blanks do.
_BLANK = re.compile(r"[\s*_`|\u00ad\u200b-\u200d\ufeff]+")
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


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
    """A text with case, widths, blanks, dashes and quotation marks made alike, and the way back."""

    def __init__(self, text: str) -> None:
        self.text, self._origins = _folded(text)

    def places(self, words: str, *, whole: bool = True) -> Iterator[Span]:
        """Every place of these words, as a span of the original text."""
        wanted = folded(words)
        joins = is_of_word if whole else (lambda _: False)
        return (self.origin(span) for span in alone(wanted, self.text, joins=joins))

    def origin(self, span: Span) -> Span:
        """Where a place of the folded text stands in the original."""
        return Span(self._origins[span.start], self._origins[span.end - 1] + 1)


def folded(text: str) -> str:
    """Words as `Folded` has them, without outer blanks."""
    return _folded(text)[0].strip()


def _folded(text: str) -> tuple[str, list[int]]:
    signs: list[str] = []
    origins: list[int] = []
    place = 0
    for gap in _BLANK.finditer(text):
        _fold_words(text, place, gap.start(), signs, origins)
        if gap.group() != "\u00ad":  # a soft hyphen joins
            signs.append(" ")
            origins.append(gap.start())
        place = gap.end()
    _fold_words(text, place, len(text), signs, origins)
    return "".join(signs), origins


def _fold_words(text: str, start: int, end: int, signs: list[str], origins: list[int]) -> None:
    words = text[start:end]
    alike = words.translate(_DASHES).translate(_QUOTES)
    plain = unicodedata.normalize("NFKC", alike).casefold()
    if len(plain) == len(words):  # nearly always: one sign each
        signs.extend(plain)
        origins.extend(range(start, end))
        return
    for offset, sign in enumerate(alike):
        for one in unicodedata.normalize("NFKC", sign).casefold():
            signs.append(one)
            origins.append(start + offset)


def alike(words: str, folded_text: Folded) -> Span | None:
    """The place that says nearly the same: for long prose only, never for a number, date or id."""
    wanted = folded(words)
    if len(wanted) < FUZZY_CHARS_MIN:
        return None
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
