"""The ticket job: what a customer's message to support is about and what it asks for."""

from collections.abc import Iterator

from jobs.evidence import not_in_text
from runner.job import Job
from runner.model import FieldError
from schemas.ticket import SupportTicket


def names_are_in_the_text(ticket: SupportTicket, text: str) -> Iterator[FieldError]:
    """Who writes, the product and the order must stand in the message: they choose the account."""
    yield from not_in_text(
        (
            ("customer_name", ticket.customer_name),
            ("product", ticket.product),
            ("order_number", ticket.order_number),
        ),
        text,
    )


def year_is_in_the_text(ticket: SupportTicket, text: str) -> Iterator[FieldError]:
    """A date whose year the message does not write was guessed."""
    reported_at = ticket.reported_at
    if reported_at is not None and str(reported_at.year) not in text:
        yield FieldError(
            "reported_at",
            f"the message does not write the year {reported_at.year}: give null unless the whole"
            " date is written",
        )


JOB = Job(
    schema=SupportTicket,
    models=("gpt-5-mini", "gpt-5"),
    description="Messages to support: who, which product, how severe, what is asked for.",
    checks=(names_are_in_the_text, year_is_in_the_text),
    max_output_tokens=2_048,
)
