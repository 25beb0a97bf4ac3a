"""The review queue: each record that waits beside its text, and accept, correct, reject, again."""

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner.corrections import typed_value, with_values
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.calls import AttemptRow, document_calls, view_document
from runner.ledger.reviews import (
    Reviewed,
    ReviewFilter,
    Waiting,
    count_waiting,
    list_waiting,
    reviews_of,
)
from runner.ledger.standing import all_batches
from runner.ledger.submission import Batch
from runner.model import Decided, FieldError, Stratum
from runner.pages.marking import Piece, leaves, pieces
from runner.pages.numbers import value as shown_value
from runner.pages.waterfall import waterfall
from runner.pinned import PinnedJobs
from runner.pricing import Estimate, price_retry
from runner.reviews import Reviewer, correct, decide_all, find_waiting, run_again
from runner.web.desk import Desk, desk_of, done, form_of, look, page, work
from runner.web.forms import Form

LIST_MAX = 200
BATCHES_MAX = 200  # to choose from
NAME_CHARS_MAX = 200
NOTE_CHARS_MAX = 2_000
FIELD = "value:"  # before a path, in the name of a form's field


async def list_(request: Request) -> Response:
    """What waits for a person, the oldest first."""
    batch_id = request.query_params.get("batch", "")

    def read(connection: Connection) -> tuple[list[Waiting], int, list[Batch]]:
        wanted = ReviewFilter(batch_id=batch_id or None, limit=LIST_MAX)
        count = sum(count_waiting(connection, wanted).values())
        return list_waiting(connection, wanted), count, all_batches(connection, limit=BATCHES_MAX)

    waiting, count, batches = await look(request, read)
    return page(
        request, "reviews.html", waiting=waiting, count=count, batches=batches, batch=batch_id
    )


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A value of the record as it can be changed: what is shown, typed, and said against it."""

    path: str
    shown: str
    typed: str
    is_found: bool  # in the document
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPage:
    """A record that waits, with all that helps to decide."""

    waiting: Waiting
    text: str | None
    pieces: Sequence[Piece]
    calls: Sequence[AttemptRow]
    history: Sequence[Reviewed]
    number: int | None  # its place among those that wait, from 1
    count: int
    before: str | None  # documents to go on to
    after: str | None


async def show(request: Request) -> Response:
    """One record that waits."""
    return await _shown(request, request.path_params["document"])


async def _shown(
    request: Request, document_id: str, *, typed: Form | None = None, trouble: str = ""
) -> Response:
    """The page of a record, with what was typed when that was refused."""
    desk, batch_id = desk_of(request), request.query_params.get("batch", "")
    found = await work(lambda: _look_at(desk.ledger, document_id, batch_id=batch_id))
    fields = _field_rows(found.waiting, dict(typed.pairs) if typed else {})
    known = {row.path for row in fields}
    return page(
        request,
        "review.html",
        status=409 if trouble else 200,
        found=found,
        fields=fields,
        other_errors=[one for one in found.waiting.errors if one.path not in known],
        bars=waterfall(found.calls),
        record=_written(found.waiting),
        trouble=trouble,
        typed=typed or Form(),
        batch=batch_id,
        login=_login_name(),
        is_flagged=found.waiting.stratum is Stratum.FLAGGED,
    )


def _look_at(ledger: Ledger, document_id: str, *, batch_id: str) -> ReviewPage:
    (waiting,) = find_waiting(ledger, [document_id])
    with ledger.snapshot() as connection:
        wanted = ReviewFilter(batch_id=batch_id or None, limit=LIST_MAX)
        line = [one.document_id for one in list_waiting(connection, wanted)]
        text = view_document(connection, document_id).text
        place = line.index(document_id) if document_id in line else None
        return ReviewPage(
            waiting=waiting,
            text=text,
            pieces=pieces(text or "", waiting.evidence),
            calls=document_calls(connection, document_id),
            history=reviews_of(connection, document_id),
            number=None if place is None else place + 1,
            count=sum(count_waiting(connection, wanted).values()),
            before=line[place - 1] if place else None,
            after=_after(line, place),
        )


def _after(line: Sequence[str], place: int | None) -> str | None:
    if place is None:
        return line[0] if line else None
    return line[place + 1] if place + 1 < len(line) else None


def _field_rows(waiting: Waiting, typed: Mapping[str, str]) -> list[FieldRow]:
    if waiting.data_json is None:
        return []
    evidence = {one.path for one in waiting.evidence}
    return [
        FieldRow(
            path=path,
            shown=shown_value(value),
            typed=typed.get(FIELD + path, shown_value(value)),
            is_found=path in evidence,
            errors=tuple(_errors_of(waiting.errors, path)),
        )
        for path, value in leaves(json.loads(waiting.data_json))
    ]


def _errors_of(errors: Sequence[FieldError], path: str) -> list[str]:
    return [one.message for one in errors if one.path == path]


def _written(waiting: Waiting) -> str:
    """The whole record, as it can be changed in one piece."""
    if waiting.data_json is None:
        return ""
    return json.dumps(json.loads(waiting.data_json), indent=2, ensure_ascii=False)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


async def decide(request: Request) -> Response:
    """Accept, correct or reject one record, and go on to the next."""
    desk, form = desk_of(request), form_of(request)
    document_id: str = request.path_params["document"]
    try:
        decided = await work(lambda: _decide(desk, document_id, form))
    except UsageError as error:
        if form.one("decision") != Decided.CORRECTED:
            raise
        return await _shown(request, document_id, typed=form, trouble=str(error))
    return done(request, _next(form), f"{decided} {form.one('source') or document_id}")


def _next(form: Form) -> str:
    """Where to go on: the document that followed on the page, or the list."""
    rest = f"?batch={form.one('batch')}" if form.one("batch").isalnum() else ""
    after = form.one("after")
    return f"/review/{after}{rest}" if after.isalnum() else f"/review{rest}"


def _decide(desk: Desk, document_id: str, form: Form) -> Decided:
    by, (waiting,) = _reviewer(form), find_waiting(desk.ledger, [document_id])
    looked_at = replace(waiting, attempt_id=form.one("attempt") or waiting.attempt_id)
    match form.one("decision"):
        case Decided.ACCEPTED | Decided.REJECTED as decided:
            decide_all(desk.ledger, [looked_at], Decided(decided), by)
        case Decided.CORRECTED as decided:
            correct(
                desk.ledger,
                looked_at,
                _corrected(looked_at, form),
                by,
                jobs=PinnedJobs(desk.settings.job_folders),
                despite_checks=bool(form.one("despite_checks")),
            )
        case other:
            raise UsageError(f"no decision is called {other[:40]!r}")
    return Decided(decided)


def _reviewer(form: Form) -> Reviewer:
    name = form.one("by")[:NAME_CHARS_MAX] or _login_name()
    if not name:
        raise UsageError("who decides? give a name")
    return Reviewer(name=name, note=form.one("note")[:NOTE_CHARS_MAX] or None)


def _corrected(waiting: Waiting, form: Form) -> str:
    """The record with the values that were changed; the whole of it where that was changed."""
    whole = form.one("data").replace("\r\n", "\n")
    if whole != _written(waiting):
        return whole
    if waiting.data_json is None:
        raise UsageError("there is no record yet: write a whole one as JSON")
    record: Any = json.loads(waiting.data_json)
    shown = {FIELD + path: shown_value(value) for path, value in leaves(record)}
    changes = [
        (name.removeprefix(FIELD), typed)
        for name, typed in form.pairs
        if name in shown and typed.replace("\r\n", "\n") != shown[name]
    ]
    return json.dumps(with_values(record, changes, read=typed_value))


async def ask_again(request: Request) -> Response:
    """What asking for a record anew would cost, and the button that does it."""
    desk, document_id = desk_of(request), request.path_params["document"]

    def price() -> tuple[Waiting, Estimate]:
        (waiting,) = find_waiting(desk.ledger, [document_id])
        return waiting, price_retry(desk.settings, desk.ledger, [waiting], prompt=None, models=())

    waiting, estimate = await work(price)
    return page(request, "again.html", waiting=waiting, estimate=estimate, login=_login_name())


async def again(request: Request) -> Response:
    """Queue a document in review anew."""
    desk, form = desk_of(request), form_of(request)
    document_id: str = request.path_params["document"]

    def do() -> None:
        jobs = PinnedJobs(desk.settings.job_folders)
        run_again(desk.ledger, find_waiting(desk.ledger, [document_id]), _reviewer(form), jobs=jobs)

    await work(do)
    return done(request, "/review", "1 document queued again")
