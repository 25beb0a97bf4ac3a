"""The schemas accept what adds up and say of everything else which field to mend, and how."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas.contract import ContractClause
from schemas.invoice import Invoice
from schemas.ticket import SupportTicket

INVOICE = {
    "invoice_number": "A-1",
    "issue_date": "2026-03-01",
    "due_date": "2026-03-31",
    "supplier_name": "Supplier Ltd",
    "customer_name": "Customer Ltd",
    "currency": "EUR",
    "line_items": [
        {"description": "Rope", "quantity": 3, "unit_price": 10.5, "amount": 31.5},
        {"description": "Hook", "quantity": 1, "unit_price": 58.5, "amount": 58.5},
    ],
    "net_total": 90,
    "tax_total": 10,
    "total": 100,
}
TICKET = {
    "customer_name": None,
    "product": "Kettle",
    "category": "defect",
    "severity": "high",
    "sentiment": "calm",
    "summary": "The kettle leaks.",
    "requested_action": "Send a new one.",
    "order_number": None,
    "reported_at": "2026-03-01",
}
CLAUSE = {
    "title": "Lease",
    "parties": ["Landlord Ltd", "Tenant Ltd"],
    "clause_kind": "payment",
    "effective_date": "2026-01-01",
    "end_date": "2026-12-31",
    "notice_period_days": 30,
    "governing_law": "Malta",
    "obligations": ["Tenant Ltd pays the rent."],
    "liability_cap_amount": 500,
    "liability_cap_currency": "EUR",
}


def errors_of(schema: type[BaseModel], base: dict[str, Any], **changes: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate_json(json.dumps({**base, **changes}))
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    ("schema", "example"),
    [(Invoice, INVOICE), (SupportTicket, TICKET), (ContractClause, CLAUSE)],
)
def test_what_is_accepted_comes_back_as_the_same_json(
    schema: type[BaseModel], example: dict[str, Any]
) -> None:
    record = schema.model_validate_json(json.dumps(example))
    assert json.loads(record.model_dump_json()) == example
    assert schema.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("schema", [Invoice, SupportTicket, ContractClause])
def test_every_field_is_described_for_the_model(schema: type[BaseModel]) -> None:
    assert all(field.description for field in schema.model_fields.values())


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"total": 107}, "total", "total 107 is not net_total 90 + tax_total 10"),
        ({"total": 100.02}, "total", "total 100.02 is not net_total 90 + tax_total 10"),
        ({"net_total": 91, "total": 101}, "net_total", "net_total 91 is not 90.0, the sum of"),
        ({"due_date": "2026-02-28"}, "due_date", "due_date 2026-02-28 is before issue_date"),
        ({"currency": "eur"}, "currency", "'eur' is not an ISO 4217 code"),
        ({"currency": "EUR\n\n"}, None, None),
        ({"invoice_number": "N/A"}, "invoice_number", "'N/A' is a placeholder"),
        ({"invoice_number": "  "}, "invoice_number", "at least 1 character"),
        ({"issue_date": 20260301}, "issue_date", "not a date written YYYY-MM-DD"),
        ({"line_items": []}, "line_items", "at least 1 item"),
        ({"iban": "XX"}, "iban", "not permitted"),
    ],
)
def test_an_invoice_error_names_the_field_and_what_to_mend(
    changes: dict[str, Any], path: str | None, message: str | None
) -> None:
    if path is None:  # blanks around a text are not the model's fault
        assert Invoice.model_validate_json(json.dumps({**INVOICE, **changes})).currency == "EUR"
        return
    assert message is not None
    assert message in errors_of(Invoice, INVOICE, **changes)[path]


def test_all_errors_of_an_invoice_are_told_at_once() -> None:
    line = {"description": "Rope", "quantity": 2, "unit_price": 10, "amount": 30}
    errors = errors_of(Invoice, INVOICE, line_items=[line], due_date="2020-01-01", total=1)
    assert set(errors) == {"line_items.0.amount", "due_date", "total"}
    assert "amount 30 is not quantity 2 * unit_price 10 = 20" in errors["line_items.0.amount"]


def test_a_cent_of_rounding_is_forgiven_and_two_are_not() -> None:
    near = {**INVOICE, "total": 100.01}
    assert Invoice.model_validate_json(json.dumps(near)).total == Decimal("100.01")
    assert "total" in errors_of(Invoice, INVOICE, total=100.02)


def test_a_date_may_be_missing_where_the_document_may_lack_it() -> None:
    without = {name: value for name, value in INVOICE.items() if name != "due_date"}
    assert Invoice.model_validate_json(json.dumps(without)).due_date is None


amounts = st.integers(-10_000_000, 10_000_000).map(lambda cents: Decimal(cents) / 100)


@given(
    lines=st.lists(st.tuples(st.integers(1, 500), amounts), min_size=1, max_size=8),
    tax=amounts,
    error=st.sampled_from([Decimal(0), Decimal("0.02"), Decimal(-5)]),
)
def test_an_invoice_is_accepted_exactly_when_its_sums_hold(
    lines: list[tuple[int, Decimal]], tax: Decimal, error: Decimal
) -> None:
    net = sum((quantity * price for quantity, price in lines), Decimal(0))
    answer = {
        **INVOICE,
        "line_items": [
            {
                "description": "Rope",
                "quantity": quantity,
                "unit_price": float(price),
                "amount": float(quantity * price),
            }
            for quantity, price in lines
        ],
        "net_total": float(net),
        "tax_total": float(tax),
        "total": float(net + tax + error),
    }
    if error:
        assert set(errors_of(Invoice, answer)) == {"total"}
        return
    invoice = Invoice.model_validate_json(json.dumps(answer))
    assert invoice.total == net + tax, "a JSON number keeps every cent"
    assert Invoice.model_validate_json(invoice.model_dump_json()) == invoice


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"category": "outage", "severity": "low"}, "severity", "contradicts category outage"),
        ({"requested_action": "the kettle LEAKS."}, "requested_action", "repeats summary"),
        ({"order_number": "none"}, "order_number", "or null where the field allows null"),
        ({"severity": "huge"}, "severity", "'low', 'medium', 'high' or 'critical'"),
    ],
)
def test_a_ticket_error_names_the_field_and_what_to_mend(
    changes: dict[str, Any], path: str, message: str
) -> None:
    assert message in errors_of(SupportTicket, TICKET, **changes)[path]


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"parties": ["Landlord Ltd"]}, "parties", "at least 2 items"),
        ({"parties": ["A Ltd", "a ltd"]}, "parties", "party 'a ltd' is listed twice"),
        ({"obligations": ["Pay up.", "pay up."]}, "obligations", "'pay up.' is listed twice"),
        ({"end_date": "2025-12-31"}, "end_date", "before effective_date 2026-01-01"),
        ({"liability_cap_currency": None}, "liability_cap_currency", "give both, or null for both"),
        ({"liability_cap_amount": None}, "liability_cap_currency", "give both, or null for both"),
        ({"liability_cap_amount": -1}, "liability_cap_amount", "greater than 0"),
        ({"notice_period_days": -1}, "notice_period_days", "greater than or equal to 0"),
    ],
)
def test_a_contract_error_names_the_field_and_what_to_mend(
    changes: dict[str, Any], path: str, message: str
) -> None:
    assert message in errors_of(ContractClause, CLAUSE, **changes)[path]


def test_a_cap_without_its_currency_is_refused_even_when_the_key_is_missing() -> None:
    without = {name: value for name, value in CLAUSE.items() if name != "liability_cap_currency"}
    assert "liability_cap_currency" in errors_of(ContractClause, without)
