"""What a schema marks is looked for in the document; without ground it is an error of its field."""

import time
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from runner.fields import Compare, Grounded, Stated, spec_of
from runner.grounding import Ground, ground
from runner.grounding.evidence import MISSES_MAX
from runner.model import Evidence, How


class Colour(Enum):
    """A value that a document words itself."""

    RED = "red"


class Line(BaseModel):
    """An element of a list."""

    name: Annotated[str, Stated()]
    pieces: Annotated[int, Stated(unless=(1,))] = 1


class Note(BaseModel):
    """The schema under test."""

    number: Annotated[str | None, Compare.ID, Stated()] = None
    buyer: Annotated[str | None, Stated()] = None
    day: Annotated[date | None, Stated()] = None
    sent: Annotated[datetime | None, Stated()] = None
    total: Annotated[Decimal | None, Stated(unless=(0,))] = None
    coin: Annotated[str | None, Stated(written={"EUR": ("€", "Euro"), "GBP": ("£", "pound")})] = (
        None
    )
    story: Annotated[str | None, Compare.PROSE, Stated()] = None
    colour: Annotated[Colour | None, Stated(written={"red": ("rot", "rouge")})] = None
    lines: list[Line] = []
    tags: list[Annotated[str, Stated()]] = []
    guess: str | None = None  # not marked: the model may word it as it likes


class Quoting(BaseModel):
    """A schema whose model quotes the document."""

    total: Grounded[Decimal] | None = None
    day: Grounded[date] | None = None
    number: Annotated[Grounded[str], Compare.ID] | None = None
    duty: Annotated[Grounded[str], Compare.PROSE] | None = None
    kind: Grounded[Literal["goods", "services"]] | None = None
    lines: list[Grounded[Line]] = []


TEXT = """\
Order RX-07/118 of 5 March 2026, for Brennan & Söhne GmbH

Bolt M8        40     12,50 €
Washer          1      0,75 €
Total                 1.250,00 €

The Supplier shall keep the premises insured against fire and storm at all times.
"""


def found_in(text: str, note: Any, *, schema: type[BaseModel] = Note, **options: bool) -> Ground:
    return ground(spec_of(schema), schema.model_validate(note).model_dump(), text, **options)


def lacking(text: str, note: Any, *, schema: type[BaseModel] = Note, **options: bool) -> list[str]:
    return [error.path for error in found_in(text, note, schema=schema, **options).errors]


def placed(text: str, note: Any, *, schema: type[BaseModel] = Note) -> dict[str, tuple[str, How]]:
    """The words at each value's place; every value must have one."""
    found = found_in(text, note, schema=schema)
    assert found.errors == ()
    return {one.path: (text[one.start : one.end], one.how) for one in found.evidence}


# Stated values


def test_each_stated_value_is_shown_exactly_where_it_stands() -> None:
    note = {
        "number": "RX-07/118",
        "buyer": "BRENNAN & SÖHNE GmbH",
        "day": "2026-03-05",
        "sent": "2026-03-05T11:00:00",
        "total": "1250",
        "coin": "EUR",
        "lines": [{"name": "Bolt M8", "pieces": 40}, {"name": "Washer"}],
        "tags": ["storm", "fire"],
    }
    assert placed(TEXT, note) == {
        "number": ("RX-07/118", How.EXACT),
        "buyer": ("Brennan & Söhne GmbH", How.NORMALISED),
        "day": ("5 March 2026", How.EXACT),
        "sent": ("5 March 2026", How.EXACT),
        "total": ("1.250,00", How.EXACT),
        "coin": ("€", How.NORMALISED),
        "lines.0.name": ("Bolt M8", How.EXACT),
        "lines.0.pieces": ("40", How.EXACT),
        "lines.1.name": ("Washer", How.EXACT),
        "tags.0": ("storm", How.EXACT),
        "tags.1": ("fire", How.EXACT),
    }


