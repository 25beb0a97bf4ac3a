"""The invoice job: number, dates, parties, lines and totals of an invoice or a credit note."""

from runner.job import Job
from schemas.invoice import Invoice

JOB = Job(
    schema=Invoice,
    models=("gpt-5-mini", "gpt-5"),
    description="Invoices and credit notes: number, dates, parties, line items and totals.",
    max_output_tokens=4_096,
)
