"""Whether a good answer is read a second time, and what the second read makes of the first."""

import json
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from runner.evals.comparing import Compared, compared
from runner.fields import spec_of
from runner.keys import part_of_hundred
from runner.ledger.secondreads import SecondPin
from runner.ledger.work import Work
from runner.model import (
    Dead,
    Done,
    Failure,
    Fault,
    FieldError,
    FirstRead,
    History,
    How,
    Outcome,
    Review,
    ReviewReason,
    Unconfirmed,
)
from runner.validate import MESSAGE_MAX_CHARS

CONFIRMED = "read_twice"
SALT = "second read"
ERRORS_MAX = 20


def is_wanted(pin: SecondPin, done: Done, work: Work) -> bool:
    """Whether a good first answer is to be confirmed: by its content, or as it is doubtful."""
    if part_of_hundred(work.ticket.document_id, salt=SALT) < pin.percent:
        return True
    return pin.doubtful and is_doubtful(done, work.history)


def is_doubtful(done: Done, history: History) -> bool:
    """Whether an answer came by a way on which more goes wrong."""
    nearly = any(one.how is How.FUZZY for one in done.evidence)
    return bool(done.flags) or nearly or history.check_reasks > 0 or history.ladder_step > 0


def concluded(outcome: Outcome, first: FirstRead, *, schema: type[BaseModel]) -> Outcome:
    """What a second read's outcome means for the document, whose record is the first read's.

    Two reads that agree in every field make it done. Two that differ, and a second one that ends
    without an answer, leave the first to a person: it was good by every check.
    """
    match outcome:
        case Done():
            differing = [one for one in _compared(first, outcome, schema) if not one.is_right]
            if differing:
                return _unsure(first, Fault.SECOND_READ_DIFFERS.value, _difference(differing))
            return Done(first.data_json, (*first.flags, CONFIRMED), first.evidence)
        case Review(failure=failure) | Dead(failure=failure):
            return _unsure(first, ReviewReason.SECOND_READ_FAILED.value, failure)
        case _:
            return outcome


def _compared(first: FirstRead, second: Done, schema: type[BaseModel]) -> Sequence[Compared]:
    return compared(
        spec_of(schema), expected=json.loads(first.data_json), got=json.loads(second.data_json)
    )


def _unsure(first: FirstRead, reason: str, failure: Failure) -> Review:
    return Review(
        reason,
        replace(failure, data_json=first.data_json, evidence=first.evidence),
        data_json=first.data_json,
        flags=first.flags,
        evidence=first.evidence,
    )


def _difference(differing: Sequence[Compared]) -> Failure:
    errors = tuple(
        FieldError(one.place, _told(one)[:MESSAGE_MAX_CHARS]) for one in differing[:ERRORS_MAX]
    )
    head = f"{errors[0].path}: {errors[0].message}"
    count = len(differing)
    message = head if count == 1 else f"{count} fields differ, the first: {head}"
    return Failure(Fault.SECOND_READ_DIFFERS, message, errors)


def _told(one: Compared) -> str:
    first, second = (json.dumps(value, ensure_ascii=False) for value in (one.expected, one.got))
    return f"the first read gave {first}, the second {second}"


def first_read(done: Done, *, attempt_id: str, model: str, prompt_id: str) -> Unconfirmed:
    """The outcome that sends a good answer to its second read."""
    return Unconfirmed(
        FirstRead(
            data_json=done.data_json,
            flags=done.flags,
            evidence=done.evidence,
            attempt_id=attempt_id,
            model=model,
            prompt_id=prompt_id,
        )
    )
