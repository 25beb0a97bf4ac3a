"""Finds an amount in a text, in any usual writing of thousands and cents; signs are left aside."""

import re
from collections.abc import Iterator
from decimal import Decimal

from .words import Span, alone

_GROUP = r"[.,'\u2019\s]?"


def amounts(amount: Decimal, text: str) -> Iterator[Span]:
    """Every place where `text` has `amount`."""
    found = False
    for usual in _usual(abs(amount)):
        for span in alone(usual, text, joins=_is_of_number):
            found = True
            yield span
    if not found:  # the pattern finds these too, at ten times the price
        yield from _in_other_writings(abs(amount), text)


def _is_of_number(character: str) -> bool:
    return character.isdigit() or character in {".", ",", "'", "\u2019"}


def _usual(amount: Decimal) -> tuple[str, ...]:
    if amount != round(amount, 2):
        return ()  # two decimals would be another amount
    return tuple(dict.fromkeys((f"{amount:.2f}", f"{amount:,.2f}")))


def _in_other_writings(amount: Decimal, text: str) -> Iterator[Span]:
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    whole, _, cents = f"{amount:.{places}f}".partition(".")
    head = len(whole) % 3 or 3
    groups = [whole[:head], *(whole[at : at + 3] for at in range(head, len(whole), 3))]
    if cents.strip("0"):
        ending = rf"[.,]{cents.rstrip('0')}0*"
    else:
        ending = r"(?:[.,](?:0+|[-\u2013\u2014]+))?"
    number = rf"(?<!\d)(?<!\d[.,]){_GROUP.join(groups)}{ending}(?![.,]?\d)"
    return (Span(*match.span()) for match in re.finditer(number, text))
