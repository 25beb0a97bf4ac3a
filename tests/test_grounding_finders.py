"""Amounts, days and words are found in every usual writing, exactly where they stand, or not."""

import time
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runner.grounding.amounts import Amounts
from runner.grounding.dates import days
from runner.grounding.words import Folded, Span, alike, exact, folded

HOSTILE_CHARS = 1_000_000
HOSTILE_MAX_S = 6.0  # of a core; the slowest takes 1.3


def texts(spans: Iterable[Span], text: str) -> list[str]:
    return [text[span.start : span.end] for span in spans]


def amount(value: str, text: str) -> list[str]:
    return texts(Amounts(text).places(Decimal(value)), text)


def day(value: str, text: str) -> list[str]:
    return texts(days(text).get(date.fromisoformat(value), ()), text)


def words(value: str, text: str) -> list[str]:
    return texts(Folded(text).places(value), text)


# Amounts


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("1234.5", "net 1234.50.", "1234.50"),
        ("1234.5", "net 1,234.50 EUR", "1,234.50"),
        ("1234.5", "netto 1.234,50 €", "1.234,50"),
        ("1234.5", "(1\u202f234,5)", "1\u202f234,5"),
        ("1234.5", "Fr. 1'234.50", "1'234.50"),
        ("1234.5", "Fr. 1\u2019234.5", "1\u2019234.5"),
        ("-1234.5", "1 234,50-", "1 234,50"),
        ("900", "900,-", "900"),
        ("900", "CHF 900.\u2013", "900"),
        ("900", "900.00 gross", "900.00"),
        ("900", "900 gross", "900"),
        ("0.064", "0,0640 each", "0,0640"),
        ("1250000", "1,240,000 and 1,250,000", "1,250,000"),
        ("470900", "₹ 4,70,900.00", "4,70,900.00"),
        ("12345678.9", "1,23,45,678.90", "1,23,45,678.90"),
        ("7.5", "7½ days", "7½"),
        ("2.25", "2 ¼ thousand", "2 ¼"),
        ("0.75", "a ¾ share", "¾"),
        ("7.5", "7 1/2 days", "7 1/2"),
        ("0", "in all 0.00", "0.00"),
        ("0.5", "$.50 each", ".50"),
        ("1234.5", "\uff11\uff12\uff13\uff14.\uff15", "\uff11\uff12\uff13\uff14.\uff15"),
    ],
)
def test_an_amount_is_found_in_figures(value: str, text: str, found: str) -> None:
    assert amount(value, text) == [found]


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("2500000", "EUR 2.5 million", "2.5 million"),
        ("2500000", "2,5 Mio. €", "2,5 Mio"),
        ("2500000", "2,5 millions d'euros", "2,5 millions"),
        ("2000000", "up to £2m in all", "£2m"),
        ("250000", "USD 250k", "USD 250k"),
        ("250000", "250 Tsd. Euro", "250 Tsd"),
        ("500000", "Rs. 5 lakh", "5 lakh"),
        ("3000000000", "$3 billion", "3 billion"),
        ("250000", "Two hundred and fifty\nthousand pounds", "Two hundred and fifty\nthousand"),
        ("75000", "seventy-five thousand dollars", "seventy-five thousand"),
        ("1200345", "one million two hundred thousand three hundred and forty-five", None),
        ("1000000", "höchstens eine Million Euro", "eine Million"),
        ("250000", "zweihundertfünfzigtausend Euro", "zweihundertfünfzigtausend"),
        ("121000", "hunderteinundzwanzigtausend", "hunderteinundzwanzigtausend"),
        ("250000", "deux cent cinquante mille euros", "deux cent cinquante mille"),
        ("80000", "quatre-vingt mille", "quatre-vingt mille"),
        ("75000", "soixante-quinze mille", "soixante-quinze mille"),
        ("40", "forty pounds", "forty"),
    ],
)
def test_a_round_amount_is_found_in_words(value: str, text: str, found: str | None) -> None:
    assert amount(value, text) == [found or text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(("1234.50", near) for near in ("11234.50", "1234.51", "1,234.505", "234.50", "12.34,50")),
        *(
            ("900", near)
            for near in (
                "900\u202f000",
                "900.10",
                "1,900",
                "9000",
                "1'900",
                "1\u00a0900",
                "900'000",
            )
        ),
        ("250.5", "1'250.50"),
        ("12500", "12\n500"),  # one below the other: two columns of a table
        ("12500", "12\t500"),
        ("0.5", "10½"),
        ("0.5", "11/2026"),
        ("2000000", "a rope of 2m"),
        ("2000000", "2 millions5"),
        ("5000", "the 5 kitchens"),
        ("200", "one thousand two hundred"),
        ("5", "twenty-five"),
        ("2000", "two thousand and five"),
        ("7", "sept. 2026"),
        ("100", "fifty per cent"),
        ("1", "one and only, ein und alles"),
        ("527408", "5,27,4080"),
    ],
)
def test_a_near_amount_is_not_taken_for_the_amount(value: str, text: str) -> None:
    assert amount(value, text) == []


