"""What stops a document before anything is spent on it: its history, its money, its length."""

from runner.budget import format_usd
from runner.ledger.work import Work
from runner.model import Failure, Fault
from runner.prepare import Prepared

CRASHES_MAX = 2  # the job's own code is not let near such a document again


def poison(work: Work) -> Failure | None:
    """Why the job's code may not be run on this document any more, if so."""
    if work.history.crashes < CRASHES_MAX:
        return None
    why = f"{work.history.crashes} workers died while they rendered or checked it"
    return Failure(Fault.POISON, why)


def over_ceiling(work: Work, prepared: Prepared, *, ceiling_nusd: int | None) -> Failure | None:
    """Why the document is not worth another call, if so; an unknown price stops at the gate."""
    spent_nusd, expected_nusd = work.spent_nusd, prepared.expected_nusd
    if ceiling_nusd is None or expected_nusd is None or spent_nusd + expected_nusd <= ceiling_nusd:
        return None
    return Failure(
        Fault.OVER_CEILING,
        f"{format_usd(spent_nusd)} spent and {format_usd(expected_nusd)} expected for the next "
        f"call are over its ceiling of {format_usd(ceiling_nusd)}: raise ceiling_usd of job "
        f"{work.job}, or document_usd in runner.toml, and "
        f"`runner dead retry {work.ticket.document_id}`, which begins anew",
    )


def too_long(prepared: Prepared, *, context_tokens: int | None) -> Failure | None:
    """Why the call does not fit its model, if so and where the model's context is known."""
    asked_tokens = prepared.input_tokens + prepared.max_output_tokens
    if context_tokens is None or asked_tokens <= context_tokens:
        return None
    return Failure(
        Fault.TOO_LONG,
        f"{prepared.input_tokens} input and {prepared.max_output_tokens} output tokens "
        f"do not fit the context of {prepared.model} ({context_tokens} tokens)",
    )
