"""The invoice job: number, dates, parties, lines and totals of an invoice or a credit note."""

from collections.abc import Iterator

from jobs.evidence import amount_occurs, not_in_text
from runner.job import Job
from runner.model import FieldError
from schemas.invoice import Invoice


def names_are_in_the_text(invoice: Invoice, text: str) -> Iterator[FieldError]:
    """Number, supplier and customer must stand in the document: nobody can reconcile others."""
    yield from not_in_text(
        (
            ("invoice_number", invoice.invoice_number),
            ("supplier_name", invoice.supplier_name),
            ("customer_name", invoice.customer_name),
        ),
        text,
    )


def total_is_in_the_text(invoice: Invoice, text: str) -> Iterator[FieldError]:
    """The sum to pay must be printed: one that only adds up may come from wrong lines."""
    if not amount_occurs(invoice.total, text):
        yield FieldError(
            "total", f"{invoice.total} is not printed in the document: take the printed total"
        )


JOB = Job(
    schema=Invoice,
    models=("gpt-5-mini", "gpt-5"),
    description="Invoices and credit notes: number, dates, parties, line items and totals.",
    checks=(names_are_in_the_text, total_is_in_the_text),
    max_output_tokens=4_096,
)
