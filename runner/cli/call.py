"""`runner calls show`: one call, with its exact request and answer."""

import json

import click
from sqlalchemy import Connection

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.call import CallDetailShape
from runner.cli.terminal import lines_of, say, say_json
from runner.cli.wording import cost_of_call, duration, usd
from runner.errors import NotFoundError
from runner.ledger.calls import AttemptRow, call_bodies, find_call, record_of_call
from runner.outputs import output_of, words_of


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
