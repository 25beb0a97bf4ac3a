"""`runner calls`: every provider call, with its exact request and answer."""

import json
from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy import Connection

from runner.cli.callfilters import filter_options, wanted_calls
from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.lookup import find_document
from runner.cli.session import Session, pass_session
from runner.cli.shapes.calls import CallDetailShape, CallListShape, CallShape, TraceShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.cli.wording import cost_of_call, duration, short_time, usd
from runner.errors import NotFoundError
from runner.keys import trace_id
from runner.ledger.calls import (
    AttemptRow,
    call_bodies,
    document_calls,
    find_call,
    list_calls,
    record_of_call,
)
from runner.outputs import output_of, words_of

_HERE = "runner.cli.calls"


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "The newest calls first."),
        "show": (_HERE, "show", "One call: request, answer, parsed output, tokens, cost, latency."),
        "search": ("runner.cli.search", "search", "Calls whose texts have these words."),
        "trace": (_HERE, "trace", "All calls of one document, in their order."),
    },
)
def calls() -> None:
    """Look at provider calls: each one's exact request and answer, tokens, cost and latency."""


@click.command(
    "list",
    cls=Command,
    example=(
        "runner calls list --batch june --fault schema_invalid",
        "runner calls list --job invoice --prompt v2 --since 2d --min-cost-usd 0.01",
    ),
)
@filter_options
@json_option
@pass_session
def list_(session: Session, /, *, as_json: bool, **filters: Any) -> None:
    """List provider calls, the newest first."""
    with session.ledger() as ledger:
        wanted = wanted_calls(ledger, filters)
        with ledger.snapshot() as connection:
            shapes = tuple(map(CallShape.of, list_calls(connection, wanted)))
    if as_json:
        say_json(CallListShape(calls=shapes))
    elif shapes:
        say_calls(shapes, with_document=True)
    else:
        talk("no such call")


def say_calls(shapes: Sequence[CallShape], *, with_document: bool) -> None:
    """Write calls as a table."""
    columns = [
        Column("call"),
        *([Column("document")] if with_document else []),
        Column("#", right=True),
        Column("at"),
        Column("model"),
        Column("outcome"),
        Column("tokens in", right=True),
        Column("out", right=True),
        Column("cost", right=True),
        Column("took", right=True),
        Column("message", shrinks=True),
    ]
    say_table(columns, [_row(one, with_document=with_document) for one in shapes])


def _row(one: CallShape, *, with_document: bool) -> list[object]:
    return [
        one.attempt_id,
        *([one.document_id] if with_document else []),
        one.number,
        short_time(one.at),
        one.model,
        _outcome(one),
        one.input_tokens,
        one.output_tokens,
        cost_of_call(one.cost_usd, one.ambiguous_usd),
        None if one.response_s is None else duration(one.response_s),
        one.message,
    ]


def _outcome(one: CallShape) -> str:
    if one.fault is not None:
        return one.fault
    return "ok" if one.state == "concluded" else one.state


@click.command("show", cls=Command, example=("runner calls show a01kaqz…",))
@click.argument("attempt")
@json_option
@pass_session
def show(session: Session, /, *, attempt: str, as_json: bool) -> None:
    """Show one call: what was sent, what came back and was read from it, tokens, cost, latency."""
    with session.ledger() as ledger, ledger.snapshot() as connection:
        row = find_call(connection, attempt)
        if row is None:
            raise NotFoundError(f"no call {attempt!r}: `runner calls list` shows their ids")
        shape = _detail(connection, row)
    if as_json:
        say_json(shape)
        return
    say(lines_of(_facts(shape)))
    say("\nparsed output\n" + _output(shape))
    say("\nrequest\n" + _pretty(shape.request))
    say("\nanswer\n" + _pretty(shape.answer))


