"""Answers a JSON schema from a document's text: deterministic, exact where labels match names.

A property is looked up by its name and its title ("supplier_name": "supplier name", then
"supplier"), under its parent's name first (`name` in `supplier`: "supplier name", then "name"). An
array of objects is the table whose columns match best. An object of `value` and `quote` is a value
with the verbatim text it stands in. What is not found is null where the schema allows it, else a
filler of the right type.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from .page import Mention, Page, Table, is_absent, iso_date, normal_label, number_text, read_page

DEPTH_MAX = 12
CACHED_ANSWERS_MAX = 20_000
QUOTED_FIELDS = frozenset({"value", "quote"})
_FILLERS = ("not stated", "XXX", "0", "0.00", "1970-01-01", "a", "A1")
_CLOCK = re.compile(r"\b(\d{2}:\d{2})(:\d{2})?\b")
_TRUE = frozenset({"yes", "true", "y", "1", "x"})
_FALSE = frozenset({"no", "false", "n", "0"})


class Kind(StrEnum):
    """The JSON type of an answer."""

    OBJECT = "object"
    ARRAY = "array"
    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Shape:
    """A JSON schema reduced to what an answer needs; `labels` are what a document may call it."""

    kind: Kind
    labels: tuple[str, ...] = ()
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    format: str | None = None
    pattern: re.Pattern[str] | None = None
    minimum: float = 0
    fields: tuple[tuple[str, "Shape"], ...] = ()
    element: "Shape | None" = None
    quoted: bool = False  # an object of a value and its verbatim quote


class Found(NamedTuple):
    """An answer to a part of the schema, and whether the document really says it."""

    value: Any
    said: bool


def compile_schema(schema: dict[str, Any]) -> Shape:
    """The shape of a JSON schema. Raises ValueError for a $ref or a type that cannot be resolved.

    A schema that contains itself is followed to a depth of 12.
    """
    return _compile(schema, root=schema, labels=(), depth=0)


def _compile(schema: dict[str, Any], *, root: Any, labels: tuple[str, ...], depth: int) -> Shape:
    if depth > DEPTH_MAX:
        return Shape(Kind.NULL, nullable=True)
    if "$ref" in schema:
        target = {**_resolve(schema["$ref"], root), **_without(schema, "$ref")}
        return _compile(target, root=root, labels=labels, depth=depth + 1)
    branches = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if branches:
        return _compile_union(schema, branches, root=root, labels=labels, depth=depth)
    kind, nullable = _kind(schema)
    return Shape(
        kind=kind,
        labels=labels,
        nullable=nullable,
        quoted=set(schema.get("properties", ())) == QUOTED_FIELDS,
        choices=_choices(schema),
        format=schema.get("format"),
        pattern=re.compile(schema["pattern"]) if "pattern" in schema else None,
        minimum=schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1),
        fields=tuple(
            (
                name,
                _compile(part, root=root, labels=_labels(name, part, labels), depth=depth + 1),
            )
            for name, part in schema.get("properties", {}).items()
        ),
        element=_compile(schema["items"], root=root, labels=(), depth=depth + 1)
        if isinstance(schema.get("items"), dict)
        else None,
    )


def _compile_union(
    schema: dict[str, Any], branches: Any, *, root: Any, labels: tuple[str, ...], depth: int
) -> Shape:
    """The first branch that is not null; nullable when another one is."""
    solid = [branch for branch in branches if branch.get("type") != "null"]
    around = _without(schema, "anyOf", "oneOf", "allOf")
    chosen = {**around, **(solid[0] if solid else {"type": "null"})}
    if len(solid) < len(branches) and "$ref" not in chosen and isinstance(chosen.get("type"), str):
        chosen["type"] = [chosen["type"], "null"]
    shape = _compile(chosen, root=root, labels=labels, depth=depth + 1)
    if len(solid) < len(branches) and not shape.nullable:
        return replace(shape, nullable=True)
    return shape


def _without(schema: dict[str, Any], *keywords: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in keywords}


def _resolve(reference: str, root: Any) -> dict[str, Any]:
    target = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            target = target.get(part) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ValueError(f"reference {reference!r} leads nowhere")  # noqa: TRY004 - the schema's value
    return target


def _kind(schema: dict[str, Any]) -> tuple[Kind, bool]:
    """The JSON type and whether null is allowed too."""
    named = schema.get("type")
    if named is None:
        named = _type_of(next(iter(_choices(schema)), {} if "properties" in schema else ""))
    names = [named] if isinstance(named, str) else list(named)
    solid = [name for name in names if name != "null"]
    return Kind(solid[0] if solid else "null"), "null" in names


def _type_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}
    return names.get(type(value), "null")


def _choices(schema: dict[str, Any]) -> tuple[Any, ...]:
    return (schema["const"],) if "const" in schema else tuple(schema.get("enum", ()))


def _labels(name: str, schema: dict[str, Any], parents: tuple[str, ...]) -> tuple[str, ...]:
    """What a property may be called in a document, the likeliest first."""
    named = (normal_label(text) for text in (name, str(schema.get("title") or name)))
    own = {form: None for text in named for form in (text, text.removesuffix(" name"))}
    under = (f"{parent} {label}" for parent in parents for label in own)
    return tuple(dict.fromkeys((*under, *own)))


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one (document, schema): `text` is its JSON; `text_bytes` the UTF-8 length."""

    text: str
    text_bytes: int

    @property
    def value(self) -> Any:
        """The answer itself, a new object each time."""
        return json.loads(self.text)


