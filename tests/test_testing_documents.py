"""Generated invoices are distinct, consistent, of the promised size, and read back exactly."""

from datetime import date

import pytest
from pydantic import BaseModel, ConfigDict

from runner.testing import generate_documents, generate_invoices
from runner.testing.answers import answer_document, compile_schema


class LineItem(BaseModel):
    """One line of the invoice schema."""

    model_config = ConfigDict(extra="forbid")

    description: str
    quantity: float
    unit_price: float
    amount: float


class Invoice(BaseModel):
    """The invoice schema, plain."""

    model_config = ConfigDict(extra="forbid")

    invoice_number: str
    issue_date: date
    due_date: date | None
    supplier_name: str
    customer_name: str
    currency: str
    line_items: list[LineItem]
    net_total: float
    tax_total: float
    total: float


@pytest.mark.parametrize("size", ["mixed", "small"])
def test_what_the_provider_reads_is_exactly_what_the_invoice_states(size: str) -> None:
    shape = compile_schema(Invoice.model_json_schema())
    invoices = list(generate_invoices(150, seed=11, size=size))  # type: ignore[arg-type]  # parametrized
    assert [answer_document(made.text, shape) for made in invoices] == [
        made.record for made in invoices
    ]
    assert {made.record["due_date"] is None for made in invoices} == {True, False}


def test_money_adds_up_and_dates_are_in_order() -> None:
    for made in generate_invoices(150, seed=5):
        record = made.record
        rows = record["line_items"]
        for row in rows:
            assert round(row["quantity"] * row["unit_price"] * 100) == round(row["amount"] * 100)
        assert round(sum(row["amount"] for row in rows) * 100) == round(record["net_total"] * 100)
        assert round((record["net_total"] + record["tax_total"]) * 100) == round(
            record["total"] * 100
        )
        if record["due_date"]:
            assert record["issue_date"] < record["due_date"]


def test_documents_are_distinct_and_of_the_promised_size() -> None:
    mixed = [text for _, text in generate_documents(400, seed=1)]
    small = [text for _, text in generate_documents(400, seed=1, size="small")]
    assert len(set(mixed + small)) == 800
    sizes = sorted(len(text.encode()) for text in mixed)
    assert 1_000 <= sizes[0] < 1_500
    assert 25_000 < sizes[-1] <= 30_000
    assert all(1_300 < len(text.encode()) <= 1_600 for text in small)


def test_a_document_depends_on_its_seed_and_place_only() -> None:
    few = list(generate_documents(3, seed=2))
    assert few == list(generate_documents(9, seed=2))[:3]
    assert few != list(generate_documents(3, seed=3))