def test_figures_are_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.grounding.amounts.RUNS_MAX", 100)
    text = "1 " * 99 + "7.5 8.5" + " 1" * 50
    assert amount("7.5", text) == ["7.5"]
    assert amount("7", text) == amount("8.5", text) == []
    assert amount("8.5", text[4:]) == ["8.5"]


AMOUNTS = st.decimals(min_value=0, max_value=99_999_999, places=2)
WRITINGS: tuple[Callable[[Decimal], str], ...] = (
    lambda number: f"{number:.2f}",
    lambda number: f"{number:,.2f}",
    lambda number: f"{number:,.2f}".translate({44: ".", 46: ","}),
    lambda number: f"{number:,.2f}".translate({44: "\u00a0", 46: ","}),
    lambda number: f"{number:,.2f}".replace(",", "\u2019"),
)


@given(AMOUNTS, st.sampled_from(WRITINGS), st.sampled_from(["", "total ", "\n", "€", "(-"]))
def test_every_amount_is_found_where_it_is_written(
    number: Decimal, written: Callable[[Decimal], str], before: str
) -> None:
    text = f"{before}{written(number)} EUR"
    (span, *_) = Amounts(text).places(number)
    assert text[span.start : span.end] == written(number)


@given(AMOUNTS, AMOUNTS, st.sampled_from(WRITINGS))
def test_no_amount_is_found_where_another_is_written(
    wanted: Decimal, other: Decimal, written: Callable[[Decimal], str]
) -> None:
    assume(wanted != other)
    assert list(Amounts(f"total {written(other)} EUR").places(wanted)) == []