class Answers:
    """Answers by (document key, schema key), at most 20,000 kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Answer] = {}

    def answer(self, *, document: str, cache_key: tuple[str, bytes], shape: Shape | None) -> Answer:
        """The answer to `shape` (None: every label) from `document`."""
        known = self._known.get(cache_key)
        if known is None:
            text = json.dumps(answer_document(document, shape), ensure_ascii=False)
            known = Answer(text, len(text.encode("utf-8", "surrogatepass")))
            if len(self._known) >= CACHED_ANSWERS_MAX:
                del self._known[next(iter(self._known))]
            self._known[cache_key] = known
        return known


def answer_document(document: str, shape: Shape | None) -> Any:
    """What `document` says in the given shape; without one, an object of all its labels."""
    page = read_page(document)
    if shape is None:
        return {label: mention.raw for label, mention in page.scalars.items()}
    return _fill(shape, page.scalars, page).value


def _fill(shape: Shape, scope: Mapping[str, Mention], page: Page) -> Found:
    """Answer one part of the schema from `scope`: the page's labels, or one row of a table."""
    if shape.kind is Kind.OBJECT:
        found = (
            _fill_quoted(shape, scope, page) if shape.quoted else _fill_object(shape, scope, page)
        )
    elif shape.kind is Kind.ARRAY:
        found = _fill_array(shape, scope, page)
    else:
        found = _fill_scalar(shape, _mention(shape, scope), page)
    return Found(None, said=False) if shape.nullable and not found.said else found


def _mention(shape: Shape, scope: Mapping[str, Mention]) -> Mention | None:
    for label in shape.labels:
        mention = scope.get(label)
        if mention is not None and not is_absent(mention.raw):
            return mention
    return None


def _fill_object(shape: Shape, scope: Mapping[str, Mention], page: Page) -> Found:
    parts = {name: _fill(part, scope, page) for name, part in shape.fields}
    return Found(
        {name: part.value for name, part in parts.items()},
        said=any(part.said for part in parts.values()),
    )


def _fill_quoted(shape: Shape, scope: Mapping[str, Mention], page: Page) -> Found:
    return _quoted(shape, _mention(shape, scope), page)


def _quoted(shape: Shape, mention: Mention | None, page: Page) -> Found:
    """A value and the verbatim text it stands in, in the order of the schema."""
    value = _fill_scalar(dict(shape.fields)["value"], mention, page)
    quote = mention.quote if mention and value.said else ""
    parts = {"value": value.value, "quote": quote}
    return Found({name: parts[name] for name, _ in shape.fields}, said=value.said)


