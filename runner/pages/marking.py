"""Cuts a text at the places that evidence names, so that a page can mark each of them."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from runner.model import Evidence


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of characters that stands in the same places throughout."""

    text: str
    paths: tuple[str, ...]  # of the values that stand here; none: plain text
    first_of: tuple[str, ...]  # of these, those that begin here


def pieces(text: str, evidence: Sequence[Evidence]) -> list[Piece]:
    """The text in order, cut wherever a place begins or ends; together they are the text."""
    inside = sorted(
        (one for one in evidence if 0 <= one.start < one.end <= len(text)),
        key=lambda one: one.start,
    )
    cuts = sorted({0, len(text), *(one.start for one in inside), *(one.end for one in inside)})
    waiting = deque(inside)
    here: list[Evidence] = []
    found: list[Piece] = []
    for start, end in pairwise(cuts):
        here = [one for one in here if one.end > start]
        while waiting and waiting[0].start == start:
            here.append(waiting.popleft())
        found.append(
            Piece(
                text[start:end],
                tuple(one.path for one in here),
                tuple(one.path for one in here if one.start == start),
            )
        )
    return found


def leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a record with its path (dots and indices), in its order."""
    if isinstance(data, dict) and data:
        for name, part in data.items():
            yield from leaves(part, f"{path}.{name}".lstrip("."))
    elif isinstance(data, list) and data:
        for place, part in enumerate(data):
            yield from leaves(part, f"{path}.{place}".lstrip("."))
    else:
        yield path, data
