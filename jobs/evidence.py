"""Whether what was extracted stands in the document: the ground under the jobs' checks."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache

from runner.model import FieldError

_BLANKS = re.compile(r"[\s*_`|]+")  # table rules and emphasis separate words as blanks do


@lru_cache(maxsize=8)  # several checks ask about one document after another
def _plain(text: str) -> str:
    return _BLANKS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def occurs(value: str, text: str) -> bool:
    """Whether `text` contains `value` as whole words; letter case, line breaks and widths aside."""
    wanted = _plain(value)
    return bool(wanted) and _stands_alone(wanted, _plain(text), _is_word)


def _stands_alone(wanted: str, text: str, joins: Callable[[str], bool]) -> bool:
    """Whether `wanted` stands somewhere in `text` with no character beside it that joins it.

    A pattern compiled for each value would cost ten times as much.
    """
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not joins(text[start - 1 : start]) and not joins(text[end : end + 1]):
            return True
        start = text.find(wanted, start + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_of_number(character: str) -> bool:
    return character.isdigit() or character in {".", ",", "'", "\u2019"}


def amount_occurs(amount: Decimal, text: str) -> bool:
    """Whether `text` contains `amount`, sign aside, in any usual writing of thousands and cents."""
    if any(_stands_alone(usual, text, _is_of_number) for usual in _usual(abs(amount))):
        return True
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    whole, _, cents = f"{abs(amount):.{places}f}".partition(".")
    head = len(whole) % 3 or 3
    groups = [whole[:head], *(whole[at : at + 3] for at in range(head, len(whole), 3))]
    if cents.strip("0"):
        ending = rf"[.,]{cents.rstrip('0')}0*"
    else:
        ending = r"(?:[.,](?:0+|[-\u2013\u2014]+))?"
    number = r"[.,'\u2019\s]?".join(groups) + ending
    return re.search(rf"(?<!\d)(?<!\d[.,]){number}(?![.,]?\d)", text) is not None


def _usual(amount: Decimal) -> tuple[str, ...]:
    if amount != round(amount, 2):
        return ()  # two decimals would be another amount
    return f"{amount:.2f}", f"{amount:,.2f}"


def not_in_text(fields: Iterable[tuple[str, str | None]], text: str) -> Iterator[FieldError]:
    """Yield an error for each (path, value) whose value is not None and not in `text`."""
    for path, value in fields:
        if value is not None and not occurs(value, text):
            yield FieldError(
                path, f"{value!r} does not occur in the document: copy it as the document writes it"
            )
