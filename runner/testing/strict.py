"""What the real API refuses in a strict JSON schema, found before anything is answered."""

from collections.abc import Iterator
from typing import Any

NOT_PERMITTED = (
    "allOf",
    "default",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "oneOf",
    "patternProperties",
    "then",
)
DEPTH_MAX = 64
_GROUPS = ("properties", "$defs", "definitions")


def root_problem(schema: dict[str, Any]) -> str | None:
    """Why `schema` cannot be the schema of an answer at all, strict or not; None if it can."""
    named = schema.get("type")
    if named == "object":
        return None
    return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {named!r}'."


def strict_problem(schema: dict[str, Any]) -> str | None:
    """The first reason why `schema` is not a strict one, in the API's words; None if it is."""
    return root_problem(schema) or next(_problems(schema, ()), None)


def _problems(schema: Any, context: tuple[str, ...]) -> Iterator[str]:
    """Every problem of a schema and of what it contains, outermost first."""
    if not isinstance(schema, dict):
        yield f"In context={context!r}, schema must be an object."
        return
    if len(context) > DEPTH_MAX:
        yield f"In context={context!r}, the schema is nested too deeply."
        return
    yield from (f"In context={context!r}, {problem}" for problem in _own_problems(schema))
    for group in _GROUPS:
        for name, part in (schema.get(group) or {}).items():
            yield from _problems(part, (*context, group, name))
    for position, branch in enumerate(schema.get("anyOf") or ()):
        yield from _problems(branch, (*context, "anyOf", str(position)))
    if "items" in schema:
        yield from _problems(schema["items"], (*context, "items"))


def _own_problems(schema: dict[str, Any]) -> Iterator[str]:
    """Problems of one schema object, its parts left out."""
    for keyword in NOT_PERMITTED:
        if keyword in schema:
            yield f"'{keyword}' is not permitted."
    if "$ref" in schema:
        beside = sorted(set(schema) - {"$ref", "$defs", "definitions"})
        if beside:
            yield f"$ref cannot have keywords {set(beside)!r}."
        return
    if not {"type", "anyOf", "enum", "const"} & set(schema):
        yield "schema must have a 'type' key."
    if schema.get("type") == "object" or "properties" in schema:
        yield from _object_problems(schema)
    if schema.get("type") == "array" and "items" not in schema:
        yield "array schema missing items."


def _object_problems(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("additionalProperties") is not False:
        yield "'additionalProperties' is required to be supplied and to be false."
    names = schema.get("properties") or {}
    required = schema.get("required")
    missing = [name for name in names if name not in (required or ())]
    if missing or (names and required is None):
        yield (
            "'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing {missing[0]!r}."
        )
    unknown = [name for name in required or () if name not in names]
    if unknown:
        yield f"'required' names {unknown[0]!r}, which is not in properties."
