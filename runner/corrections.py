"""What a correction makes of a record: valid by its job's schema and checks, or refused."""

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from runner.errors import JobError, UsageError
from runner.job import Job
from runner.ledger.reviews import Waiting
from runner.model import Evidence, Failure, Fault, FieldError
from runner.validate import Validated, validate

# data that is valid by the schema, and that only the job's checks, or its evidence, speak against
OVERRULABLE = frozenset({Fault.CHECK_FAILED, Fault.NOT_GROUNDED})
DESPITE_CHECKS = "despite_checks"  # the flag of a correction that they speak against


class CorrectionError(UsageError):
    """The corrected data is not valid; `errors` say where, and nothing was changed."""

    def __init__(self, document_id: str, failure: Failure) -> None:
        self.errors = failure.errors or (FieldError("", failure.message),)
        lines = [f"  {error.path or 'the whole'}: {error.message}" for error in self.errors]
        advice = ""
        if failure.fault in OVERRULABLE:
            advice = "\n--despite-checks takes it all the same, when the document is at fault"
        super().__init__(
            f"document {document_id}: the correction is not valid:\n" + "\n".join(lines) + advice
        )


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a record becomes."""

    data_json: str
    evidence: tuple[Evidence, ...]
    flags: tuple[str, ...]


def corrected_record(
    looked_at: Waiting, data_json: str, *, job: Job, text: str | None, despite_checks: bool
) -> Corrected:
    """The record that a correction makes: valid by the job's schema, its document and its checks.

    With `despite_checks` only the schema is insisted on, and the record is flagged. `text` is the
    document's; none once it was removed. Raises CorrectionError when the data is not valid,
    JobError when a check of the job breaks on it, UsageError when the correction changes nothing.
    """
    if text is None and not despite_checks:
        raise UsageError(
            f"document {looked_at.document_id} has no text any more, so that nothing can be "
            "checked against it; --despite-checks takes the correction all the same"
        )
    corrected = _valid(looked_at, data_json, job=job, text=text, despite_checks=despite_checks)
    if _equal(corrected.data_json, looked_at.data_json):
        raise UsageError(
            f"document {looked_at.document_id}: the correction says what the record says already; "
            f"`runner review accept {looked_at.document_id}` tells that it is right"
        )
    return corrected


def _valid(
    looked_at: Waiting, data_json: str, *, job: Job, text: str | None, despite_checks: bool
) -> Corrected:
    try:
        judged = validate(
            data_json,
            schema=job.schema,
            checks=job.checks if text is not None else (),
            document=text or "",
            bare=True,
        )
    except Exception as error:
        raise JobError(
            f"a check of job {looked_at.job} failed on the correction with "
            f"{type(error).__name__}: {error}; mend the check and correct again"
        ) from error
    if isinstance(judged, Validated):
        flags = () if text is not None else (DESPITE_CHECKS,)
        return Corrected(judged.data_json, judged.evidence, flags)
    if despite_checks and judged.fault in OVERRULABLE and judged.data_json is not None:
        return Corrected(judged.data_json, judged.evidence, (DESPITE_CHECKS,))
    raise CorrectionError(looked_at.document_id, judged)


def _equal(one_json: str, other_json: str | None) -> bool:
    return other_json is not None and json.loads(one_json) == json.loads(other_json)


def with_values(
    data: Any, changes: Iterable[tuple[str, str]], *, read: Callable[[str, Any], Any]
) -> Any:
    """Data with other values at these paths (`line_items.0.amount`).

    `read` makes a value of what was typed and of what stands there before, if anything does. The
    place behind a list's last element adds one. Raises UsageError for a path that leads nowhere.
    """
    changed = copy.deepcopy(data)
    for path, typed in changes:
        *way, last = path.split(".")
        place = changed
        for depth, name in enumerate(way):
            place = _step(place, name, ".".join(way[: depth + 1]))
        if isinstance(place, dict):
            place[last] = read(typed, place.get(last))
        elif isinstance(place, list) and last.isdecimal() and int(last) <= len(place):
            here = slice(int(last), int(last) + 1)
            place[here] = [read(typed, *place[here] or [None])]
        else:
            raise UsageError(f"{path!r} leads nowhere in the record: {_shape_of(place)}")
    return changed


def typed_value(typed: str, before: Any) -> Any:
    """What was typed as JSON, else as text; where there was a text, a number is one too."""
    try:
        value = json.loads(typed, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return typed
    return typed if isinstance(before, str) and isinstance(value, bool | int | float) else value


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _step(place: Any, name: str, path: str) -> Any:
    if isinstance(place, dict) and name in place:
        return place[name]
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return place[int(name)]
    raise UsageError(f"{path!r} leads nowhere in the record: {_shape_of(place)}")


def _shape_of(place: Any) -> str:
    if isinstance(place, dict):
        return f"there are {', '.join(place) or 'no fields'}"
    if isinstance(place, list):
        return f"the list has {len(place)} elements, counted from 0"
    return "what stands before it has no parts"
