"""What is extracted from an invoice or a credit note."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from runner.fields import Compare, Stated
from schemas.values import CENT, Amount, Currency, Day, Extraction, Name


class LineItem(Extraction):
    """One line of the invoice's table; shipping and discounts are lines too."""

    description: Annotated[Name, Stated()] = Field(
        description="What was sold, as the line words it."
    )
    quantity: Annotated[Amount, Stated(unless=(1,))] = Field(
        description="How many units were sold; hours count as units."
    )
    unit_price: Annotated[Amount, Stated()] = Field(
        description="Price of one unit before tax; negative for a discount or a credit."
    )
    amount: Annotated[Amount, Stated()] = Field(
        description="What the line comes to before tax: quantity times unit price."
    )

    @field_validator("amount")
    @classmethod
    def _is_the_product(cls, amount: Decimal, info: ValidationInfo) -> Decimal:
        quantity, unit_price = info.data.get("quantity"), info.data.get("unit_price")
        if quantity is None or unit_price is None:
            return amount  # their own errors say so
        if abs(quantity * unit_price - amount) > CENT:
            raise ValueError(
                f"amount {amount} is not quantity {quantity} * unit_price {unit_price}"
                f" = {quantity * unit_price}"
            )
        return amount


class Invoice(Extraction):
    """An invoice: who asks whom for how much, for what, by when.

    Sums hold within a cent. A credit note has negative amounts.
    """

    invoice_number: Annotated[Name, Compare.ID, Stated()] = Field(
        description="The number of the invoice or credit note, exactly as printed."
    )
    issue_date: Annotated[Day, Stated()] = Field(
        description="The day the invoice was issued, as YYYY-MM-DD."
    )
    due_date: Annotated[Day, Stated()] | None = Field(
        default=None,
        description="The last day to pay, as YYYY-MM-DD; null when the invoice names no day.",
    )
    supplier_name: Annotated[Name, Stated()] = Field(
        description="Who sends the invoice and is paid."
    )
    customer_name: Annotated[Name, Stated()] = Field(
        description="Who receives the invoice and pays."
    )
    currency: Currency = Field(
        description="ISO 4217 code of the currency that all amounts are in, such as EUR."
    )
    line_items: Annotated[list[LineItem], Field(min_length=1, max_length=500)] = Field(
        description="Every line of the table, in the order of the document."
    )
    net_total: Annotated[Amount, Stated()] = Field(description="Sum of all lines before tax.")
    tax_total: Annotated[Amount, Stated(unless=(0,))] = Field(
        description="All taxes together; 0 when no tax is charged."
    )
    total: Annotated[Amount, Stated()] = Field(
        description="What is to be paid: net total + tax total."
    )

    @field_validator("due_date")
    @classmethod
    def _is_not_before_issue(cls, due_date: Day | None, info: ValidationInfo) -> Day | None:
        issue_date = info.data.get("issue_date")
        if due_date and issue_date and due_date < issue_date:
            raise ValueError(f"due_date {due_date} is before issue_date {issue_date}")
        return due_date

    @field_validator("net_total")
    @classmethod
    def _is_the_sum_of_lines(cls, net_total: Decimal, info: ValidationInfo) -> Decimal:
        lines: list[LineItem] | None = info.data.get("line_items")
        if lines is None:
            return net_total
        lines_total = sum((line.amount for line in lines), Decimal(0))
        if abs(lines_total - net_total) > CENT:
            raise ValueError(
                f"net_total {net_total} is not {lines_total}, the sum of the"
                f" {len(lines)} line item amounts"
            )
        return net_total

    @field_validator("total")
    @classmethod
    def _is_net_plus_tax(cls, total: Decimal, info: ValidationInfo) -> Decimal:
        net_total, tax_total = info.data.get("net_total"), info.data.get("tax_total")
        if net_total is None or tax_total is None:
            return total
        if abs(net_total + tax_total - total) > CENT:
            raise ValueError(f"total {total} is not net_total {net_total} + tax_total {tax_total}")
        return total
