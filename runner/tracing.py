"""OpenTelemetry traces of turns, sent by workers while the environment names a collector.

A trace is a document: its id is the `trace_id` that results and the call log show. Each turn is one
root span, with a span each for its wait for the limiter, its call and the reading of its answer.
Spans carry ids, names, counts and times: never text of a document or an answer, and never a key.
Needs the extra `otel`; sending goes on in a thread of its own and holds no work up.
"""

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runner.keys import trace_id
from runner.log import log

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SEND_MAX_S = 5.0
TURN, LIMITER_WAIT, CALL, VALIDATE = "turn", "limiter wait", "call", "validate"

# Every attribute of a span by the field it is read from: the names of OpenTelemetry's conventions
# for generative AI where there are some (https://opentelemetry.io/docs/specs/semconv/gen-ai/).
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "system": ("gen_ai.system", "gen_ai.provider.name"),
    "operation": ("gen_ai.operation.name",),
    "model": ("gen_ai.request.model",),
    "input_tokens": ("gen_ai.usage.input_tokens",),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
    "output_tokens": ("gen_ai.usage.output_tokens",),
    "server": ("server.address",),
    "status": ("http.response.status_code",),
    "fault": ("error.type",),
    "document_id": ("runner.document.id",),
    "batch_id": ("runner.batch.id",),
    "job": ("runner.job",),
    "prompt_id": ("runner.prompt.id",),
    "attempt_id": ("runner.attempt.id",),
    "worker_id": ("runner.worker.id",),
    "outcome": ("runner.outcome",),
    "cost_nusd": ("runner.cost_nusd",),
}
_OF_CALL = (
    *("system", "operation", "model", "input_tokens", "cached_tokens", "output_tokens"),
    *("server", "status", "fault", "attempt_id", "cost_nusd"),
)
_OF_TURN = ("document_id", "batch_id", "job", "prompt_id", "worker_id", "outcome", "fault")


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a turn, by the monotonic clock."""

    name: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTold:
    """A turn that has ended, as a trace tells it."""

    began_ns: int
    ended_ns: int
    steps: Sequence[Span]
    document_id: str
    batch_id: str
    job: str
    prompt_id: str
    worker_id: str
    outcome: str
    model: str
    server: str | None = None
    attempt_id: str | None = None
    status: int | None = None
    fault: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost_nusd: int | None = None
    system: str = "openai"  # the API that is spoken, whoever serves it
    operation: str = "chat"


class Traces(Protocol):
    """Takes turns that have ended."""

    def tell(self, turn: TurnTold) -> None:
        """Send it, some time soon."""

    def close(self) -> None:
        """Send what is left, for a bounded time."""


def open_traces(env: Mapping[str, str]) -> Traces | None:
    """What sends traces; None when the environment names no collector, or switches traces off."""
    is_off = env.get("OTEL_TRACES_EXPORTER") == "none" or env.get("OTEL_SDK_DISABLED") == "true"
    if is_off or not any(env.get(name) for name in ENDPOINTS):
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        log("no_traces", f"{ENDPOINTS[0]} is set, but the extra `otel` is not installed: no traces")
        return None
    return _Sent(env)


class _Sent:
    """Traces through the SDK, whose own variables say where and with what headers they go."""

    def __init__(self, env: Mapping[str, str]) -> None:
        # a third of a second and 20 MB that only a traced worker spends
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

        named = "OTEL_SERVICE_NAME" in env or "service.name=" in env.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        timeout_s = None if "OTEL_EXPORTER_OTLP_TIMEOUT" in env else SEND_MAX_S
        self._ids = _ids()
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": "runner"}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout_s)))
        self._tracer = self._provider.get_tracer("runner")
        self._wall_ns = time.time_ns() - time.monotonic_ns()

    def tell(self, turn: TurnTold) -> None:
        """Hand its spans to the thread that sends them; what it cannot take is lost."""
        from opentelemetry.context import Context  # noqa: PLC0415 - loaded by now
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 - as above

        self._ids.trace = int(trace_id(turn.document_id), 16)
        root = self._tracer.start_span(
            TURN,
            context=Context(),
            start_time=self._wall_ns + turn.began_ns,
            attributes=_attributes(turn, _OF_TURN),
        )
        within = set_span_in_context(root, Context())
        for step in turn.steps:
            is_call = step.name == CALL
            span = self._tracer.start_span(
                f"{turn.operation} {turn.model}" if is_call else step.name,
                context=within,
                kind=SpanKind.CLIENT if is_call else SpanKind.INTERNAL,
                start_time=self._wall_ns + step.began_ns,
                attributes=_attributes(turn, _OF_CALL) if is_call else {},
            )
            _mark(span, turn.fault if is_call else None)
            span.end(self._wall_ns + step.ended_ns)
        _mark(root, turn.fault)
        root.end(self._wall_ns + turn.ended_ns)

    def close(self) -> None:
        """Send what is left; a collector that does not answer is left after `SEND_MAX_S`."""
        self._provider.shutdown()


def _mark(span: Any, fault: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - loaded by now

    if fault is not None:
        span.set_status(Status(StatusCode.ERROR, fault))


def _attributes(turn: TurnTold, names: Sequence[str]) -> dict[str, str | int]:
    found = {name: getattr(turn, name) for name in names}
    return {
        attribute: value
        for name, value in found.items()
        if value is not None
        for attribute in ATTRIBUTES[name]
    }


def _ids() -> Any:
    """Ids of spans at random, the trace's own as it was last set."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415 - see above

    class Ids(RandomIdGenerator):
        trace = 0

        def generate_trace_id(self) -> int:
            return self.trace

    return Ids()