@pytest.mark.parametrize(
    "invented",
    [
        {"number": "RX-07/119"},
        {"number": "RX-07/11"},
        {"buyer": "Brennan & Sohn GmbH"},
        {"day": "2026-03-06"},
        {"day": "2025-03-05"},
        {"total": "1250.01"},
        {"total": "125"},
        {"total": "-1251"},
        {"coin": "USD"},
        {"coin": "GBP"},
        {"story": "The Supplier shall keep the animals fed"},
        {"colour": "red"},
    ],
)
def test_an_invented_value_is_an_error_of_its_field(invented: dict[str, str]) -> None:
    (path,) = invented
    found = found_in(TEXT, invented)
    assert [error.path for error in found.errors] == [path]
    assert found.evidence == ()
    assert "does not occur in the document" in found.errors[0].message


def test_an_invented_value_of_a_list_is_named_by_its_place() -> None:
    lines = [{"name": "Bolt M8", "pieces": 41}, {"name": "Nail"}]
    assert lacking(TEXT, {"lines": lines, "tags": ["fire", "flood"]}) == [
        "lines.0.pieces",
        "lines.1.name",
        "tags.1",
    ]


def test_absent_unmarked_and_excepted_values_need_no_ground() -> None:
    assert found_in("nothing here", {"guess": "what it is about", "total": 0}) == Ground((), ())
    assert lacking("Washer", {"lines": [{"name": "Washer", "pieces": 1}]}) == []
    assert lacking("Washer", {"lines": [{"name": "Washer", "pieces": 2}]}) == ["lines.0.pieces"]


@pytest.mark.parametrize(
    ("note", "text", "where"),
    [
        ({"coin": "EUR"}, "5€", "€"),
        ({"coin": "EUR"}, "in EUR", "EUR"),
        ({"coin": "EUR"}, "fünf Euro", "Euro"),
        ({"coin": "GBP"}, "one pound", "pound"),
        ({"coin": "GBP"}, "£5", "£"),
        ({"colour": "red"}, "rot lackiert", "rot"),
    ],
)
def test_a_value_may_be_written_as_its_field_says(note: Any, text: str, where: str) -> None:
    assert [words for words, _ in placed(text, note).values()] == [where]


@pytest.mark.parametrize("text", ["Eurostar", "EURO", "compounds", "verrotten"])
def test_a_writing_stands_as_a_whole_word(text: str) -> None:
    assert lacking(text, {"coin": "EUR"}) == lacking(text, {"coin": "GBP"}) == ["coin"]
    assert lacking(text, {"colour": "red"}) == ["colour"]


def test_only_prose_is_found_nearly() -> None:
    near = "The Supplier shall keep the premisses insured against fire and storm at all times."
    ((words, how),) = placed(TEXT, {"story": near}).values()
    assert (how, near[:12] in words) == (How.FUZZY, True)
    assert lacking(TEXT, {"buyer": near, "number": near}) == ["number", "buyer"]
    assert lacking(TEXT + " 24 hours", {"story": f"{near} 25 hours"}) == ["story"]


def test_of_several_places_the_line_that_names_the_field_is_taken() -> None:
    text = "2 pieces at 20.00\nTotal 20.00\nPaid 20.00\n"
    (evidence,) = found_in(text, {"total": "20"}).evidence
    assert evidence == Evidence("total", text.index("20.00\nPaid"), text.index("\nPaid"), How.EXACT)


def test_a_long_value_is_shown_short() -> None:
    (error,) = found_in("nothing", {"buyer": "x" * 5_000}).errors
    assert len(error.message) < 250
    assert "…" in error.message


# Values with quotes


@pytest.mark.parametrize(
    ("field", "quote", "value", "how"),
    [
        ("total", "Total                 1.250,00 €", "1250", How.EXACT),
        ("total", "total 1.250,00", "1250.00", How.NORMALISED),
        ("day", "of 5 March 2026", "2026-03-05", How.EXACT),
        ("number", "Order RX-07/118", "RX-07/118", How.EXACT),
        ("kind", "Bolt M8", "goods", How.EXACT),
        (
            "duty",
            "The Supplier shall keep the premisses insured against fire and storm at all times.",
            "Keep it insured.",
            How.FUZZY,
        ),
    ],
)
def test_a_quote_is_the_ground_of_its_value(field: str, quote: str, value: str, how: How) -> None:
    ((words, found),) = placed(
        TEXT, {field: {"quote": quote, "value": value}}, schema=Quoting
    ).values()
    assert found is how
    assert how is How.FUZZY or words.split() == [
        word for word in words.split() if word.casefold() in quote.casefold()
    ]