# Days


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-12",
        "2026-03-12T10:44:00Z",
        "2026/3/12",
        "20260312",
        "2026年3月12日",
        "12.03.2026",
        "12. 3. 2026",
        "12/3/26",
        "3/12/2026",
        "03-12-'26",
        "12-Mar-26",
        "12.Mar.2026",
        "12 MAR 2026",
        "Mar. 12, 2026",
        "March 12th, 2026",
        "12th day of March, 2026",
        "12. März 2026",
        "12. Mrz. 2026",
        "12 mars 2026",
        "12 de marzo de 2026",
        "12 marzo 2026",
        "12 de março de 2026",
        "12 maart 2026",
        "den 12:e mars 2026",
        "12. marts 2026",
        "12 marca 2026 r.",
        "12. března 2026",
        "12. maaliskuuta 2026",
        "12\u00a0march\n2026",
        "12 Mar '26",
        "mars 12 2026",
    ],
)
def test_a_day_is_found_in_the_writings_of_a_dozen_languages(text: str) -> None:
    (found,) = day("2026-03-12", f"Date: {text}, page 1")
    assert found in text
    assert day("2026-03-12", found) == [found]
    assert day("2025-03-12", text) == day("2026-03-13", text) == day("2026-04-12", text) == []


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("01.04.2026-31.10.2026", "2026-04-01", "2026-10-31"),
        ("2026-04-01/2026-10-31", "2026-04-01", "2026-10-31"),
        ("1.4.-31.10.2026", "2026-04-01", "2026-10-31"),
        ("1 April to 31 October 2026", "2026-04-01", "2026-10-31"),
        ("April 1st \u2013 October 31, 2026", "2026-04-01", "2026-10-31"),
        ("1 de abril a 31 de octubre de 2026", "2026-04-01", "2026-10-31"),
        ("12. bis 15. März 2026", "2026-03-12", "2026-03-15"),
        ("March 12-15, 2026", "2026-03-12", "2026-03-15"),
    ],
)
def test_both_days_of_a_span_are_found(text: str, first: str, last: str) -> None:
    assert len(day(first, text)) == len(day(last, text)) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-03-12", "12.03.20261"),
        ("2026-03-12", "112.03.2026"),
        ("2026-03-12", "2026-03-12-88, an id"),
        ("2026-03-12", "1.12.03.2026"),
        ("2026-03-12", "12 March"),
        ("2026-03-12", "12 Mar 26.50"),
        ("2026-03-12", "12 markers 2026"),
        ("2026-11-12", "12 Mar 2026"),  # marraskuuta begins so, too
        ("2026-06-12", "12 jui 2026"),
        ("2026-07-12", "12 jui 2026"),
        ("2026-03-02", "12 March 2026"),
    ],
)
def test_what_is_no_day_or_another_day_is_not_found(value: str, text: str) -> None:
    assert day(value, text) == []


def test_impossible_days_are_passed_over_and_a_number_before_a_date_hides_it_not() -> None:
    assert days("31.02.2026, 2026-13-45, 30 février 2026, 0.0.2026, 12 March 0000") == {}
    assert day("2026-02-27", "fattura n. 12 del 27 febbraio 2026") == ["27 febbraio 2026"]
    assert day("2026-03-05", "Invoice 26 of 5 March 2026") == ["5 March 2026"]


@given(
    st.dates(min_value=date(1950, 1, 1), max_value=date(2099, 12, 31)),
    st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d %B %Y", "%b %d, %Y", "%Y%m%d"]),
)
def test_every_day_is_found_where_it_is_written(when: date, form: str) -> None:
    written = when.strftime(form)
    text = f"as of {written}; 7 copies"
    assert written in day(when.isoformat(), text)


# Words


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("Acme Ltd", "sold by ACME\n  Ltd, today", "ACME\n  Ltd"),
        ("Acme Ltd", "| **Acme** Ltd |", "Acme** Ltd"),
        ("Stra\u00dfe 1", "STRASSE 1", "STRASSE 1"),
        ("STRASSE 1", "die Stra\u00dfe 1", "Stra\u00dfe 1"),
        ("Café Amélie", "Cafe\u0301 Ame\u0301lie", "Cafe\u0301 Ame\u0301lie"),
        ("Café", "im Cafe\u0301", "Cafe\u0301"),
        ("office", "the of\ufb01ce", "of\ufb01ce"),
        ("\uff21\uff23\uff2d\uff25", "acme", "acme"),
        ("INV-26-7", "INV\u201326\u20137", "INV\u201326\u20137"),
        ("O'Brien", "O\u2019Brien & Co", "O\u2019Brien"),
        ('"Salt"', "\u201eSalt\u201c", "\u201eSalt\u201c"),
        ("Durchflussmesser", "Durchfluss-\n  messer", "Durchfluss-\n  messer"),
        ("Durchflussmesser", "Durch\u00adfluss\u00ad\nmesser", "Durch\u00adfluss\u00ad\nmesser"),
        ("Jean-Paul", "Jean-\nPaul", "Jean-\nPaul"),
        ("The Co-operative", "The Co-\noperative", "The Co-\noperative"),
        ("RE-2026", "RE-\n2026", "RE-\n2026"),
        ("Acme", "A\u200bc\u2060me", "A\u200bc\u2060me"),
        ("Acme Ltd", "Acme\u200b Ltd", "Acme\u200b Ltd"),
    ],
)
def test_words_are_found_whatever_their_case_breaks_and_widths(
    value: str, text: str, found: str
) -> None:
    assert words(value, text) == [found]


