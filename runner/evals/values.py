"""Decides when two values of a field are the same, as its schema declares (`Compare`).

Each value has a plain form; two values are the same when their plain forms are equal. Prose alone
is compared by how many words two texts share.
"""

import json
import re
import unicodedata
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from runner.fields import Compare
from runner.grounding.words import folded

# Share of words that two texts have in common, word order aside. Of ten pairs of sentences
# (tests/test_evals_comparing.py) those that say the same have 0.55 to 0.82, those that do not 0.25
# to 0.40. It is a coarse measure: it cannot see a "not".
PROSE_MIN = 0.5

_CENT = Decimal("0.01")
# languages without blanks count by signs
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_NUMBER = re.compile(r"\d+")


def is_none(value: Any) -> bool:
    """Whether a value says nothing: null, a text of blanks, a list or an object of nothing."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value in ([], {})


def same(compare: Compare, one: Any, other: Any) -> bool:
    """Whether two values, neither of them none, are the same."""
    first, second = plain(compare, one), plain(compare, other)
    return first == second or (compare is Compare.PROSE and _say_the_same(first, second))


def plain(compare: Compare, value: Any) -> str:
    """The form in which values of a field that are the same are equal.

    An amount is rounded to a cent, unless it is smaller than one. What is no amount or no date is
    compared as a text, and what has parts as it stands.
    """
    if isinstance(value, dict | list) or compare is Compare.CHOICE:
        return json.dumps(_exact(value), sort_keys=True, ensure_ascii=False)
    words = str(_exact(value))
    match compare:
        case Compare.ID:
            return "".join(sign for sign in _text(words) if sign.isalnum())
        case Compare.AMOUNT:
            return _amount(words)
        case Compare.DATE:
            return _day(words)
    return _text(words)


def _exact(value: Any) -> Any:
    """A JSON value in which 1.0 is written as 1."""
    if isinstance(value, dict):
        return {name: _exact(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_exact(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(words: str) -> str:
    # a letter and its accent may be two signs
    return folded(unicodedata.normalize("NFC", words))


def _amount(words: str) -> str:
    try:
        amount = Decimal(words.strip())
        if abs(amount) < _CENT:
            return str(amount.normalize()) if amount else "0"
        return f"{amount.quantize(_CENT, rounding=ROUND_HALF_UP).normalize():f}"
    except ArithmeticError:  # no number, or one with more digits than any amount
        return _text(words)


def _day(words: str) -> str:
    try:
        return date.fromisoformat(words.strip()[:10]).isoformat()
    except ValueError:
        return _text(words)


def words_of(text: str) -> list[str]:
    """The words of a plain text, sorted: two texts share what their word lists share."""
    return sorted(_WORD.findall(text))


def _say_the_same(first: str, second: str) -> bool:
    from rapidfuzz.distance import Indel  # noqa: PLC0415 - only an evaluation needs it

    shared = Indel.normalized_similarity(words_of(first), words_of(second))
    return shared >= PROSE_MIN and _numbers_agree(first, second)


def _numbers_agree(first: str, second: str) -> bool:
    """One text may leave a number out; neither may have another in its place."""
    one, other = set(_NUMBER.findall(first)), set(_NUMBER.findall(second))
    return one <= other or other <= one
