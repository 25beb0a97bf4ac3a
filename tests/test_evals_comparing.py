"""Comparing an extraction with what was expected: the outcome of each leaf, as a person sees it."""

import random
from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from runner.evals import pairing
from runner.evals.comparing import Compared, FieldOutcome, compared
from runner.evals.values import same
from runner.fields import Compare, Grounded, spec_of

MATCH, WRONG, MISSED, INVENTED, ABSENT = FieldOutcome


class Tax(BaseModel):
    """A tax of one line."""

    rate: Decimal
    code: Annotated[str | None, Compare.ID] = None


class Line(BaseModel):
    """A line of an order."""

    description: str
    amount: Decimal
    taxes: list[Tax] = []


class Address(BaseModel):
    """Where someone lives."""

    street: str | None = None
    city: str | None = None


class Order(BaseModel):
    """One field of each kind."""

    number: Grounded[Annotated[str, Compare.ID]]
    name: str
    day: date | None = None
    paid: bool | None = None
    summary: Annotated[str | None, Compare.PROSE] = None
    address: Address | None = None
    parties: list[str] | None = None
    lines: list[Line] | None = None


class Part(BaseModel):
    """A part that is made of parts."""

    name: str
    parts: list["Part"] = []


class Duty(BaseModel):
    """Who is bound to what."""

    party: str
    what: Annotated[str, Compare.PROSE]


class Contract(BaseModel):
    """Duties alone."""

    duties: list[Duty]


SPEC = spec_of(Order)


def outcomes(expected: Any, got: Any) -> dict[str, FieldOutcome]:
    """By place; only what is not absent on both sides."""
    found = compared(SPEC, expected=expected, got=got)
    return {leaf.place: leaf.outcome for leaf in found if leaf.outcome is not ABSENT}


def tallied(found: tuple[Compared, ...]) -> Counter[tuple[str, FieldOutcome]]:
    return Counter((leaf.field, leaf.outcome) for leaf in found)


@pytest.mark.parametrize(
    ("compare", "one", "other"),
    [
        (Compare.TEXT, "Müller & Söhne", "MÜLLER  &\nSÖHNE"),
        (Compare.TEXT, "O\u2019Brien \u2013 \u201cthe\u201d shop", 'O\'Brien - "the" shop'),
        (Compare.TEXT, "Cafe\u0301", "Café"),
        (Compare.TEXT, "\uff21\uff22\uff23 \uff11\uff12", "abc 12"),
        (Compare.ID, "INV-2026/001", "inv 2026 001"),
        (Compare.ID, 4711, "4711"),
        (Compare.AMOUNT, "1234.50", 1234.5),
        (Compare.AMOUNT, "10.004", 10),
        (Compare.AMOUNT, -0.0, "0.00"),
        (Compare.AMOUNT, "1e3", 1000),
        (Compare.AMOUNT, "1e-999999", "1e-999999"),
        (Compare.DATE, "2026-03-01", "2026-03-01T00:00:00Z"),
        (Compare.DATE, "20260301", "2026-03-01"),
        (Compare.CHOICE, True, True),
        (Compare.CHOICE, 1, 1.0),
        (Compare.CHOICE, {"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
    ],
)
def test_values_that_mean_the_same_are_the_same(compare: Compare, one: Any, other: Any) -> None:
    assert same(compare, one, other)
    assert same(compare, other, one)


@pytest.mark.parametrize(
    ("compare", "one", "other"),
    [
        (Compare.TEXT, "Acme Ltd", "Acme Inc"),
        (Compare.TEXT, "12-34", "1234"),
        (Compare.ID, "INV-001", "INV-01"),
        (Compare.AMOUNT, "10.00", "10.01"),
        (Compare.AMOUNT, 100, -100),
        (Compare.AMOUNT, "0.0012", "0.0013"),
        (Compare.AMOUNT, "0.004", "0"),
        (Compare.AMOUNT, "12 pieces", "13 pieces"),
        (Compare.AMOUNT, "1e999999999", "2e999999999"),
        (Compare.DATE, "2026-03-01", "2026-01-03"),
        (Compare.DATE, "soon", "later"),
        (Compare.CHOICE, True, 1),
        (Compare.CHOICE, "EUR", "eur"),
    ],
)
def test_values_that_mean_something_else_differ(compare: Compare, one: Any, other: Any) -> None:
    assert not same(compare, one, other)
    assert not same(compare, other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "The customer was charged twice for order 123 and wants a refund.",
            "Customer reports a double charge on order 123 and asks for a refund.",
        ),
        (
            "The customer's blender stopped working after two weeks.",
            "The blender the customer bought stopped working after two weeks.",
        ),
        (
            "Service was down for three hours on Monday.",
            "The web shop was unreachable for three hours on Monday, says the customer.",
        ),
        ("Refund the second charge.", "Refund the duplicate charge."),
        (
            "The Provider shall keep all information confidential for five years.",
            "Provider must keep confidential all information of the Client for five years.",
        ),
        ("Send a replacement.", "Send a replacement unit and a return label."),
        (
            "Customer cannot log in since the update.",
            "The customer is unable to log in after the latest update.",
        ),
    ],
)
def test_prose_may_be_worded_anew(one: str, other: str) -> None:
    assert same(Compare.PROSE, one, other)
    assert same(Compare.PROSE, other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Refund the second charge.", "Replace the broken blender."),
        (
            "The Provider shall keep all information confidential.",
            "The Client shall pay all invoices within 30 days.",
        ),
        (
            "The customer was charged twice for order 123 and wants a refund.",
            "The parcel for order 88 arrived damaged and the customer wants a new one.",
        ),
        ("The customer wants a refund of the price.", "The customer cannot open the app."),
        ("The Client pays within 30 days.", "The Client pays within 60 days."),
        ("请退还第二笔费用", "请更换损坏的搅拌机"),
    ],
)
def test_prose_that_says_something_else_differs(one: str, other: str) -> None:
    assert not same(Compare.PROSE, one, other)
    assert not same(Compare.PROSE, other, one)