def _fill_array(shape: Shape, scope: Mapping[str, Mention], page: Page) -> Found:
    element = shape.element
    if element is None:
        return Found([], said=False)
    if element.kind is Kind.OBJECT and not element.quoted:
        table = _best_table(element, page)
        rows = table.rows if table else ()
        return Found([_fill(element, row, page).value for row in rows], said=bool(rows))
    mentions = _listed(shape, scope, page)
    if element.quoted:
        filled = [_quoted(element, mention, page) for mention in mentions]
    else:
        filled = [_fill_scalar(element, mention, page) for mention in mentions]
    said = [part.value for part in filled if part.said]
    return Found(said, said=bool(said))


def _best_table(element: Shape, page: Page) -> Table | None:
    """The table with the most columns named like properties; at least half must be."""
    best: Table | None = None
    matched = (len(element.fields) - 1) // 2
    for table in page.tables:
        columns = set(table.columns)
        score = sum(not columns.isdisjoint(part.labels) for _, part in element.fields)
        if score > matched:
            best, matched = table, score
    return best


def _listed(shape: Shape, scope: Mapping[str, Mention], page: Page) -> list[Mention]:
    """The bullets under a label, else its value, cut at semicolons or, without any, at commas."""
    mention = _mention(shape, scope)
    bullets = next((page.lists[label] for label in shape.labels if label in page.lists), ())
    if mention is None:
        return [part for bullet in bullets for part in _cut(bullet, ";")]
    return _cut(mention, ";" if ";" in mention.raw else ",")


def _cut(mention: Mention, separator: str) -> list[Mention]:
    parts = (part.strip() for part in mention.raw.split(separator))
    return [Mention(part, part) for part in parts if part]


def _fill_scalar(shape: Shape, mention: Mention | None, page: Page) -> Found:
    value = _convert(shape, mention.raw) if mention else None
    if value is not None:
        return Found(value, said=True)
    if shape.nullable or shape.kind is Kind.NULL:
        return Found(None, said=False)
    return Found(_filler(shape, page), said=False)


def _convert(shape: Shape, raw: str) -> Any:
    """`raw` as a value of this shape; None when it cannot be one."""
    if shape.choices:
        return _choose(shape.choices, raw)
    if shape.kind is Kind.STRING:
        return _text_value(shape, raw)
    if shape.kind is Kind.BOOLEAN:
        word = raw.lower()
        return True if word in _TRUE else (False if word in _FALSE else None)
    plain = number_text(raw)
    if plain is None or (shape.kind is Kind.INTEGER and float(plain) % 1):
        return None
    whole, point, _ = plain.partition(".")
    return float(plain) if point and shape.kind is Kind.NUMBER else int(whole)


def _choose(choices: tuple[Any, ...], raw: str) -> Any:
    """The choice that `raw` is, else the first one that it contains."""
    wanted = normal_label(raw)
    same = [choice for choice in choices if normal_label(str(choice)) == wanted]
    within = [choice for choice in choices if choice and normal_label(str(choice)) in wanted]
    return next(iter(same + within), None)


def _text_value(shape: Shape, raw: str) -> str | None:
    if shape.format == "date":
        return iso_date(raw)
    if shape.format == "date-time":
        return _iso_time(raw)
    if shape.pattern is None:
        return raw
    forms = (raw, raw.upper(), number_text(raw) or "")
    return next((form for form in forms if shape.pattern.search(form)), None)


def _iso_time(raw: str) -> str | None:
    """A date, and the time of day if there is one, as RFC 3339 in UTC."""
    day = iso_date(raw)
    clock = _CLOCK.search(raw)
    hours, seconds = (clock[1], clock[2] or ":00") if clock else ("00:00", ":00")
    return f"{day}T{hours}{seconds}Z" if day else None


def _filler(shape: Shape, page: Page) -> Any:
    """A value of the right type for what the document does not say."""
    if shape.choices:
        text = page.text.lower()
        occurring = (choice for choice in shape.choices if str(choice).lower() in text)
        return next(occurring, shape.choices[0])
    if shape.kind is Kind.BOOLEAN:
        return False
    if shape.kind is not Kind.STRING:
        return shape.minimum
    if shape.format in ("date", "date-time"):
        return "1970-01-01" if shape.format == "date" else "1970-01-01T00:00:00Z"
    accepts = shape.pattern.search if shape.pattern else bool
    return next((filler for filler in _FILLERS if accepts(filler)), _FILLERS[0])
