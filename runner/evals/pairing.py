"""Pairs the rows of two lists so that they agree as far as they can, whatever their order."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.fields import Compare, FieldSpec

from .values import PROSE_MIN, is_none, plain, words_of

# Two rows are one thing only when a value of theirs is as alike as this, of 1: else one is missed
# and the other invented.
ALIKE_MIN = 0.6
# Unequal rows times unequal rows that are weighed against each other, which takes seconds. Beyond,
# what is not equal is not paired.
CELLS_MAX = 4_000_000

_AS_IT_STANDS = FieldSpec(compare=Compare.CHOICE)
_SAME = 0.9  # as alike as this and more: what `same` says yes to
_UNEQUAL_MAX = 0.89
_GRADED = (Compare.TEXT, Compare.ID, Compare.AMOUNT)

# A row as its values that are not none: where each stands in it, how it is compared; plain form.
Cells = dict[tuple[str, Compare], str]


def parts_of(spec: FieldSpec, *rows: Mapping[str, Any]) -> Iterator[tuple[str, FieldSpec]]:
    """The parts of an object, and what stands in these rows beyond them."""
    known = dict(spec.parts or ())
    yield from known.items()
    others = dict.fromkeys(name for row in rows for name in row if name not in known)
    yield from ((name, _AS_IT_STANDS) for name in others)


def paired(element: FieldSpec, expected: Sequence[Any], got: Sequence[Any]) -> dict[int, int]:
    """Which expected row goes with which given one, by index; each at most once.

    Equal rows go together. Of the others, the pairs are those of the greatest sum of likeness: an
    equal value counts 1, a like one at most a half (Kuhn's assignment problem, solved as in Crouse
    2016, "On implementing 2D rectangular assignment algorithms"). The order of the rows does not
    change which values meet.
    """
    wanted = {index: _cells(element, row) for index, row in enumerate(expected)}
    given = {index: _cells(element, row) for index, row in enumerate(got)}
    pairs = _equal(wanted, given)
    rest = sorted(wanted.keys() - pairs.keys(), key=lambda index: _order(wanted[index]))
    free = sorted(given.keys() - set(pairs.values()), key=lambda index: _order(given[index]))
    if rest and free and len(rest) * len(free) <= CELLS_MAX:
        likest = _likest([wanted[index] for index in rest], [given[index] for index in free])
        pairs.update((rest[one], free[other]) for one, other in likest)
    return pairs


def _cells(spec: FieldSpec, row: Any, name: str = "") -> Cells:
    if is_none(row):
        return {}
    if spec.parts is not None and isinstance(row, dict):
        cells: Cells = {}
        for part, inner in parts_of(spec, row):
            cells.update(_cells(inner, row.get(part), f"{name}.{part}"))
        return cells
    if spec.element is not None and isinstance(row, list):
        rows = sorted(_order(_cells(spec.element, one)) for one in row)
        return {(name, Compare.TEXT): repr(rows)}
    return {(name, spec.compare): plain(spec.compare, row)}


def _order(cells: Cells) -> list[tuple[str, str]]:
    """Rows stand in this order before they are weighed, so that their own order cannot matter."""
    return sorted((name, value) for (name, _), value in cells.items())


def _equal(wanted: Mapping[int, Cells], given: Mapping[int, Cells]) -> dict[int, int]:
    places: dict[frozenset[Any], list[int]] = defaultdict(list)
    for index, cells in given.items():
        places[frozenset(cells.items())].append(index)
    pairs = {}
    for index, cells in wanted.items():
        equals = places[frozenset(cells.items())]
        if equals:
            pairs[index] = equals.pop(0)
    return pairs


def _likest(wanted: Sequence[Cells], given: Sequence[Cells]) -> Iterator[tuple[int, int]]:
    import numpy as np  # noqa: PLC0415 - an evaluation alone needs it, and it takes 0.2 s
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - as above, 0.5 s

    score = np.zeros((len(wanted), len(given)), dtype=np.float32)
    closest = np.zeros_like(score)
    for column in sorted({column for cells in (*wanted, *given) for column in cells}):
        like = _likeness(
            column[1], *([cells.get(column) for cells in side] for side in (wanted, given))
        )
        score += np.where(like >= _SAME, like, like / 2)
        np.maximum(closest, like, out=closest)
    score[closest < ALIKE_MIN] = 0
    for one, other in zip(*linear_sum_assignment(score, maximize=True), strict=True):
        if score[one, other] > 0:
            yield int(one), int(other)


def _likeness(compare: Compare, wanted: Sequence[str | None], given: Sequence[str | None]) -> Any:
    """How alike one column's values are, of 1, as a matrix; 0 where either is none."""
    import numpy as np  # noqa: PLC0415 - as above

    codes: dict[str, int] = {}
    one, other = (
        np.array([-1 if v is None else codes.setdefault(v, len(codes)) for v in values])
        for values in (wanted, given)
    )
    # cdist leaves the rows of None as the memory was: it is given empty texts, and they are put out
    like = _ratios(compare, [value or "" for value in wanted], [value or "" for value in given])
    like = np.where(one[:, None] == other[None, :], 1, like)
    return np.where((one[:, None] >= 0) & (other[None, :] >= 0), like, 0)


def _ratios(compare: Compare, wanted: Sequence[str], given: Sequence[str]) -> Any:
    """How alike unequal values are."""
    import numpy as np  # noqa: PLC0415 - as above
    from rapidfuzz import fuzz, process  # noqa: PLC0415 - as above
    from rapidfuzz.distance import Indel  # noqa: PLC0415 - as above

    if compare is Compare.PROSE:
        words = [[words_of(value) for value in values] for values in (wanted, given)]
        like = process.cdist(*words, scorer=Indel.normalized_similarity, dtype=np.float32)
        return np.where(like >= PROSE_MIN, _SAME + like * (1 - _SAME), like)
    if compare in _GRADED:
        like = process.cdist(wanted, given, scorer=fuzz.ratio, dtype=np.float32) / 100
        return np.minimum(like, _UNEQUAL_MAX)
    return np.zeros((len(wanted), len(given)), dtype=np.float32)
