"""Traces reach a real collector: one trace a document, its turns and their steps, and no text."""

import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from runner.keys import trace_id
from runner.testing.control import ProviderProcess
from runner.tracing import _OF_CALL, _OF_TURN, ATTRIBUTES, TurnTold, open_traces
from tests.roads import KEY, Road


class Collector(ThreadingHTTPServer):
    """Keeps what is sent to /v1/traces."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Any]:
        """Every span that has come."""
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.paths.add(self.path)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_each_document_is_a_trace_of_its_turns_with_their_steps(
    road: Road, provider: ProviderProcess, collector: Collector
) -> None:
    road.more_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    provider.control(faults={"rules": [{"fault": "invalid_json", "rate": 0.3}]})
    inputs = road.write_documents(20)
    done = road.call("run", "invoice", str(inputs), "--batch", "june")
    assert done.returncode in (0, 3), done.stderr
    attempts, book = road.attempts(), provider.book()
    assert len(attempts) > 20, "void: nothing was asked again"
    assert collector.paths == {"/v1/traces"}
    spans = collector.spans()
    turns = {span.span_id: span for span in spans if span.name == "turn"}
    calls = [span for span in spans if span.name.startswith("chat ")]
    assert {span.trace_id.hex() for span in spans} == {
        trace_id(one.document_id) for one in attempts
    }
    assert not any(turn.parent_span_id for turn in turns.values())
    assert {attributes(call)["runner.attempt.id"] for call in calls} == {a.id for a in attempts}
    for span in spans:
        if span.name != "turn":
            turn = turns[span.parent_span_id]
            assert span.trace_id == turn.trace_id
            assert turn.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= turn.end_time_unix_nano
    names = {span.name for span in spans} - {call.name for call in calls}
    assert names == {"turn", "limiter wait", "validate"}
    told = [attributes(call) for call in calls]
    assert sum(one["gen_ai.usage.input_tokens"] for one in told) == sum(
        entry.prompt_tokens for entry in book
    )
    assert sum(one["runner.cost_nusd"] for one in told) == sum(entry.cost_nusd for entry in book)
    assert {one["gen_ai.system"] for one in told} == {"openai"}
    faults = [one["error.type"] for one in told if "error.type" in one]
    assert set(faults) == {"invalid_json"}
    assert all(call.status.code == 2 for call in calls if "error.type" in attributes(call))
    sent = b"".join(collector.bodies)
    assert KEY.encode() not in sent
    lines = {line.strip() for line in inputs.read_text().split("\\n") if len(line) > 25}
    assert not [line for line in lines if line.encode() in sent]


def test_a_collector_that_is_away_costs_no_document(road: Road, provider: ProviderProcess) -> None:
    road.more_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    done = road.call("run", "invoice", str(road.write_documents(5)), "--batch", "june")
    assert done.returncode == 0, done.stderr


def test_no_collector_no_traces() -> None:
    assert open_traces({}) is None
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    assert open_traces(named | {"OTEL_TRACES_EXPORTER": "none"}) is None
    assert open_traces(named | {"OTEL_SDK_DISABLED": "true"}) is None


def test_every_attribute_is_a_field_and_stands_in_a_span() -> None:
    told = {field.name for field in fields(TurnTold)}
    assert set(ATTRIBUTES) == set(_OF_CALL) | set(_OF_TURN)
    assert set(ATTRIBUTES) <= told