@pytest.mark.parametrize(
    ("field", "quote", "value", "lack"),
    [
        ("total", "Total 1.251,00 €", "1251", "is not in the document"),
        ("total", "Total", "1250", "does not follow from its quote"),
        ("total", "1.250,00 €", "12.5", "does not follow from its quote"),
        ("day", "5 March 2026", "2026-03-06", "does not follow from its quote"),
        ("day", "5 Marsh 2026", "2026-03-05", "is not in the document"),
        ("number", "RX-07/118", "RX-07/11", "does not follow from its quote"),
        ("number", "Order RX 07/118 of 5 March 2026, for Brennan", "RX", "is not in the document"),
        ("duty", "The Supplier shall feed the cat", "Feed the cat.", "is not in the document"),
        ("kind", "", "goods", "no quote is given"),
        ("kind", "   ", "goods", "no quote is given"),
    ],
)
def test_a_quote_must_be_there_and_say_its_value(
    field: str, quote: str, value: str, lack: str
) -> None:
    (error,) = found_in(TEXT, {field: {"quote": quote, "value": value}}, schema=Quoting).errors
    assert error.path == field
    assert lack in error.message


def test_what_a_person_wrote_needs_no_quote_and_is_found_or_believed() -> None:
    written = {"total": "1250", "kind": "goods", "lines": [{"name": "Bolt", "pieces": 2}]}
    assert lacking(TEXT, written, schema=Quoting) == ["total", "kind", "lines.0"]
    assert lacking(TEXT, written, schema=Quoting, bare=True) == []
    assert lacking(TEXT, {"total": "1251"}, schema=Quoting, bare=True) == ["total"]


def test_a_quote_covers_all_parts_of_its_value() -> None:
    row = {"quote": "Bolt M8        40     12,50 €", "value": {"name": "Bolt M8", "pieces": 40}}
    assert placed(TEXT, {"lines": [row]}, schema=Quoting) == {"lines.0": (row["quote"], How.EXACT)}


# Whatever the data


LETTER = st.sampled_from("abcäßé")
NAMES = LETTER | st.tuples(LETTER, st.text(st.sampled_from("abcäßé-' "), max_size=10), LETTER).map(
    "".join
)


@given(
    st.lists(st.tuples(NAMES, st.integers(2, 10**9)), min_size=1, max_size=6),
    st.dates(min_value=date(1980, 1, 1), max_value=date(2090, 1, 1)),
)
def test_a_document_that_states_everything_gives_ground_to_everything(
    rows: list[tuple[str, int]], day: date
) -> None:
    table = "\n".join(f"| {name} | {pieces:,} |" for name, pieces in rows)
    text = f"Day: {day:%d %B %Y}\n{table}\n"
    lines = [{"name": name, "pieces": pieces} for name, pieces in rows]
    found = placed(text, {"day": day, "lines": lines})
    for place, (name, pieces) in enumerate(rows):
        words, _ = found[f"lines.{place}.name"]
        figures, _ = found[f"lines.{place}.pieces"]
        assert " ".join(words.split()).casefold() == " ".join(name.split()).casefold()
        assert figures.replace(",", "") == str(pieces)


def test_a_long_list_invented_for_a_long_document_is_given_up_soon() -> None:
    text = "| 1.250,00 | bolt 12 March 2026 |\n" * 30_000
    lines = [{"name": f"Nail {place}", "pieces": 10**6 + place} for place in range(500)]
    begun_s = time.process_time()
    paths = lacking(text, {"lines": lines})
    assert time.process_time() - begun_s < 6  # of a core; it takes 0.8
    assert len(paths) == MISSES_MAX
