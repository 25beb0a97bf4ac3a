"""The book's arithmetic is exact, and what it writes reads back."""

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.testing import Entry, Prices, Summary, Tokens
from runner.testing.book import Book

PRICE = st.decimals("0", "999.999999", places=6).map(str)
COUNT = st.integers(0, 10**6)


@given(st.tuples(PRICE, PRICE, PRICE), st.tuples(COUNT, COUNT, COUNT))
def test_cost_is_the_exact_sum_rounded_half_to_even(
    usd: tuple[str, str, str], counts: tuple[int, int, int]
) -> None:
    (price_in, price_cached, price_out), (uncached, cached, out) = usd, counts
    prices = Prices.per_mtok(input_usd=price_in, cached_usd=price_cached, output_usd=price_out)
    tokens = Tokens(prompt=uncached + cached, cached=cached, completion=out)
    exact_nusd = 1000 * (
        uncached * Decimal(price_in) + cached * Decimal(price_cached) + out * Decimal(price_out)
    )
    assert prices.cost_nusd(tokens) == int(exact_nusd.quantize(Decimal(1), ROUND_HALF_EVEN))


@pytest.mark.parametrize(("tokens", "nusd"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_a_half_nano_dollar_goes_to_the_even_neighbour(tokens: int, nusd: int) -> None:
    assert Prices.per_mtok(input_usd="0.0005").cost_nusd(Tokens(prompt=tokens)) == nusd


def test_cached_tokens_cost_what_input_costs_unless_a_price_is_given() -> None:
    tokens = Tokens(prompt=100, cached=60)
    assert Prices.per_mtok(input_usd="2").cost_nusd(tokens) == 200_000
    assert Prices.per_mtok(input_usd="2", cached_usd="0").cost_nusd(tokens) == 80_000


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        Prices.per_mtok(output_usd="-1")


def test_entries_and_their_sums_read_back(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    book = Book(path=path)
    first = Entry(seq=1, received_s=1.5, document_key="d", paid=True, cost_nusd=7, usage_sent=True)
    again = replace(first, seq=2, fault="hang")
    refused = Entry(seq=3, received_s=2.0, status=401)
    for entry in (first, again, refused):
        book.open(entry)
    assert book.summary().in_flight == 3
    book.begin(1, begun_s=1.75)
    book.finish(1, finished_s=2.0, answered=True)
    book.finish(2, finished_s=3.0, answered=False)
    book.close()
    written = [Entry.from_json(line) for line in path.read_text().splitlines()]
    assert written == list(book.entries())[:2]
    assert [entry.usage_sent for entry in written] == [True, False]
    assert [entry.begun_s for entry in written] == [1.75, None]
    summary = Summary.from_json(book.summary().to_json())
    assert summary == book.summary()
    assert (summary.requests, summary.in_flight, summary.cost_nusd) == (3, 1, 14)
    assert (summary.documents, summary.paid, summary.repeated_paid) == (1, 2, 1)
    assert (dict(summary.by_status), dict(summary.by_fault)) == ({"none": 2, "401": 1}, {"hang": 1})


def test_a_cleared_entry_stays_away_when_its_call_ends() -> None:
    book = Book()
    entry = Entry(seq=1, received_s=0.0)
    book.open(entry)
    book.clear()
    book.wait(1)
    book.begin(1, begun_s=0.5)
    book.finish(1, finished_s=1.0, answered=True)
    assert book.summary() == Summary()


def test_the_sums_tell_the_span_of_a_run_what_was_let_in_and_the_longest_line() -> None:
    book = Book()
    for seq, received_s in ((1, 5.0), (2, 5.5), (3, 6.0)):
        book.open(Entry(seq=seq, received_s=received_s, admitted=seq != 2, over_limit=seq == 2))
    assert (book.summary().first_received_s, book.summary().last_finished_s) == (5.0, None)
    for seq in (1, 3):
        book.wait(seq)
    for seq in (1, 3):
        book.begin(seq, begun_s=6.5)
    for seq, finished_s in ((2, 5.5), (1, 9.0), (3, 8.0)):
        book.finish(seq, finished_s=finished_s, answered=True)
    summary = book.summary()
    assert (summary.first_received_s, summary.last_finished_s) == (5.0, 9.0)
    assert (summary.admitted, summary.over_limit, summary.peak_waiting) == (2, 1, 2)
    assert [entry.begun_s for entry in book.entries()] == [6.5, None, 6.5]
