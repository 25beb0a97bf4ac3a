"""The ticket job: what a customer's message to support is about and what it asks for."""

from runner.job import Job
from schemas.ticket import SupportTicket

JOB = Job(
    schema=SupportTicket,
    models=("gpt-5-mini", "gpt-5"),
    description="Messages to support: who, which product, how severe, what is asked for.",
    max_output_tokens=2_048,
)
