"""The strict form: only what strict mode accepts, and nothing lost that the model accepts."""

import json
import string
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, create_model

from runner.errors import JobError
from runner.jsonschema import strict_schema
from schemas.contract import ContractClause
from schemas.invoice import Invoice
from schemas.ticket import SupportTicket

ALLOWED = {
    "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "$ref",
    "$defs", "description", "pattern", "format", "multipleOf", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
}  # fmt: skip
PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None),
    "array": list, "object": dict,
}  # fmt: skip


def nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in (*node.get("properties", {}).values(), *node.get("$defs", {}).values()):
        yield from nodes(child)
    for child in (*node.get("anyOf", ()), *([node["items"]] if "items" in node else ())):
        yield from nodes(child)


def assert_strict(schema: Mapping[str, Any]) -> None:
    assert schema["type"] == "object"
    for node in nodes(schema):
        assert set(node) <= ALLOWED
        if "$ref" in node:
            assert set(node) == {"$ref"}
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])


def matches(value: Any, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    if "$ref" in node:
        node = definitions[node["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in node:
        return any(matches(value, arm, definitions) for arm in node["anyOf"])
    if "enum" in node:
        return value in node["enum"]
    return has_type(value, node["type"]) and all(
        matches(part, part_node, definitions) for part, part_node in parts(value, node)
    )


def has_type(value: Any, name: str) -> bool:
    return isinstance(value, PYTHON_TYPES[name]) and isinstance(value, bool) == (name == "boolean")


def parts(value: Any, node: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    if isinstance(value, list):
        yield from ((entry, node["items"]) for entry in value)
    if isinstance(value, dict):
        nothing: dict[str, Any] = {"enum": []}
        for name in value.keys() | node["properties"].keys():
            yield (
                value.get(name),
                node["properties"].get(name, nothing) if name in value else nothing,
            )


class Mood(StrEnum):
    """How it went."""

    GOOD = "good"
    BAD = "bad"


# A Python type, and JSON values that a model's answer may hold for it.
leaves = st.sampled_from(
    [
        (str, st.text(string.printable, max_size=5)),
        (int, st.integers(-99, 99)),
        (bool, st.booleans()),
        (Decimal, st.integers(-999, 999).map(lambda cents: cents / 100)),
        (date, st.dates().map(date.isoformat)),
        (Mood, st.sampled_from(["good", "bad"])),
        (Literal["a", "b"], st.sampled_from(["a", "b"])),
        (Annotated[str, Field(pattern="^[a-z]$")], st.sampled_from(["x", "y"])),
    ]
)


def _record(fields: list[tuple[Any, st.SearchStrategy[Any]]]) -> tuple[Any, Any]:
    definitions: dict[str, Any] = {
        f"f{place}": (kind, Field(description=f"Field {place}.") if place % 2 else ...)
        for place, (kind, _) in enumerate(fields)
    }
    model = create_model("Record", **definitions)
    values = {f"f{place}": strategy for place, (_, strategy) in enumerate(fields)}
    return model, st.fixed_dictionaries(values)


def _grown(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        kinds.map(lambda kind: (list.__class_getitem__(kind[0]), st.lists(kind[1], max_size=2))),
        kinds.map(lambda kind: (kind[0] | None, st.none() | kind[1])),
        st.lists(kinds, min_size=1, max_size=3).map(_record),
    )


records = st.lists(st.recursive(leaves, _grown, max_leaves=5), min_size=1, max_size=4).map(_record)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_a_model_accepts_matches_its_strict_schema(data: st.DataObject) -> None:
    model, values = data.draw(records)
    schema = strict_schema(model)
    assert_strict(schema)
    answer = data.draw(values)
    model.model_validate_json(json.dumps(answer))
    assert matches(answer, schema, schema.get("$defs", {}))
    assert not matches({**answer, "surplus": 1}, schema, schema.get("$defs", {}))


@pytest.mark.parametrize("model", [Invoice, SupportTicket, ContractClause])
def test_the_shipped_schemas_are_strict_and_keep_the_order_of_their_fields(
    model: type[BaseModel],
) -> None:
    schema = strict_schema(model)
    assert_strict(schema)
    assert list(schema["properties"]) == list(model.model_fields)
    assert all("description" in value for value in schema["properties"].values())
    assert json.dumps(schema) == json.dumps(strict_schema(model))


def test_a_decimal_is_a_number_with_its_bounds_and_never_a_string() -> None:
    class Priced(BaseModel):
        price: Annotated[Decimal, Field(ge=0)] | None = None

    assert strict_schema(Priced)["properties"]["price"] == {
        "anyOf": [{"type": "number", "minimum": 0.0}, {"type": "null"}]
    }


def test_defaults_titles_lengths_and_unknown_formats_are_left_out() -> None:
    class Named(BaseModel):
        name: str = Field(default="x", title="T", min_length=1, max_length=9, examples=["y"])
        at: Annotated[str, Field(json_schema_extra={"format": "phone"})]

    string_only = {"type": "string"}
    assert strict_schema(Named)["properties"] == {"name": string_only, "at": string_only}


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [("^[A-Z]{3}$", True), ("[A-Z]", False), ("^(?!x)y$", False), (r"^(a)\1$", False)],
)
def test_only_patterns_that_every_server_compiles_are_kept(pattern: str, *, kept: bool) -> None:
    class Coded(BaseModel):
        code: Annotated[str, Field(json_schema_extra={"pattern": pattern})]

    assert ("pattern" in strict_schema(Coded)["properties"]["code"]) is kept


class Leaf(BaseModel):
    """A leaf."""

    size: int


class Tree(BaseModel):
    """A tree of trees."""

    name: str
    leaf: Leaf = Field(description="The first leaf.")
    branches: list["Tree"] = Field(description="Smaller trees.")
    parent: Union["Tree", None] = None


def test_a_reference_with_a_description_is_written_out_in_place() -> None:
    leaf = strict_schema(Tree)["properties"]["leaf"]
    assert leaf["description"] == "The first leaf."
    assert leaf["properties"] == {"size": {"type": "integer"}}


def test_a_recursive_schema_has_an_object_at_its_root_and_refers_to_its_definition() -> None:
    schema = strict_schema(Tree)
    assert_strict(schema)
    assert list(schema["$defs"]) == ["Tree"]  # Leaf is written out everywhere
    small: dict[str, Any] = {"name": "b", "leaf": {"size": 2}, "branches": [], "parent": None}
    assert matches({**small, "branches": [small], "parent": small}, schema, schema["$defs"])
    assert not matches({**small, "branches": [{"name": "b"}]}, schema, schema["$defs"])


class Ring(BaseModel):
    """A thing that leads to its like."""

    following: "Ring" = Field(description="The next one.")


def test_a_recursion_through_described_fields_ends() -> None:
    assert_strict(strict_schema(Ring))


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """A dog."""

    kind: Literal["dog"]


def test_a_tagged_union_becomes_a_plain_one_of_closed_objects() -> None:
    class Owner(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]

    schema = strict_schema(Owner)
    assert_strict(schema)
    assert matches({"pet": {"kind": "dog"}}, schema, schema["$defs"])
    assert not matches({"pet": {"kind": "cow"}}, schema, schema["$defs"])


def test_an_enum_of_several_types_names_them_all() -> None:
    class Mixed(BaseModel):
        value: Literal["a", 1, True]

    assert strict_schema(Mixed)["properties"]["value"] == {
        "type": ["boolean", "integer", "string"],
        "enum": ["a", 1, True],
    }


def _model_with(kind: Any) -> type[BaseModel]:
    inner = create_model("Inner", odd=(kind, ...))
    return create_model("Outer", inner=(list[inner], ...))  # type: ignore[valid-type] # made here


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (dict[str, int], "an object with free keys"),
        (dict, "an object with free keys"),
        (Any, "a value of any type"),
        (list[Any], "a value of any type"),
        (tuple[int, str], "a tuple"),
    ],
)
def test_what_strict_mode_cannot_express_is_refused_by_the_name_of_its_field(
    kind: Any, words: str
) -> None:
    with pytest.raises(JobError, match=rf"Outer: field .*odd.* is {words}"):
        strict_schema(_model_with(kind))


def test_a_type_without_json_and_a_root_that_is_no_object_are_refused() -> None:
    with pytest.raises(JobError, match="give the field a JSON type"):
        strict_schema(
            create_model(
                "Odd", field=(type(len), ...), __config__={"arbitrary_types_allowed": True}
            )
        )
    with pytest.raises(JobError, match="an object at the root"):
        strict_schema(RootModel[list[int]])


def test_a_schema_beyond_the_providers_limits_is_refused_with_the_figure() -> None:
    many = Enum("Many", {f"V{number}": number for number in range(1_001)})  # type: ignore[misc] # made here
    with pytest.raises(JobError, match="1001 enum values, strict mode allows 1000"):
        strict_schema(create_model("Wide", field=(many, ...)))
    fields: dict[str, Any] = {f"f{number}": (int, ...) for number in range(5_001)}
    with pytest.raises(JobError, match="5001 properties"):
        strict_schema(create_model("Wide", **fields))
    model: type[BaseModel] = Leaf
    for _ in range(10):
        model = create_model("Deep", inner=(model, Field(description="Deeper.")))
    with pytest.raises(JobError, match="11 levels of nested objects"):
        strict_schema(model)
