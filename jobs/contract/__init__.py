"""The contract job: parties, dates, obligations and liability of a contract clause."""

from collections.abc import Iterator

from jobs.evidence import amount_occurs, not_in_text
from runner.job import Job
from runner.model import FieldError
from schemas.contract import ContractClause


def names_are_in_the_text(clause: ContractClause, text: str) -> Iterator[FieldError]:
    """Title, parties and governing law must stand in the contract."""
    yield from not_in_text(
        (
            ("title", clause.title),
            *((f"parties.{place}", party) for place, party in enumerate(clause.parties)),
            ("governing_law", clause.governing_law),
        ),
        text,
    )


def cap_is_in_the_text(clause: ContractClause, text: str) -> Iterator[FieldError]:
    """A cap on liability is quoted in disputes: it must be printed, not computed."""
    cap = clause.liability_cap_amount
    if cap is not None and not amount_occurs(cap, text):
        yield FieldError(
            "liability_cap_amount",
            f"{cap} is not printed in the document: take the printed amount, or null if there is"
            " none",
        )


JOB = Job(
    schema=ContractClause,
    models=("gpt-5-mini", "gpt-5"),
    description="Contract clauses: parties, dates, notice, obligations and cap on liability.",
    checks=(names_are_in_the_text, cap_is_in_the_text),
    max_output_tokens=4_096,
)
