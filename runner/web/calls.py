"""Calls: found by what they were and by their words, and each with its exact request and answer."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import NotFoundError, UsageError
from runner.keys import trace_id
from runner.ledger import Ledger
from runner.ledger.callfilters import ANY_FAULT, CallFilter
from runner.ledger.calls import (
    AttemptRow,
    CallBodies,
    call_bodies,
    find_call,
    list_calls,
    record_of_call,
    source_names,
)
from runner.ledger.foundcalls import FoundCall, found_calls
from runner.ledger.standing import all_batches
from runner.ledger.submission import Batch
from runner.model import Fault
from runner.outputs import Output, output_of, words_of
from runner.search.finding import Hit
from runner.search.search import search
from runner.search.snippets import Snippet
from runner.web.ages import AGES_S, since_us
from runner.web.desk import desk_of, look, page, work

CALLS_MAX = 100
BATCHES_MAX = 200  # to choose from
CATCH_UP_MAX_S = 0.2  # a worker keeps the index up; here nobody waits long for it
BODY_CHARS_MAX = 400_000  # of a request or an answer on the page


@dataclass(frozen=True, slots=True)
class Asked:
    """Which calls a person means; empty: whichever."""

    words: str
    batch: str
    document: str
    prompt: str
    model: str
    fault: str
    since: str
    until_us: str

    def wanted(self, *, now_us: int) -> CallFilter:
        """The same for the ledger, the words aside."""
        return CallFilter(
            batch_id=self.batch or None,
            document_id=self.document or None,
            prompt=self.prompt or None,
            model=self.model or None,
            fault=self.fault or None,
            since_us=since_us(self.since, now_us=now_us),
            until_us=int(self.until_us) if self.until_us.isdecimal() else None,
            limit=CALLS_MAX,
        )


@dataclass(frozen=True, slots=True)
class HitRow:
    """A call that has the words, and where: runs of text, each with whether it is a hit."""

    hit: Hit
    call: FoundCall
    runs: Sequence[tuple[str, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsPage:
    """Either calls, or those that have the words."""

    calls: Sequence[AttemptRow] = ()
    hits: Sequence[HitRow] = ()
    behind: int = 0  # calls that the index does not have yet
    is_complete: bool = True  # else what ended just now may be missing too
    read_back_to_us: int | None = None
    trouble: str = ""


async def list_(request: Request) -> Response:
    """The newest calls that are meant."""
    desk, params = desk_of(request), request.query_params
    asked = Asked(*(params.get(name, "").strip() for name in Asked.__slots__))
    wanted = asked.wanted(now_us=desk.ledger.clock.us())
    if asked.words:
        found = await work(lambda: _search(desk.ledger, desk.settings.home, asked.words, wanted))
    else:
        calls = await look(request, lambda connection: list_calls(connection, wanted))
        found = CallsPage(calls=calls)
    some: list[Batch] = await look(
        request, lambda connection: all_batches(connection, limit=BATCHES_MAX)
    )
    return page(
        request,
        "calls.html",
        asked=asked,
        found=found,
        batches=some,
        faults=[ANY_FAULT, *sorted(Fault)],
        ages=list(AGES_S),
        most=CALLS_MAX,
    )


def _search(ledger: Ledger, home: Path, words: str, wanted: CallFilter) -> CallsPage:
    try:
        found = search(ledger, home, words, wanted, catch_up_max_s=CATCH_UP_MAX_S)
    except UsageError as error:  # what was typed is kept, so that it can be mended
        return CallsPage(trouble=str(error))
    with ledger.snapshot() as connection:
        told = found_calls(connection, ((one.document_id, one.attempt_id) for one in found.hits))
    return CallsPage(
        hits=[
            HitRow(one, told[one.document_id, one.attempt_id], _runs(one.snippet))
            for one in found.hits
            if (one.document_id, one.attempt_id) in told
        ],
        behind=found.behind,
        is_complete=found.is_complete,
        read_back_to_us=found.read_back_to_us,
    )


def _runs(snippet: Snippet | None) -> list[tuple[str, bool]]:
    if snippet is None:
        return []
    runs, end = [], 0
    for start, stop in snippet.marks:
        runs += [(snippet.text[end:start], False), (snippet.text[start:stop], True)]
        end = stop
    return [*runs, (snippet.text[end:], False)]


@dataclass(frozen=True, slots=True)
class Body:
    """A request, an answer, or what was read from it, as a person reads it: JSON is indented."""

    text: str | None  # none: removed, or never received
    left_out: int = 0  # characters

    @classmethod
    def of(cls, body: bytes | None) -> "Body":
        """What is shown of these bytes."""
        if body is None:
            return cls(None)
        text = body.decode("utf-8", "backslashreplace")
        with suppress(ValueError, RecursionError):  # no JSON: shown as it came
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        return cls(text[:BODY_CHARS_MAX], max(0, len(text) - BODY_CHARS_MAX))

    @classmethod
    def of_output(cls, output: Output) -> "Body":
        """What is shown of the data of an answer."""
        if output.data is None or isinstance(output.data, str):
            return cls(output.data)
        return cls.of(json.dumps(output.data).encode())


async def show(request: Request) -> Response:
    """One call: what was sent, what came back, tokens, cost, and where the time went."""
    attempt_id: str = request.path_params["call"]

    def read(connection: Connection) -> tuple[AttemptRow, CallBodies, Output, str]:
        row = find_call(connection, attempt_id)
        if row is None:
            raise NotFoundError(f"no call {attempt_id!r}")
        names, bodies = source_names(connection, row.document_id), call_bodies(connection, row.id)
        output = _output(row, bodies, record_of_call(connection, row.id))
        return row, bodies, output, names[0] if names else row.document_id

    row, bodies, output, source = await look(request, read)
    return page(
        request,
        "call.html",
        call=row,
        source=source,
        trace_id=trace_id(row.document_id),
        problem=output.problem,
        bodies=[
            ("What was read from the answer", Body.of_output(output)),
            ("Answer", Body.of(bodies.answer)),
            ("Request", Body.of(bodies.request)),
        ],
        headers=bodies.headers,
    )


def _output(row: AttemptRow, bodies: CallBodies, record_json: str | None) -> Output:
    words = None
    if bodies.answer is not None:
        words = words_of(status=row.status, body=bodies.answer, headers=bodies.headers)
    return output_of(words=words, record_json=record_json, fault=row.fault, message=row.message)
