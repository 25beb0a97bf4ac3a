"""Compares what was extracted from a document with what was expected, leaf by leaf."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from runner.fields import FieldSpec

from .pairing import paired, parts_of
from .values import is_none, same


class FieldOutcome(StrEnum):
    """How one leaf of an extraction stands to what was expected."""

    MATCH = "match"
    WRONG = "wrong"  # a value was expected, and another one given
    MISSED = "missed"  # a value was expected, and none given
    INVENTED = "invented"  # none was expected, and one given
    ABSENT = "absent"  # none was expected, and none given


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One leaf: the field it belongs to, its place, and both values as they were given.

    No place is told twice: it counts rows as the expected data does, and invented rows, with a +,
    as the extraction does.
    """

    field: str  # `line_items[].amount`
    place: str  # `line_items[2].amount`, `line_items[+3].amount`
    outcome: FieldOutcome
    expected: Any
    got: Any

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.outcome in (FieldOutcome.MATCH, FieldOutcome.ABSENT)


@dataclass(frozen=True, slots=True)
class _Path:
    field: str = ""
    place: str = ""

    def part(self, name: str) -> "_Path":
        dot = "." if self.field else ""
        return _Path(f"{self.field}{dot}{name}", f"{self.place}{dot}{name}")

    def row(self, shown: int | str) -> "_Path":
        return _Path(f"{self.field}[]", f"{self.place}[{shown}]")


def compared(spec: FieldSpec, *, expected: Any, got: Any) -> tuple[Compared, ...]:
    """Every leaf of a document, in the order of the schema; both sides are plain JSON data.

    `got` is None for a document without a record: every expected value is missed. A part that is
    left out is null, and a null list is an empty one. Rows of a list are paired so that they agree
    as far as they can, whatever their order; a row without a partner is missed in every value it
    has, or invented in every value it has. Grounded values stand without their quotes, as records
    have them. What the schema does not describe (a schema inside itself, a second kind of object)
    is compared as it stands.
    """
    return tuple(_walk(spec, expected, got, _Path()))


def _walk(spec: FieldSpec, expected: Any, got: Any, path: _Path) -> Iterator[Compared]:
    if spec.parts is not None and _are(Mapping, expected, got):
        yield from _objects(spec, expected or {}, got or {}, path)
    elif spec.element is not None and _are(list, expected, got):
        yield from _lists(spec.element, expected or [], got or [], path)
    else:
        yield _leaf(spec, expected, got, path)


def _are(kind: type, *values: Any) -> bool:
    return all(value is None or isinstance(value, kind) for value in values)


def _objects(
    spec: FieldSpec, expected: Mapping[str, Any], got: Mapping[str, Any], path: _Path
) -> Iterator[Compared]:
    for name, part in parts_of(spec, expected, got):
        yield from _walk(part, expected.get(name), got.get(name), path.part(name))


def _lists(
    element: FieldSpec, expected: Sequence[Any], got: Sequence[Any], path: _Path
) -> Iterator[Compared]:
    if not expected and not got:
        yield from _walk(element, None, None, path.row(""))
    partners = paired(element, expected, got)
    for index, row in enumerate(expected):
        partner = partners.get(index)
        yield from _walk(element, row, None if partner is None else got[partner], path.row(index))
    for index in sorted(set(range(len(got))) - set(partners.values())):
        extra = _walk(element, None, got[index], path.row(f"+{index}"))
        # where no row was expected, nothing was rightly left out of it
        yield from (leaf for leaf in extra if leaf.outcome is FieldOutcome.INVENTED)


def _leaf(spec: FieldSpec, expected: Any, got: Any, path: _Path) -> Compared:
    if is_none(expected):
        outcome = FieldOutcome.ABSENT if is_none(got) else FieldOutcome.INVENTED
    elif is_none(got):
        outcome = FieldOutcome.MISSED
    else:
        agree = same(spec.compare, expected, got)
        outcome = FieldOutcome.MATCH if agree else FieldOutcome.WRONG
    return Compared(field=path.field, place=path.place, outcome=outcome, expected=expected, got=got)