def test_every_leaf_has_one_of_five_outcomes() -> None:
    expected = {"number": "A-1", "name": "Ann", "day": "2026-03-01", "paid": None}
    got = {"number": "a1", "name": "Bob", "day": None, "paid": False, "summary": " "}
    assert outcomes(expected, got) == {
        "number": MATCH,
        "name": WRONG,
        "day": MISSED,
        "paid": INVENTED,
    }
    fields = [leaf.field for leaf in compared(SPEC, expected=expected, got=got)]
    assert fields == [
        *("number", "name", "day", "paid", "summary", "address.street", "address.city"),
        *("parties[]", "lines[].description", "lines[].amount", "lines[].taxes[].rate"),
        "lines[].taxes[].code",
    ]


def test_a_leaf_shows_what_was_expected_and_what_was_given() -> None:
    found = compared(SPEC, expected={"lines": [{"amount": "5.00"}]}, got={"lines": [{"amount": 7}]})
    wrong = next(leaf for leaf in found if leaf.outcome is not ABSENT)
    # the two lines have nothing in common: one is missed, the other invented
    assert (wrong.field, wrong.place, wrong.expected, wrong.got) == (
        *("lines[].amount", "lines[0].amount"),
        *("5.00", None),
    )


def test_an_object_that_is_null_lacks_every_part() -> None:
    home = {"address": {"street": "High Street 1", "city": None}}
    assert outcomes(home, {"address": None}) == {"address.street": MISSED}
    assert outcomes({"address": None}, home) == {"address.street": INVENTED}


def test_a_document_without_a_record_misses_every_value() -> None:
    expected = {"number": "A-1", "day": None, "lines": [{"description": "Tea", "amount": None}]}
    found = compared(SPEC, expected=expected, got=None)
    assert {leaf.outcome for leaf in found} == {MISSED, ABSENT}
    assert [leaf.place for leaf in found if leaf.outcome is MISSED] == [
        "number",
        "lines[0].description",
    ]


def line(description: str, amount: Any, *taxes: Any) -> dict[str, Any]:
    return {"description": description, "amount": amount, "taxes": [{"rate": t} for t in taxes]}


def test_rows_are_paired_by_what_they_say_and_not_by_their_place() -> None:
    expected = {"lines": [line("Tea", 3), line("Coffee", 5), line("Milk", 2)]}
    got = {"lines": [line("coffee", "5.00"), line("Milk", 7), line("Tea", 3)]}
    assert outcomes(expected, got) == {
        **dict.fromkeys(("lines[0].description", "lines[0].amount"), MATCH),
        **dict.fromkeys(("lines[1].description", "lines[1].amount"), MATCH),
        "lines[2].description": MATCH,
        "lines[2].amount": WRONG,
    }


