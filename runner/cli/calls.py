"""`runner calls`: lists provider calls; `show` and `search` are in files of their own."""

from collections.abc import Sequence
from typing import Any

import click

from runner.cli.callfilters import filter_options, wanted_calls
from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.lookup import find_document
from runner.cli.session import Session, pass_session
from runner.cli.shapes.calls import CallListShape, CallShape, TraceShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.cli.wording import cost_of_call, duration, short_time
from runner.keys import trace_id
from runner.ledger.calls import document_calls, list_calls

_HERE = "runner.cli.calls"


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "The newest calls first."),
        "show": (
            "runner.cli.call",
            "show",
            "One call: request, answer, parsed output, tokens, cost, latency.",
        ),
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