def _detail(connection: Connection, row: AttemptRow) -> CallDetailShape:
    bodies = call_bodies(connection, row.id)
    words = None
    if bodies.answer is not None:
        words = words_of(status=row.status, body=bodies.answer, headers=bodies.headers)
    record_json = record_of_call(connection, row.id)
    output = output_of(words=words, record_json=record_json, fault=row.fault, message=row.message)
    return CallDetailShape.of_call(row, bodies, output)


def _output(one: CallDetailShape) -> str:
    """The data for a person, above it why it did not become a record."""
    told = "" if one.output_problem is None else f"(no record: {one.output_problem})\n"
    if one.output is None:
        return told + "(none is left, or none was received)"
    if isinstance(one.output, str):
        return told + one.output
    return told + json.dumps(one.output, indent=2, ensure_ascii=False)


def _facts(one: CallDetailShape) -> list[tuple[str, object]]:
    steps = [
        ("queue", one.queue_wait_s),
        ("rate limit", one.limiter_wait_s),
        ("answer", one.response_s),
        ("reading", one.parse_s),
        ("in all", one.total_s),
    ]
    latency = ", ".join(f"{name} {duration(took)}" for name, took in steps if took is not None)
    return [
        ("call", one.attempt_id),
        ("document", one.document_id),
        ("number", one.number),
        ("model", one.model),
        ("prompt", one.prompt),
        ("state", one.state),
        ("HTTP status", one.status),
        ("fault", one.fault),
        ("message", one.message),
        ("input tokens", _tokens(one.input_tokens, one.cached_tokens, "cached")),
        ("output tokens", _tokens(one.output_tokens, one.reasoning_tokens, "reasoning")),
        ("service tier", one.service_tier),
        ("cost", cost_of_call(one.cost_usd, one.ambiguous_usd)),
        ("held before", None if one.hold_usd is None else usd(one.hold_usd)),
        ("sent", one.at),
        ("latency", latency),
        ("worker", one.worker_id),
        ("trace id", one.trace_id),
    ]


def _tokens(tokens: int | None, part: int | None, name: str) -> str | None:
    if tokens is None:
        return None
    return f"{tokens:,}" + (f" ({part:,} {name})" if part else "")


def _pretty(body: str | None) -> str:
    """A body for a person: indented when it is JSON, as it is when not."""
    if body is None:
        return "(removed, or never received)"
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


@click.command("trace", cls=Command, example=("runner calls trace invoices/0042.pdf",))
@click.argument("document")
@json_option
@pass_session
def trace(session: Session, /, *, document: str, as_json: bool) -> None:
    """Show all calls of one document in their order, with the trace id that links them."""
    with session.ledger() as ledger:
        document_id = find_document(ledger, document)
        with ledger.snapshot() as connection:
            shapes = tuple(map(CallShape.of, document_calls(connection, document_id)))
    if as_json:
        say_json(TraceShape(document_id=document_id, trace_id=trace_id(document_id), calls=shapes))
        return
    say(lines_of([("document", document_id), ("trace id", trace_id(document_id))]))
    if not shapes:
        talk("no call was made for it")
        return
    say("")
    say_table(
        (
            *(Column("#", right=True), Column("call"), Column("at"), Column("model")),
            *(Column("queue", right=True), Column("rate limit", right=True)),
            *(Column("answer", right=True), Column("reading", right=True), Column("outcome")),
            *(Column("cost", right=True), Column("message", shrinks=True)),
        ),
        [_trace_row(one) for one in shapes],
    )


def _trace_row(one: CallShape) -> tuple[object, ...]:
    return (
        one.number,
        one.attempt_id,
        short_time(one.at),
        one.model,
        duration(one.queue_wait_s),
        duration(one.limiter_wait_s),
        None if one.response_s is None else duration(one.response_s),
        None if one.parse_s is None else duration(one.parse_s),
        _outcome(one),
        cost_of_call(one.cost_usd, one.ambiguous_usd),
        one.message,
    )
