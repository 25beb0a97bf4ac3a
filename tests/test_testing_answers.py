"""The provider fills any JSON schema from labels, tables and lists, and never leaves a gap."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.testing.answers import answer_document, compile_schema
from runner.testing.page import iso_date, number_text


def answer(text: str, **properties: Any) -> Any:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return answer_document(text, compile_schema(schema))


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("1,234.50 EUR", "1234.50"),
        ("EUR 1.234,50", "1234.50"),
        ("1 234 567,8", "1234567.8"),
        ("-12", "-12"),
        ("(3.50)", "-3.50"),
        ("1,234", "1234"),
        ("12,5 %", "12.5"),
        ("1.000.000", "1000000"),
        ("none at all", None),
    ],
)
def test_numbers_are_read_as_people_write_them(raw: str, plain: str | None) -> None:
    assert number_text(raw) == plain


@given(st.integers(-(10**12), 10**12))
def test_a_grouped_amount_reads_back_as_itself(cents: int) -> None:
    text = f"{abs(cents) // 100:,}.{abs(cents) % 100:02d}"
    plain = number_text(f"-{text}" if cents < 0 else text)
    assert plain is not None
    assert round(float(plain) * 100) == cents


@pytest.mark.parametrize(
    "raw",
    ["2026-03-09", "9 March 2026", "March 9, 2026", "9th Mar 2026", "09.03.2026", "09/03/2026"],
)
def test_dates_of_every_kind_become_iso(raw: str) -> None:
    assert iso_date(f"on {raw} at noon") == "2026-03-09"


@given(st.dates())
def test_every_written_date_reads_back(day: Any) -> None:
    year = f"{day.year:04d}"
    assert iso_date(f"{day.day} {day:%B} {year}") == day.isoformat()
    assert iso_date(f"{day:%B} {day.day}, {year}") == day.isoformat()


def test_labels_match_names_and_titles_in_any_style() -> None:
    text = "Order number: A-1\n**Ship To:** Bonn\n| Grand total | 1,5 |\nPaid: yes\nOrder number: B"
    assert answer(
        text,
        order_number={"type": "string"},
        destination={"type": "string", "title": "Ship to"},
        grand_total={"type": "number"},
        paid={"type": "boolean"},
    ) == {"order_number": "A-1", "destination": "Bonn", "grand_total": 1.5, "paid": True}


def test_nested_objects_are_found_under_their_parents_name() -> None:
    schema = {
        "type": "object",
        "properties": {
            "supplier": {"$ref": "#/$defs/Party"},
            "customer": {"anyOf": [{"$ref": "#/$defs/Party"}, {"type": "null"}]},
            "agent": {"anyOf": [{"$ref": "#/$defs/Party"}, {"type": "null"}]},
        },
        "$defs": {"Party": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    text = "Supplier city: Lyon\nCustomer city: Leeds"
    assert answer_document(text, compile_schema(schema)) == {
        "supplier": {"city": "Lyon"},
        "customer": {"city": "Leeds"},
        "agent": None,
    }


def test_the_table_whose_columns_match_becomes_the_list() -> None:
    row = {
        "type": "object",
        "properties": {"unit_price": {"type": "number"}, "name": {"type": ["string", "null"]}},
    }
    text = (
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "| Name | Unit price |\n|:--|--:|\n| x | 1,000.5 |\n| - | 2 |"
    )
    assert answer(text, rows={"type": "array", "items": row}) == {
        "rows": [{"unit_price": 1000.5, "name": "x"}, {"unit_price": 2, "name": None}]
    }


def test_columns_of_blanks_and_two_labels_on_a_line_are_read_too() -> None:
    row = {"type": "object", "properties": {"n": {"type": "integer"}, "cost": {"type": "number"}}}
    text = (
        "Code:   A 7      Datum / Day:  1 May 2026\n\n"
        "Thing       N     Cost\n----------------------\nLarge nut   2   1,000.5\nBolt   3   4\n---"
    )
    assert answer(
        text,
        code={"type": "string"},
        day={"type": "string", "format": "date"},
        rows={"type": "array", "items": row},
    ) == {
        "code": "A 7",
        "day": "2026-05-01",
        "rows": [{"n": 2, "cost": 1000.5}, {"n": 3, "cost": 4}],
    }


def test_lists_of_texts_come_from_bullets_semicolons_or_commas() -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    text = "Tags: red; dark, blue\nNames: Ann, Bob\nItems:\n- one; two\n- three\n\nEnd"
    assert answer(text, tags=texts, names=texts, items=texts, others=texts) == {
        "tags": ["red", "dark, blue"],
        "names": ["Ann", "Bob"],
        "items": ["one", "two", "three"],
        "others": [],
    }


def test_a_quoted_value_carries_the_verbatim_text_it_stands_in() -> None:
    quoted = {
        "type": "object",
        "properties": {"value": {"type": "number"}, "quote": {"type": "string"}},
    }
    cell = {"type": "object", "properties": {"price": quoted}}
    text = "**Total**: 1,200.00 EUR\n\n| price |\n|---|\n| 3.00 |"
    found = answer(
        text,
        total=quoted,
        tip={"anyOf": [quoted, {"type": "null"}]},
        rows={"type": "array", "items": cell},
    )
    assert found == {
        "total": {"value": 1200.0, "quote": "**Total**: 1,200.00 EUR"},
        "tip": None,
        "rows": [{"price": {"value": 3.0, "quote": "3.00"}}],
    }


def test_what_is_not_said_is_null_or_a_filler_of_the_right_type() -> None:
    found = answer(
        "We ship by sea.",
        port={"type": ["string", "null"]},
        way={"enum": ["air", "sea"]},
        count={"type": "integer", "minimum": 3},
        day={"type": "string", "format": "date"},
        code={"type": "string", "pattern": "^[A-Z]{3}$"},
        sure={"type": "boolean"},
        note={"type": "string"},
    )
    assert found == {
        "port": None,
        "way": "sea",
        "count": 3,
        "day": "1970-01-01",
        "code": "XXX",
        "sure": False,
        "note": "not stated",
    }


def test_an_enum_takes_the_choice_the_label_names() -> None:
    assert answer("Way: by AIR", way={"enum": ["sea", "air"]}) == {"way": "air"}


def test_a_schema_that_contains_itself_ends() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
    }
    assert "x" in json.dumps(answer_document("Name: x", compile_schema(schema)))
