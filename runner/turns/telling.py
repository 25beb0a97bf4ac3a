"""What a turn tells: a line of the log when it ends or meets a bug, and its trace."""

import traceback

from runner.keys import Ticket
from runner.lanes import Lane
from runner.ledger.ends import Settlement
from runner.log import Level, detail, log
from runner.model import Dead, Done, Outcome, Review, Unconfirmed
from runner.tracing import TurnTold
from runner.turns.turn import Turn

PLACES_MAX_CHARS = 200


def tell_end(turn: Turn, outcome: Outcome, settlement: Settlement | None) -> None:
    """Log how a turn ended, without the failure's message: it may quote the answer."""
    failure = None if isinstance(outcome, Done | Unconfirmed) else outcome.failure
    ended_badly = isinstance(outcome, Dead | Review)
    detail(
        "turn_ended",
        f"{turn.work.ticket.document_id}: {type(outcome).__name__.lower()}",
        level=Level.WARNING if ended_badly else Level.INFO,
        document_id=turn.work.ticket.document_id,
        batch_id=turn.work.batch_id,
        job=turn.work.job,
        attempt_id=turn.attempt_id,
        model=turn.model,
        outcome=type(outcome).__name__.lower(),
        fault=None if failure is None else failure.fault,
        reason=outcome.reason if isinstance(outcome, Dead | Review) else None,
        cost_nusd=None if settlement is None else settlement.cost_nusd,
        total_us=None if settlement is None else settlement.total_us,
    )


def tell_bug(ticket: Ticket, error: Exception, turn: Turn | None = None) -> str:
    """Log an unexpected exception, without the text of exceptions that quote data; what was said.

    Without a turn, the ticket could not be loaded.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    message = f"{type(error).__name__} at {where[:PLACES_MAX_CHARS]}"
    log(
        "internal_error",
        f"internal error on {ticket.document_id}: {message}",
        level=Level.ERROR,
        document_id=ticket.document_id,
        batch_id=None if turn is None else turn.work.batch_id,
        attempt_id=None if turn is None else turn.attempt_id,
    )
    return message


def told_of(turn: Turn, *, lane: Lane | None, worker_id: str, now_ns: int) -> TurnTold:
    """A turn that has ended, as its trace tells it."""
    ended, settlement = turn.ended, turn.settlement
    usage = None if settlement is None else settlement.usage
    failure = getattr(ended, "failure", None)
    return TurnTold(
        began_ns=turn.started_ns,
        ended_ns=now_ns,
        steps=turn.steps,
        document_id=turn.work.ticket.document_id,
        batch_id=turn.work.batch_id,
        job=turn.work.job,
        prompt_id=turn.pinned.prompt_id,
        worker_id=worker_id,
        outcome="released" if ended is None else type(ended).__name__.lower(),
        model=turn.model,
        server=None if lane is None else lane.server,
        attempt_id=turn.attempt_id,
        status=None if turn.answer is None else turn.answer.status,
        fault=None if failure is None else failure.fault,
        input_tokens=None if usage is None else usage.input_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        cost_nusd=None if settlement is None else settlement.cost_nusd,
    )