@pytest.mark.parametrize(
    ("value", "text"),
    [("INV-1", "INV-10"), ("Acme", "Acmes"), ("item", "a\n- items"), ("*", "a * b"), ("", "a")],
)
def test_a_part_of_a_word_is_not_the_word(value: str, text: str) -> None:
    assert words(value, text) == []
    assert list(exact("Acme", "Acme2 xAcme Acme_")) == []


SIGN = st.sampled_from("aA\u00dfé e\u0301\ufb01-\n\u00ad\u200b½|*\u0130€1")
SIGNS = st.text(SIGN, max_size=30)
# a hyphen at the end of a line, too, belongs to what follows
ENDS = SIGN.filter(str.isalnum)
WORDS = ENDS | st.tuples(ENDS, SIGNS, ENDS).map("".join)


@given(SIGNS, WORDS, SIGNS)
def test_what_is_found_in_a_folded_text_says_what_was_looked_for(
    before: str, value: str, after: str
) -> None:
    text = f"{before} {value} {after}"
    found = texts(Folded(text).places(value, whole=False), text)
    assert found
    for one in found:
        assert folded(value).replace("-", "") in folded(one).replace("-", "")


QUOTE = "The Supplier shall keep the premises insured against fire and storm at all times"


@pytest.mark.parametrize(
    ("wanted", "text", "found"),
    [
        (QUOTE, QUOTE.replace("premises", "premisses"), True),
        (QUOTE, QUOTE.replace("premises", "goods delivered"), False),
        (QUOTE + " of 24 hours", QUOTE + " of 24 hours", True),
        (QUOTE + " of 24 hours", QUOTE + " of 25 hours", False),
        ("short words", "short wards", False),
        (QUOTE, "The Supplier", False),
        (QUOTE, " ", False),
        (QUOTE, "", False),
    ],
)
def test_only_long_prose_is_found_nearly_and_never_with_another_number(
    wanted: str, text: str, *, found: bool
) -> None:
    place = alike(wanted, Folded(text))
    assert (place is not None) is found
    assert place is None or place.end - place.start >= len(wanted) * 0.9


# Hostile texts


@pytest.mark.parametrize(
    "part", ["1.", "12 march 202 ", "12" + " " * 4_000, "a-\n", "\u0130\u0301\u200b"]
)
def test_a_million_hostile_signs_stay_fast(part: str) -> None:
    text = part * (HOSTILE_CHARS // len(part))
    begun_s = time.process_time()
    days(text)
    found = Amounts(text)
    assert list(found.places(Decimal("1111111.11"))) == []
    assert list(found.places(Decimal(2_500_000))) == []
    document = Folded(text)
    assert list(document.places("b-c-d-e and so on")) == []
    assert alike(QUOTE, document) is None
    assert time.process_time() - begun_s < HOSTILE_MAX_S


def test_a_long_run_of_blanks_is_gone_through_once() -> None:
    text = "thousand" + " " * 300_000 + "tausend- " + "a-" + " " * 300_000
    begun_s = time.process_time()
    assert amount("1000", text) == ["tausend"]
    assert amount("1001000", text) == amount("100", text) == words("a b", text) == []
    assert time.process_time() - begun_s < HOSTILE_MAX_S
