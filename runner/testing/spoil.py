"""Wrong answers made from right ones: broken JSON, wrong shapes, hostile values, silent errors.

Every function is deterministic: `pick` (from the document's key) chooses what is hit. The value
given is used up: it may be changed in place.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .answers import Kind, Shape

HOSTILE_DEPTH = 10_000
HOSTILE_DIGITS = 5_000
INVENTED_TEXT = "Northwind Imaginary Holdings"
INVENTED_EXTRA = 4_321
_DATE_LIKE = re.compile(r"\d{4}-\d\d-\d\d")
_HOLE = "fill-this-hole"


@dataclass(frozen=True, slots=True)
class Spoiled:
    """The text of a wrong answer, and the path of the value that is wrong (None: the whole)."""

    text: str
    altered: str | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """One scalar of an answer: where it is kept, under which name or position, and its path."""

    holder: Any
    key: Any
    path: str
    shape: Shape | None

    @property
    def value(self) -> Any:
        """The scalar itself."""
        return self.holder[self.key]


Spoiler = Callable[[Any, Shape | None, int], Spoiled]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def fenced(value: Any, _shape: Shape | None, _pick: int) -> Spoiled:
    """The right answer inside a Markdown code fence; can be repaired without a call."""
    return Spoiled(f"```json\n{_dump(value)}\n```")


def trailing_text(value: Any, _shape: Shape | None, _pick: int) -> Spoiled:
    """The right answer and a sentence after it; can be repaired without a call."""
    return Spoiled(f"{_dump(value)}\n\nLet me know if you need anything else.")


def cut_json(value: Any, _shape: Shape | None, _pick: int) -> Spoiled:
    """The first half of the right answer."""
    text = _dump(value)
    return Spoiled(text[: len(text) // 2])


def invalid_json(value: Any, _shape: Shape | None, _pick: int) -> Spoiled:
    """The right answer without its colons: no JSON, and nothing to repair it by."""
    return Spoiled(_dump(value).replace('":', '" '))


def wrong_type(value: Any, _shape: Shape | None, pick: int) -> Spoiled:
    """One top-level value replaced by one of another type."""
    name = _top_name(value, pick)
    wrong: Any = {"wrong": "type"} if isinstance(value.get(name), str | None) else "wrong type"
    return Spoiled(_dump({**value, name: wrong}), name)


def missing_field(value: Any, _shape: Shape | None, pick: int) -> Spoiled:
    """One top-level field that is not null left out."""
    name = _top_name(value, pick)
    return Spoiled(_dump({key: part for key, part in value.items() if key != name}), name)


def extra_field(value: Any, _shape: Shape | None, _pick: int) -> Spoiled:
    """A field that the schema does not know."""
    return Spoiled(_dump({**value, "unexpected_field": "surprise"}), "unexpected_field")


def deep_json(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """One top-level value nested 10,000 deep."""
    return _with_raw(value, shape, pick, raw="[" * HOSTILE_DEPTH + "]" * HOSTILE_DEPTH)


def not_a_number(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """A number that is NaN, which is not JSON."""
    return _with_raw(value, shape, pick, raw="NaN")


def giant_integer(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """A number of 5,000 digits."""
    return _with_raw(value, shape, pick, raw="9" * HOSTILE_DIGITS)


def duplicate_keys(value: Any, _shape: Shape | None, pick: int) -> Spoiled:
    """One top-level key given twice, wrong the first time and right the second."""
    name = _top_name(value, pick)
    first = f"{{{_dump(name)}: {_dump(INVENTED_TEXT)}, "
    return Spoiled(first + _dump(value).removeprefix("{"), name)


def invented_value(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """Silent: one value that the document does not say, valid in every other way."""
    leaves = list(_leaves(value, shape))
    texts = [leaf for leaf in leaves if _is_free_text(leaf)]
    numbers = [leaf for leaf in leaves if _is_number(leaf.value)]
    leaf = _choose(texts or numbers, pick)
    if leaf is None:
        return Spoiled(_dump(value))
    invented = INVENTED_TEXT if texts else leaf.value + INVENTED_EXTRA
    leaf.holder[leaf.key] = invented
    return Spoiled(_dump(value), leaf.path)


def swapped_digits(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """Silent: two neighbouring digits of one value changed places; else an invented value."""
    swaps = [(leaf, _swapped(leaf)) for leaf in _leaves(value, shape)]
    chosen = _choose([(leaf, new) for leaf, new in swaps if new is not None], pick)
    if chosen is None:
        return invented_value(value, shape, pick)
    leaf, new = chosen
    leaf.holder[leaf.key] = new
    return Spoiled(_dump(value), leaf.path)


def dropped_row(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """Silent: one row of the longest list left out; swapped digits where there is no list."""
    lists = [(path, rows) for path, rows in _lists(value) if rows]
    if not lists:
        return swapped_digits(value, shape, pick)
    path, rows = max(lists, key=lambda found: len(found[1]))
    position = pick % len(rows)
    del rows[position]
    return Spoiled(_dump(value), f"{path}.{position}")


def wrong_field(value: Any, shape: Shape | None, pick: int) -> Spoiled:
    """Silent: one value replaced by that of another field of its object which looks alike."""
    leaves = list(_leaves(value, shape))
    pairs = [
        (leaf, other.value)
        for leaf in leaves
        for other in leaves
        if other.holder is leaf.holder and _looks_alike(leaf, other)
    ]
    chosen = _choose(pairs, pick)
    if chosen is None:
        return dropped_row(value, shape, pick)
    leaf, new = chosen
    leaf.holder[leaf.key] = new
    return Spoiled(_dump(value), leaf.path)


def _looks_alike(leaf: Leaf, other: Leaf) -> bool:
    """Whether another value would be as valid here, and is another one."""
    if leaf.value == other.value or leaf.value is None or other.value is None:
        return False
    if leaf.shape is None or other.shape is None or type(leaf.value) is not type(other.value):
        return False
    fixed = leaf.shape.choices or other.shape.choices
    alike = (leaf.shape.format, leaf.shape.pattern) == (other.shape.format, other.shape.pattern)
    return not fixed and alike


def _choose(candidates: list[Any], pick: int) -> Any:
    return candidates[pick % len(candidates)] if candidates else None


def _top_name(value: dict[str, Any], pick: int) -> str:
    """A top-level field that is not null, if there is one."""
    names = [name for name, part in value.items() if part is not None] or list(value) or ["value"]
    return str(_choose(names, pick))


def _with_raw(value: Any, shape: Shape | None, pick: int, *, raw: str) -> Spoiled:
    """A number of the answer, else a top-level value, replaced by `raw` as it is."""
    leaf = _choose([leaf for leaf in _leaves(value, shape) if _is_number(leaf.value)], pick)
    if leaf is None:
        name = _top_name(value, pick)
        leaf = Leaf(value, name, name, None)
    leaf.holder[leaf.key] = _HOLE
    return Spoiled(_dump(value).replace(f'"{_HOLE}"', raw, 1), leaf.path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_free_text(leaf: Leaf) -> bool:
    """Whether any other text would be as valid here."""
    if not isinstance(leaf.value, str):
        return False
    shape = leaf.shape
    return shape is None or not (shape.choices or shape.format or shape.pattern)


def _swapped(leaf: Leaf) -> Any:
    """The value with its last two different neighbouring digits changed; None when it has none."""
    fixed = leaf.shape is not None and bool(leaf.shape.choices)
    if fixed or isinstance(leaf.value, bool | None) or _DATE_LIKE.search(str(leaf.value)):
        return None
    text = str(leaf.value)
    for right in range(len(text) - 1, 0, -1):
        left = right - 1
        both = text[left] + text[right]
        if both.isdigit() and both[0] != both[1] and both[1] != "0":
            swapped = text[:left] + both[::-1] + text[right + 1 :]
            return type(leaf.value)(swapped)
    return None


def _leaves(value: Any, shape: Shape | None, path: str = "") -> Iterator[Leaf]:
    """Every scalar of an answer but the quotes, with its shape."""
    parts = dict(shape.fields) if shape else {}
    quoted = shape is not None and shape.quoted
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if quoted and key == "quote":
            continue
        inner = shape.element if shape and shape.kind is Kind.ARRAY else parts.get(str(key))
        where = f"{path}.{key}" if path else str(key)
        if isinstance(part, dict | list):
            yield from _leaves(part, inner, where)
        else:
            yield Leaf(value, key, where, inner)


def _lists(value: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        where = f"{path}.{key}" if path else str(key)
        if isinstance(part, list):
            yield where, part
        if isinstance(part, dict | list):
            yield from _lists(part, where)