def test_pairs_are_the_best_for_all_rows_together() -> None:
    # the first expected line alone would take the second line given, and leave the other without
    expected = {"lines": [line("Green tea", 3), line("Green tea, organic", 3)]}
    got = {"lines": [line("Green tea, organi", 3), line("Green tea bag", 3)]}
    found = compared(SPEC, expected=expected, got=got)
    assert [(leaf.expected, leaf.got) for leaf in found if leaf.outcome is WRONG] == [
        ("Green tea", "Green tea bag"),
        ("Green tea, organic", "Green tea, organi"),
    ]


def test_an_equal_value_outweighs_two_that_are_merely_alike() -> None:
    expected = {"lines": [line("Tea, box of 20", 100)]}
    got = {"lines": [line("Tea, box of 25", 110), line("Black tea", 100)]}
    assert outcomes(expected, got)["lines[0].amount"] is MATCH


def test_prose_that_says_the_same_pairs_rows() -> None:
    said = "The Provider shall keep all information confidential for five years."
    anew = "Provider must keep confidential all information of the Client for five years."
    expected = {"duties": [{"party": "Acme Ltd", "what": said}]}
    got = {
        "duties": [
            {"party": "Acme Ltd", "what": "Invoices are due at once."},
            {"party": "Acme Inc", "what": anew},
        ]
    }
    found = compared(spec_of(Contract), expected=expected, got=got)
    assert [leaf.outcome for leaf in found] == [WRONG, MATCH, INVENTED, INVENTED]


def test_rows_within_rows_are_alike_in_any_order() -> None:
    expected = {"lines": [line("Tea", 3, 1111, 2222), line("Tea", 3, 2222, 3333)]}
    got = {"lines": [line("Tea", 3, 3333, 2222), line("Tea", 3, 2222, 1111)]}
    assert set(outcomes(expected, got).values()) == {MATCH}


def test_of_equally_good_partners_the_order_of_rows_does_not_choose() -> None:
    one, others = {"lines": [line("Tea", 1)]}, [line("Tea", 2), line("Milk", 1)]
    ways = [{"lines": others}, {"lines": others[::-1]}]
    given, turned = (tallied(compared(SPEC, expected=one, got=way)) for way in ways)
    assert given == turned
    given, turned = (tallied(compared(SPEC, expected=way, got=one)) for way in ways)
    assert given == turned


def test_rows_without_a_partner_are_missed_or_invented_in_what_they_have() -> None:
    tea, coffee = line("Tea", 3), line("Coffee", None, 19)
    assert outcomes({"lines": [tea, coffee]}, {"lines": [tea]}) == {
        **dict.fromkeys(("lines[0].description", "lines[0].amount"), MATCH),
        **dict.fromkeys(("lines[1].description", "lines[1].taxes[0].rate"), MISSED),
    }
    assert outcomes({"lines": [tea]}, {"lines": [tea, coffee]}) == {
        **dict.fromkeys(("lines[0].description", "lines[0].amount"), MATCH),
        **dict.fromkeys(("lines[+1].description", "lines[+1].taxes[+0].rate"), INVENTED),
    }


def test_what_an_invented_row_leaves_empty_is_no_merit() -> None:
    given = {"lines": [line("Coffee", None)]}
    found = compared(SPEC, expected={"lines": []}, got=given)
    of_lines = [leaf.outcome for leaf in found if leaf.field.startswith("lines")]
    assert of_lines == [INVENTED]


def test_a_list_of_scalars_is_paired_too() -> None:
    expected = {"parties": ["Acme Ltd", "Müller GmbH", "Third Party"]}
    got = {"parties": ["MÜLLER GMBH", "Acme Limited", "Someone Else"]}
    found = compared(SPEC, expected=expected, got=got)
    shown = [(leaf.place, leaf.outcome) for leaf in found if leaf.field == "parties[]"]
    assert shown == [
        ("parties[0]", WRONG),  # a misread Acme
        ("parties[1]", MATCH),
        ("parties[2]", MISSED),
        ("parties[+2]", INVENTED),
    ]


