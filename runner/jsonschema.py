"""Turns a pydantic model into the JSON schema that strict structured outputs accept.

The keywords kept are those that OpenAI's guide lists for strict mode ("Structured Outputs",
section "Supported schemas", as of November 2026): type, properties, required,
additionalProperties, items, anyOf, enum, $ref, $defs, description; for strings pattern and format;
for numbers multipleOf and the four bounds; for arrays minItems and maxItems. Everything else is
left out: pydantic checks it on the answer anyway. Two restrictions go further than the guide,
because grammars of local servers (llama.cpp) refuse what lies outside them: a pattern stays only
when it is anchored at both ends and looks neither ahead nor back, and `const` is written as `enum`.
A Decimal is a number: the string arm that pydantic adds made some models fail
(openai-python issue 2718).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from runner.errors import JobError

PROPERTIES_MAX = 5_000  # of all objects together; this and the next two are OpenAI's limits
DEPTH_MAX = 10  # nested objects, counted inside one definition: a `$ref` may be recursive
ENUM_VALUES_MAX = 1_000  # of all enums together

_DEFINITION = "#/$defs/"
# The order of this tuple is the order of the keywords in the result.
_KEPT_AS_THEY_ARE = (
    "type",
    "enum",
    "multipleOf",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_LOOKS_AROUND = re.compile(r"\(\?[=!<]|\\[1-9]")
_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}

Node = Mapping[str, Any]


class _DecimalsAreNumbers(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        arms: list[JsonSchemaValue] = super().decimal_schema(schema)["anyOf"]
        return next(arm for arm in arms if arm["type"] == "number")


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return `model`'s JSON schema in strict form: equal models give equal schemas, key by key.

    Every object is closed and requires all its properties, in the order of the model's fields;
    defaults and titles are gone; a `$ref` stands alone; definitions stay only where one is referred
    to. Every JSON value that the model accepts when all its fields are given, and that keeps to
    the written types (no number as a string), matches the schema.
    Raises JobError naming the field that strict mode cannot express: an object with free keys, a
    value of any type, a tuple; or the limit that the schema exceeds.
    """
    try:
        generated = model.model_json_schema(schema_generator=_DecimalsAreNumbers)
    except PydanticInvalidForJsonSchema as error:
        raise JobError(f"schema {model.__name__}: {error}; give the field a JSON type") from error
    strict = _Strict(model.__name__, generated.pop("$defs", {})).root(generated)
    _check_limits(model.__name__, strict)
    return strict


