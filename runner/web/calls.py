"""Calls: found by what they were and by their words, and each with its exact request and answer."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import NotFoundError
from runner.keys import trace_id
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import (
    AttemptRow,
    CallBodies,
    call_bodies,
    find_call,
    list_calls,
    source_names,
)
from runner.ledger.standing import all_batches
from runner.ledger.submission import Batch
from runner.model import Fault
from runner.web.desk import look, page

CALLS_MAX = 100
BATCHES_MAX = 200  # to choose from
BODY_CHARS_MAX = 400_000  # of a request or an answer on the page


@dataclass(frozen=True, slots=True)
class Asked:
    """Which calls a person means; empty: whichever."""

    batch: str
    document: str
    model: str
    fault: str

    @property
    def wanted(self) -> CallFilter:
        """The same for the ledger."""
        return CallFilter(
            batch_id=self.batch or None,
            document_id=self.document or None,
            model=self.model or None,
            fault=self.fault or None,
            limit=CALLS_MAX,
        )


async def list_(request: Request) -> Response:
    """The newest calls that are meant."""
    params = request.query_params
    asked = Asked(*(params.get(name, "").strip() for name in Asked.__slots__))

    def read(connection: Connection) -> tuple[Sequence[AttemptRow], list[Batch]]:
        return list_calls(connection, asked.wanted), all_batches(connection, limit=BATCHES_MAX)

    calls, some = await look(request, read)
    return page(
        request,
        "calls.html",
        asked=asked,
        calls=calls,
        batches=some,
        faults=sorted(Fault),
        most=CALLS_MAX,
    )


@dataclass(frozen=True, slots=True)
class Body:
    """A request or an answer as a person reads it: indented where it is JSON."""

    text: str | None  # none: removed, or never received
    left_out: int  # characters

    @classmethod
    def of(cls, body: bytes | None) -> "Body":
        """What is shown of these bytes."""
        if body is None:
            return cls(None, 0)
        text = body.decode("utf-8", "backslashreplace")
        with suppress(ValueError, RecursionError):  # no JSON: shown as it came
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        return cls(text[:BODY_CHARS_MAX], max(0, len(text) - BODY_CHARS_MAX))


async def show(request: Request) -> Response:
    """One call: what was sent, what came back, tokens, cost, and where the time went."""
    attempt_id: str = request.path_params["call"]

    def read(connection: Connection) -> tuple[AttemptRow, CallBodies, str]:
        row = find_call(connection, attempt_id)
        if row is None:
            raise NotFoundError(f"no call {attempt_id!r}")
        names = source_names(connection, row.document_id)
        return row, call_bodies(connection, attempt_id), names[0] if names else row.document_id

    row, bodies, source = await look(request, read)
    return page(
        request,
        "call.html",
        call=row,
        source=source,
        trace_id=trace_id(row.document_id),
        request_body=Body.of(bodies.request),
        answer_body=Body.of(bodies.answer),
        headers=bodies.headers,
    )
