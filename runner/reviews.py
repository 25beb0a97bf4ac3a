"""What one does with the review queue, whoever asks: find what waits, decide, correct, run again.

A command or a call is decided as a whole: when one of its documents cannot be decided on any more,
because another person was first, nothing of it is written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

from sqlalchemy import Connection

from runner.batches import pins_of
from runner.corrections import corrected_record
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.calls import view_document
from runner.ledger.reviews import (
    Decision,
    NotDecided,
    ReviewFilter,
    Waiting,
    decide,
    list_waiting,
    reviews_of,
)
from runner.model import Decided, DocumentState
from runner.pinned import PinnedJobs


def find_waiting(ledger: Ledger, document_ids: Sequence[str]) -> list[Waiting]:
    """These documents as they wait, in this order.

    Raises UsageError when one of them does not wait, with who has decided on it.
    """
    with ledger.snapshot() as connection:
        found = {
            one.document_id: one
            for one in list_waiting(connection, ReviewFilter(document_ids=tuple(document_ids)))
        }
    for one in document_ids:
        if one not in found:
            raise UsageError(_why_not_waiting(ledger, one))
    return [found[one] for one in dict.fromkeys(document_ids)]


def _why_not_waiting(ledger: Ledger, document_id: str) -> str:
    with ledger.snapshot() as connection:
        state = view_document(connection, document_id).state
        history = reviews_of(connection, document_id)
    if history and state in (DocumentState.DONE, DocumentState.DEAD):
        last = history[0]
        at = datetime.fromtimestamp(last.at_us / 1e6, UTC).isoformat(" ", "seconds")
        why = f"{last.decided} by {last.reviewer} at {at}"
        return f"document {document_id} is {state}: it was {why}; nothing was changed"
    return (
        f"document {document_id} is {state} and waits for nobody's decision; "
        f"`runner show {document_id}` shows it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewer:
    """Who decides, and what they note down with it."""

    name: str
    note: str | None = None


def decide_all(
    ledger: Ledger, looked_at: Iterable[Waiting], decided: Decided, by: Reviewer
) -> list[str]:
    """Accept or reject these records; the ids of their documents.

    Raises UsageError when one cannot be decided on (any more): then none of them is.
    """
    return _write(ledger, [_decision(ledger, one, decided, by) for one in looked_at])


def run_again(
    ledger: Ledger,
    looked_at: Sequence[Waiting],
    by: Reviewer,
    *,
    jobs: PinnedJobs,
    prompt: str | None = None,
    models: Sequence[str] = (),
) -> list[str]:
    """Queue these documents of the review anew, with another prompt or ladder where one is given.

    Raises as `decide_all`, and JobError when the prompt does not exist.
    """
    pins = {
        job: pins_of(jobs, job, prompt=prompt, models=tuple(models))
        for job in {one.job for one in looked_at}
    }
    decisions = [
        replace(_decision(ledger, one, Decided.AGAIN, by), pins=pins[one.job]) for one in looked_at
    ]
    return _write(ledger, decisions)


def correct(
    ledger: Ledger,
    looked_at: Waiting,
    data_json: str,
    by: Reviewer,
    *,
    jobs: PinnedJobs,
    despite_checks: bool = False,
) -> list[str]:
    """Give a document another record, valid by its job's present schema and checks.

    Raises CorrectionError or UsageError as `corrected_record`, and as `decide_all`.
    """
    with ledger.snapshot() as connection:
        text = view_document(connection, looked_at.document_id).text
    corrected = corrected_record(
        looked_at,
        data_json,
        job=jobs.job(looked_at.job).job,
        text=text,
        despite_checks=despite_checks,
    )
    decision = replace(
        _decision(ledger, looked_at, Decided.CORRECTED, by),
        data_json=corrected.data_json,
        evidence=corrected.evidence,
        flags=corrected.flags,
    )
    return _write(ledger, [decision])


def _decision(ledger: Ledger, one: Waiting, decided: Decided, by: Reviewer) -> Decision:
    return Decision(
        document_id=one.document_id,
        decided=decided,
        reviewer=by.name,
        now_us=ledger.clock.us(),
        attempt_id=one.attempt_id,
        note=by.note,
    )


class _RefusedError(Exception):
    """Rolls back what was written beside a decision that cannot be made."""

    def __init__(self, document_id: str, why: NotDecided) -> None:
        self.document_id = document_id
        self.why = why


def _write(ledger: Ledger, decisions: Sequence[Decision]) -> list[str]:
    try:
        with ledger.transaction() as connection:
            _decide(connection, decisions)
    except _RefusedError as error:
        raise UsageError(_words(ledger, error.document_id, error.why)) from None
    return [one.document_id for one in decisions]


def _decide(connection: Connection, decisions: Sequence[Decision]) -> None:
    for one, refused in zip(decisions, decide(connection, decisions), strict=True):
        if refused is not None:
            raise _RefusedError(one.document_id, refused)


def _words(ledger: Ledger, document_id: str, why: NotDecided) -> str:
    match why:
        case NotDecided.NOT_WAITING:
            return _why_not_waiting(ledger, document_id)
        case NotDecided.OTHER_RECORD:
            return (
                f"document {document_id} has another record now than the one that was looked at; "
                f"`runner review show {document_id}` shows it"
            )
        case NotDecided.NO_DATA:
            return (
                f"document {document_id} has no data to accept: "
                f"`runner review correct {document_id} --data FILE` gives it some, and "
                f"`runner review again {document_id}` asks for it again"
            )
        case NotDecided.ONLY_FLAGGED:
            return (
                f"document {document_id} is done, and only what is in review is run again: "
                f"`runner review reject {document_id}` makes it a dead letter, which "
                f"`runner dead retry {document_id}` runs again"
            )
        case NotDecided.CANNOT_RUN:
            return (
                f"document {document_id} cannot be run again: its text was removed, or its batch "
                "is cancelled; accept, correct or reject it"
            )
        case _:
            assert_never(why)
