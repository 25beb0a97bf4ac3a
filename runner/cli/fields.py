"""The fields of an answer one by one: while it grows, and with how the document has each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic_core import from_json

from runner.fields import FieldSpec
from runner.model import Evidence, How

NO_GROUND = "✗ no ground"
# words beside the signs: a terminal may have neither colours nor these signs
_MARKS = {How.EXACT: "✓ exact", How.NORMALISED: "≈ normalised", How.FUZZY: "≈ fuzzy"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of an answer: where it is, and whether the document must state it."""

    path: str
    value: Any
    is_sought: bool = False

    @property
    def words(self) -> str:
        """The value as a person reads it: a text as it is, anything else as JSON."""
        if isinstance(self.value, str):
            return self.value
        return json.dumps(self.value, ensure_ascii=False)


def growing(text: str) -> Any:
    """The data of an answer that has come so far, its last text perhaps in part; None before any.

    What stands before the first brace, such as a fence, is passed over.
    """
    begin = text.find("{")
    if begin < 0:
        return None
    try:
        return from_json(text[begin:], allow_partial="trailing-strings")
    except ValueError:
        return None


def leaves(spec: FieldSpec | None, data: Any, path: str = "") -> Iterator[Leaf]:
    """Every value of `data` in its order; of a grounded one without its quote, once it is there."""
    if spec is not None and spec.quoted:
        if not (isinstance(data, dict) and "quote" in data):
            yield Leaf(path, data, data is not None)
        elif "value" in data:
            yield Leaf(path, data["value"], data["value"] is not None)
    elif isinstance(data, dict) and data:
        parts = dict((spec and spec.parts) or ())
        for name, part in data.items():
            yield from leaves(parts.get(name), part, f"{path}.{name}" if path else name)
    elif isinstance(data, list) and data:
        element = spec and spec.element
        for place, part in enumerate(data):
            yield from leaves(element, part, f"{path}.{place}" if path else str(place))
    else:
        yield Leaf(path, data, spec is not None and _is_sought(spec, data))


def _is_sought(spec: FieldSpec, value: Any) -> bool:
    if spec.stated is None or value is None or isinstance(value, dict | list):
        return False
    return value not in spec.stated.unless and _number(value) not in spec.stated.unless


def _number(value: Any) -> Any:
    """An amount that JSON has as a text, else the value as it is."""
    try:
        return Decimal(value) if isinstance(value, str) else value
    except InvalidOperation:
        return value


def marks(found: Sequence[Leaf], evidence: Sequence[Evidence]) -> Mapping[str, str]:
    """By path: how closely the document has each value that it must state, or that it has not."""
    how = {one.path: one.how for one in evidence}
    return {
        leaf.path: _MARKS[how[leaf.path]] if leaf.path in how else NO_GROUND
        for leaf in found
        if leaf.is_sought or leaf.path in how
    }
