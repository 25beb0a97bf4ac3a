"""What a schema says of its fields beyond their types: comparison, and ground in the document.

    Amount = Annotated[Decimal, Compare.AMOUNT, Stated()]

stands in a schema beside pydantic's own metadata, and `Grounded[T]` asks the model itself for the
verbatim words that a value stands in. `spec_of` reads all of it once a schema; grounding and
evaluation walk plain data by it.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

T = TypeVar("T")


class Compare(StrEnum):
    """When two values of a field are the same, and how a document writes one."""

    TEXT = "text"  # words; letter case, width and blanks aside
    ID = "id"  # letters and digits; blanks and dashes aside
    AMOUNT = "amount"  # numbers, to a cent
    DATE = "date"
    PROSE = "prose"  # alike by at least a ratio of its words
    CHOICE = "choice"  # exactly equal: enums, booleans


@dataclass(frozen=True, slots=True)
class Stated:
    """The document must state the value of this field; the runner looks for it itself.

    `unless` are values that a document need not print, such as 0. `written` are other ways a
    document may write a value: {"EUR": ("€", "Euro")}.
    """

    unless: tuple[Any, ...] = ()
    written: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


class Grounded(BaseModel, Generic[T]):
    """A value, and the words of the document that it stands in, copied verbatim by the model.

    Records hold the value alone; where the quote stands becomes the record's evidence. The quote
    comes first, so that a model has read the place before it writes the value. A bare value, as
    records and gold data have it, is taken without a quote: the value itself is looked for then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quote: str = Field(
        description="The words of the document that give the value, copied verbatim.",
        max_length=1_000,
    )
    value: T

    @model_validator(mode="before")
    @classmethod
    def _or_bare(cls, given: Any) -> Any:
        if isinstance(given, Grounded) or (isinstance(given, Mapping) and "quote" in given):
            return given
        return {"quote": "", "value": given}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One place of a schema: a scalar, an object of `parts`, or a list of `element`s."""

    compare: Compare = Compare.CHOICE
    stated: Stated | None = None
    quoted: bool = False  # a Grounded[T]
    parts: tuple[tuple[str, "FieldSpec"], ...] | None = None
    element: "FieldSpec | None" = None
    # known once it is made, as every answer asks for both
    needs_document: bool = field(init=False)  # something in it is to be looked for in the document
    has_quotes: bool = field(init=False)  # the model brings quotes of its own somewhere in it

    def __post_init__(self) -> None:
        inner = tuple(self._inner())
        has_quotes = self.quoted or any(one.has_quotes for one in inner)
        is_stated = self.stated is not None or any(one.needs_document for one in inner)
        object.__setattr__(self, "has_quotes", has_quotes)
        object.__setattr__(self, "needs_document", has_quotes or is_stated)

    def _inner(self) -> Iterator["FieldSpec"]:
        yield from (part for _, part in self.parts or ())
        if self.element is not None:
            yield self.element


def without_quotes(spec: FieldSpec, data: Any) -> Any:
    """Plain data of a schema with each grounded value alone, as records hold it."""
    if data is None or not spec.has_quotes:
        return data
    if spec.quoted:
        return data["value"]
    if spec.parts is not None:
        parts = dict(spec.parts)
        return {
            name: without_quotes(parts[name], part) if name in parts else part
            for name, part in data.items()
        }
    assert spec.element is not None, "what has quotes within is an object or a list"
    return [without_quotes(spec.element, one) for one in data]


@lru_cache(maxsize=64)
def spec_of(schema: type[BaseModel]) -> FieldSpec:
    """What a schema says of its fields. A schema that contains itself is followed once."""
    return _object(schema, inside=())


def _object(schema: type[BaseModel], *, inside: tuple[type, ...]) -> FieldSpec:
    if schema in inside:
        return FieldSpec(parts=())
    return FieldSpec(
        parts=tuple(
            (name, _spec(found.annotation, tuple(found.metadata), inside=(*inside, schema)))
            for name, found in schema.model_fields.items()
        )
    )


def _spec(annotation: Any, marks: tuple[Any, ...], *, inside: tuple[type, ...]) -> FieldSpec:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _spec(arguments[0], (*annotation.__metadata__, *marks), inside=inside)
    if origin in (Union, types.UnionType):
        solid = [one for one in arguments if one is not type(None)]
        return _spec(solid[0], marks, inside=inside)
    if origin in (list, tuple, set, frozenset):
        return FieldSpec(element=_spec(arguments[0] if arguments else str, marks, inside=inside))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if issubclass(annotation, Grounded):
            value = annotation.model_fields["value"]
            inner = _spec(value.annotation, (*value.metadata, *marks), inside=inside)
            return replace(inner, quoted=True)
        return _object(annotation, inside=inside)
    return FieldSpec(compare=_compare(annotation, marks), stated=_marked(marks, Stated))


def _compare(annotation: Any, marks: tuple[Any, ...]) -> Compare:
    declared: Compare | None = _marked(marks, Compare)
    if declared is not None:
        return declared
    if get_origin(annotation) is Literal or not isinstance(annotation, type):
        return Compare.CHOICE
    if issubclass(annotation, bool | Enum):
        return Compare.CHOICE
    if issubclass(annotation, int | float | Decimal):
        return Compare.AMOUNT
    if issubclass(annotation, date | datetime):
        return Compare.DATE
    return Compare.TEXT if issubclass(annotation, str) else Compare.CHOICE


def _marked(marks: tuple[Any, ...], kind: type[T]) -> T | None:
    """The last mark of this kind: what stands nearest to the field speaks."""
    return next((mark for mark in reversed(marks) if isinstance(mark, kind)), None)