def test_more_rows_than_can_be_weighed_are_paired_where_they_are_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairing, "CELLS_MAX", 3)
    expected, got = {"parties": ["Acme", "Tea", "Milk"]}, {"parties": ["Teas", "Milks", "acme"]}
    shown = [leaf.outcome for leaf in compared(SPEC, expected=expected, got=got)]
    assert [shown.count(outcome) for outcome in (MATCH, WRONG, MISSED, INVENTED)] == [1, 0, 2, 2]
    monkeypatch.setattr(pairing, "CELLS_MAX", 4)
    shown = [leaf.outcome for leaf in compared(SPEC, expected=expected, got=got)]
    assert [shown.count(outcome) for outcome in (MATCH, WRONG, MISSED, INVENTED)] == [1, 2, 0, 0]


def test_a_null_list_is_an_empty_list() -> None:
    assert compared(SPEC, expected={"lines": None}, got={"lines": []})[-1].outcome is ABSENT
    assert outcomes({"lines": [], "parties": None}, {"lines": None, "parties": []}) == {}


def test_what_the_schema_does_not_describe_is_compared_as_it_stands() -> None:
    spec = spec_of(Part)
    inner = {"name": "b", "parts": [{"name": "c"}]}
    found = compared(spec, expected={"name": "a", "parts": [inner]}, got={"name": "a", "more": 1})
    assert [(leaf.field, leaf.outcome) for leaf in found] == [
        ("name", MATCH),
        ("parts[].name", MISSED),
        ("parts[].parts", MISSED),
        ("more", INVENTED),
    ]
    odd = compared(SPEC, expected={"address": "High Street"}, got={"address": {"city": "Bath"}})
    assert {leaf.place: leaf.outcome for leaf in odd}["address"] is WRONG


# Properties

texts = st.sampled_from(["Tea", "tea ", "Green tea", "Coffee", "", "Käse", "A-1", "a 1", "(*)"])
amounts = st.sampled_from([None, 0, 1, "1.00", 1.004, 12.5, "12.5", -3])
taxes = st.fixed_dictionaries({"rate": amounts}, optional={"code": st.none() | texts})
lines = st.fixed_dictionaries(
    {"description": texts, "amount": amounts}, optional={"taxes": st.lists(taxes, max_size=3)}
)
orders = st.fixed_dictionaries(
    {},
    optional={
        "number": texts,
        "name": texts,
        "day": st.none() | st.dates().map(date.isoformat),
        "paid": st.none() | st.booleans(),
        "summary": st.none() | st.lists(texts, max_size=6).map(" ".join),
        "address": st.none() | st.fixed_dictionaries({"street": st.none() | texts}),
        "parties": st.none() | st.lists(st.none() | texts, max_size=5),
        "lines": st.none() | st.lists(lines, max_size=5),
    },
)


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same data with every list in another order."""
    if isinstance(value, dict):
        return {name: shuffled(part, rng) for name, part in value.items()}
    if isinstance(value, list):
        return [shuffled(one, rng) for one in rng.sample(value, len(value))]
    return value


@given(orders, st.randoms(use_true_random=False))
def test_data_is_right_in_every_leaf_beside_itself_in_any_order(
    order: Any, rng: random.Random
) -> None:
    found = compared(SPEC, expected=order, got=shuffled(order, rng))
    assert all(leaf.is_right for leaf in found)
    assert tallied(found) == tallied(compared(SPEC, expected=order, got=order))


@settings(max_examples=200)
@given(orders, orders, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_tally(expected: Any, got: Any, rng: random.Random) -> None:
    usual = tallied(compared(SPEC, expected=expected, got=got))
    other = compared(SPEC, expected=shuffled(expected, rng), got=shuffled(got, rng))
    assert tallied(other) == usual
    assert len({leaf.place for leaf in other}) == len(other)


@given(orders, orders)
def test_whichever_side_is_expected_the_same_leaves_match(one: Any, other: Any) -> None:
    # lists are left out: of equally good pairs, either side may prefer others
    one, other = ({**order, "lines": None, "parties": None} for order in (one, other))
    forth, back = (
        tallied(compared(SPEC, expected=a, got=b)) for a, b in ((one, other), (other, one))
    )
    turned = {MISSED: INVENTED, INVENTED: MISSED}
    assert forth == Counter({(name, turned.get(how, how)): n for (name, how), n in back.items()})


@given(orders)
def test_nothing_given_is_never_right_and_never_invented(order: Any) -> None:
    found = compared(SPEC, expected=order, got=None)
    assert {leaf.outcome for leaf in found} <= {MISSED, ABSENT}