class _Strict:
    """One conversion: the model's name for messages, and the definitions that a `$ref` may name."""

    def __init__(self, model_name: str, definitions: Mapping[str, Node]) -> None:
        self._model_name = model_name
        self._definitions = definitions
        self._inlining: list[str] = []

    def root(self, node: Node) -> dict[str, Any]:
        if "$ref" in node:  # a recursive model
            node = self._definitions[node["$ref"].removeprefix(_DEFINITION)]
        if node.get("type") != "object":
            raise JobError(
                f"schema {self._model_name}: strict mode needs an object at the root; "
                "put the value into a field of a model"
            )
        strict = self.convert(node, path="")
        definitions = self._definitions_used_by(strict)
        return {**strict, "$defs": definitions} if definitions else strict

    def _definitions_used_by(self, strict: Node) -> dict[str, Any]:
        used: dict[str, Any] = {}
        waiting = [strict]
        while waiting:
            for name in _references(waiting.pop()):
                if name not in used:
                    used[name] = self.convert(self._definitions[name], path=f"({name})")
                    waiting.append(used[name])
        return dict(sorted(used.items()))

    def convert(self, node: Any, *, path: str) -> dict[str, Any]:
        if isinstance(node, bool):  # JSON schema for "anything" or "nothing"
            raise self._refusal(path, "a value of any type", "give it one type")
        if "$ref" in node:
            return self._reference(node, path=path)
        if "const" in node:
            node = {**node, "enum": [node["const"]]}
        arms = node.get("anyOf") or node.get("oneOf")
        if arms:
            return _described(node, {"anyOf": [self.convert(arm, path=path) for arm in arms]})
        if "enum" in node and "type" not in node:
            node = {**node, "type": _types_of(node["enum"])}
        match node.get("type"):
            case "object":
                strict = self._object(node, path=path)
            case "array":
                strict = self._array(node, path=path)
            case None:
                raise self._refusal(path, "a value of any type", "give it one type")
            case _:
                strict = {}
        return _described(node, {**_kept(node), **strict})

    def _reference(self, node: Node, *, path: str) -> dict[str, Any]:
        name = node["$ref"].removeprefix(_DEFINITION)
        if "description" not in node or name in self._inlining:
            return {"$ref": node["$ref"]}
        described = {**self._definitions[name], "description": node["description"]}
        self._inlining.append(name)
        try:
            return self.convert(described, path=path)
        finally:
            self._inlining.pop()

    def _object(self, node: Node, *, path: str) -> dict[str, Any]:
        if node.get("additionalProperties") not in (None, False) or "patternProperties" in node:
            raise self._refusal(
                path, "an object with free keys", "use a list of models with a name and a value"
            )
        properties: Mapping[str, Node] = node.get("properties", {})
        return {
            "properties": {
                name: self.convert(value, path=f"{path}.{name}".lstrip("."))
                for name, value in properties.items()
            },
            "required": list(properties),
            "additionalProperties": False,
        }

    def _array(self, node: Node, *, path: str) -> dict[str, Any]:
        if "prefixItems" in node:
            raise self._refusal(path, "a tuple", "use a model with a field for each place")
        return {"items": self.convert(node.get("items", True), path=f"{path}[]")}

    def _refusal(self, path: str, what: str, advice: str) -> JobError:
        return JobError(
            f"schema {self._model_name}: field {path or '(root)'} is {what}, "
            f"which strict structured outputs cannot express; {advice}"
        )


def _kept(node: Node) -> dict[str, Any]:
    kept = {keyword: node[keyword] for keyword in _KEPT_AS_THEY_ARE if keyword in node}
    if node.get("format") in _FORMATS:
        kept["format"] = node["format"]
    pattern = node.get("pattern", "")
    if pattern.startswith("^") and pattern.endswith("$") and not _LOOKS_AROUND.search(pattern):
        kept["pattern"] = pattern
    return kept


def _described(node: Node, strict: dict[str, Any]) -> dict[str, Any]:
    # the description first: a model reads the schema in this order
    return {"description": node["description"], **strict} if "description" in node else strict


def _types_of(values: Sequence[Any]) -> str | list[str]:
    types = sorted({_TYPE_NAMES[type(value)] for value in values})
    return types[0] if len(types) == 1 else types


def _children(node: Node) -> Iterator[Node]:
    yield from node.get("properties", {}).values()
    yield from node.get("anyOf", ())
    if "items" in node:
        yield node["items"]


def _references(node: Node) -> Iterator[str]:
    if "$ref" in node:
        yield node["$ref"].removeprefix(_DEFINITION)
    for child in _children(node):
        yield from _references(child)


def _nodes(node: Node, *, depth: int) -> Iterator[tuple[Node, int]]:
    depth += "properties" in node
    yield node, depth
    for child in _children(node):
        yield from _nodes(child, depth=depth)


def _check_limits(model_name: str, strict: Node) -> None:
    nodes = list(_nodes(strict, depth=0))
    for definition in strict.get("$defs", {}).values():
        nodes.extend(_nodes(definition, depth=0))
    for what, found, allowed in (
        ("properties", sum(len(node.get("properties", ())) for node, _ in nodes), PROPERTIES_MAX),
        ("levels of nested objects", max(depth for _, depth in nodes), DEPTH_MAX),
        ("enum values", sum(len(node.get("enum", ())) for node, _ in nodes), ENUM_VALUES_MAX),
    ):
        if found > allowed:
            raise JobError(
                f"schema {model_name}: {found} {what}, strict mode allows {allowed}; "
                "split it into two jobs"
            )
