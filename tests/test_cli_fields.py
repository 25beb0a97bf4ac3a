"""The fields of an answer one by one: while it grows, and with the ground of each."""

import json
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from runner.cli.fieldboard import PlainFields
from runner.cli.fields import NO_GROUND, Leaf, growing, leaves, marks
from runner.fields import Grounded, Stated, spec_of
from runner.model import Evidence, How


class Line(BaseModel):
    """A line."""

    name: Annotated[str, Stated()]
    amount: Annotated[Decimal, Stated(unless=(0,))]


class Bill(BaseModel):
    """A bill with a quote and lines."""

    number: Annotated[str, Stated()]
    seller: Grounded[str]
    lines: list[Line]
    note: str | None = None


SPEC = spec_of(Bill)
ANSWER = {
    "number": "A-1",
    "seller": {"quote": "Umbra GmbH", "value": "Umbra"},
    "lines": [{"name": "Cable", "amount": "0.00"}, {"name": "Hose", "amount": "12.50"}],
    "note": None,
}
TEXT = json.dumps(ANSWER)
PATHS = [
    *("number", "seller", "lines.0.name", "lines.0.amount"),
    *("lines.1.name", "lines.1.amount", "note"),
]


def so_far(text: str) -> list[Leaf]:
    return list(leaves(SPEC, growing(text))) if growing(text) else []


@given(st.integers(0, len(TEXT)))
def test_whatever_another_field_has_followed_is_as_it_stays(end: int) -> None:
    found = so_far(TEXT[:end])[:-1]
    assert found == so_far(TEXT)[: len(found)]


def test_every_value_is_a_field_and_a_quote_is_none() -> None:
    assert [leaf.path for leaf in so_far(TEXT)] == PATHS
    assert next(leaf for leaf in so_far(TEXT) if leaf.path == "seller").words == "Umbra"
    assert so_far(TEXT[: TEXT.index(', "value"')])[-1].path == "number"


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here it is: {}", "{} and so on"])
def test_what_stands_around_an_object_is_passed_over(around: str) -> None:
    assert growing(around.format(TEXT)) == ANSWER


@pytest.mark.parametrize("text", ["", "no object", "}{]", "[1]"])
def test_what_is_no_object_gives_no_fields(text: str) -> None:
    assert not growing(text)


def test_marks_say_in_words_how_the_document_has_each_value_it_must_state() -> None:
    record: dict[str, Any] = ANSWER | {"seller": "Umbra"}  # as records have it
    found = list(leaves(SPEC, record))
    evidence = [
        Evidence("number", 0, 3, How.EXACT),
        Evidence("seller", 4, 9, How.FUZZY),
        Evidence("lines.1.name", 9, 12, How.NORMALISED),
    ]
    assert marks(found, evidence) == {
        "number": "✓ exact",
        "seller": "≈ fuzzy",
        "lines.0.name": NO_GROUND,
        "lines.1.name": "≈ normalised",  # and lines.0.amount is 0, which none need print
        "lines.1.amount": NO_GROUND,
    }


def test_without_a_terminal_each_field_is_one_line_in_which_nothing_is_obeyed() -> None:
    lines: list[str] = []
    board = PlainFields(lines.append)
    hostile = ANSWER | {"number": "A\x1b[2J\n1"}
    text = json.dumps(hostile)
    for end in range(len(text) + 1):
        board.show(so_far(text[:end]), "going on")
    assert lines == [
        *("number  A 1", "seller  Umbra", "lines.0.name  Cable", "lines.0.amount  0.00"),
        *("lines.1.name  Hose", "lines.1.amount  12.50"),
    ]
    board.close(so_far(text), {"number": NO_GROUND})
    assert lines[6:] == ["note  null", f"{NO_GROUND}  number"]
