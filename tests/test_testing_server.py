"""The provider process speaks the wire format, fails as told, and books exactly what it did."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from runner.testing import FAULTS, Entry, ProviderError, ProviderProcess, document_key

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "total": {"type": "number"},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"n": {"type": "integer"}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "total", "rows"],
    "additionalProperties": False,
}
TEXT = "Name: Ann\nTotal: 12.50 EUR\n\n| n |\n|---|\n| 17 |\n| 23 |"
ANSWER = {"name": "Ann", "total": 12.5, "rows": [{"n": 17}, {"n": 23}]}


@dataclass(frozen=True)
class Reply:
    """An HTTP reply, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def body(text: str = TEXT, **changes: Any) -> dict[str, Any]:
    json_schema = {"name": "extraction", "strict": True, "schema": SCHEMA}
    request = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Extract."},
            {"role": "user", "content": f"Here it is.\n<document>\n{text}\n</document>"},
        ],
        "response_format": {"type": "json_schema", "json_schema": json_schema},
        "max_completion_tokens": 4096,
        **changes,
    }
    return {name: value for name, value in request.items() if value is not ...}


def send(
    provider: ProviderProcess,
    content: Any,
    *,
    key: str | None = "k",
    path: str = "/v1/chat/completions",
    timeout_s: float = 60,
    method: str = "POST",
) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(provider.base_url).netloc, timeout=timeout_s)
    headers = {"X-Runner-Attempt": "a1", **({"Authorization": f"Bearer {key}"} if key else {})}
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    try:
        connection.request(method, path, body=raw, headers=headers)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, named, answer.read())
    finally:
        connection.close()


def span_s(entry: Entry) -> tuple[float, float]:
    """When it got its place and when it ended."""
    assert entry.begun_s is not None
    assert entry.finished_s is not None
    return entry.begun_s, entry.finished_s


def settled(provider: ProviderProcess) -> list[Any]:
    """The book once nothing is in flight: a broken connection is noticed a moment later."""
    until_s = time.monotonic() + 30
    while provider.summary().in_flight and time.monotonic() < until_s:
        time.sleep(0.01)
    return provider.book()


def wait_for_calls(provider: ProviderProcess, calls: int) -> None:
    """Until so many have come."""
    until_s = time.monotonic() + 30
    while len(provider.book()) < calls:
        assert time.monotonic() < until_s, f"{calls} calls did not come"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared() -> Iterator[ProviderProcess]:
    with ProviderProcess(input_usd_per_mtok="0.25", output_usd_per_mtok="2") as provider:
        yield provider


@pytest.fixture
def provider(shared: ProviderProcess) -> ProviderProcess:
    shared.control(
        heal=True,
        clear=True,
        rpm=None,
        tpm=None,
        window_s=60,
        limit_headers=True,
        retry_after=True,
        serve_at_once=None,
        batch_slowdown=0,
        models=[],
        latency_ms=0,
        reasoning_tokens=0,
        context_tokens=None,
        model_prices={},
    )
    return shared


def test_a_document_is_answered_counted_priced_and_booked(provider: ProviderProcess) -> None:
    reply = send(provider, body())
    answer = reply.json()
    assert reply.status == 200
    assert (answer["object"], answer["model"], answer["service_tier"]) == (
        "chat.completion",
        "m",
        "default",
    )
    message = answer["choices"][0]["message"]
    assert (message["role"], message["refusal"]) == ("assistant", None)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert json.loads(message["content"]) == ANSWER
    texts = [part["content"] for part in body()["messages"]]
    schema = json.dumps(SCHEMA, separators=(",", ":"))
    prompt_tokens = -(-len("".join(texts) + schema) // 4)
    completion_tokens = -(-len(message["content"]) // 4)
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        prompt_tokens,
        completion_tokens,
    )
    assert usage["total_tokens"] == prompt_tokens + completion_tokens
    (entry,) = provider.book()
    assert (entry.attempt_id, entry.document_key) == ("a1", document_key(TEXT))
    assert (entry.status, entry.nth, entry.answered, entry.usage_sent) == (200, 1, True, True)
    assert entry.cost_nusd == prompt_tokens * 250 + completion_tokens * 2000
    assert entry.received_s <= (entry.finished_s or 0) <= time.monotonic()
    assert reply.headers["x-request-id"]


def test_a_long_system_prompt_is_cached_and_reasoning_is_billed(provider: ProviderProcess) -> None:
    provider.control(reasoning_tokens=50)
    messages = [{"role": "system", "content": "x" * 4500}, *body()["messages"][1:]]
    usage = send(provider, body(messages=messages)).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 1024
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 50
    (entry,) = provider.book()
    assert (entry.cached_tokens, entry.reasoning_tokens) == (1024, 50)
    assert entry.completion_tokens == usage["completion_tokens"] > 50


def test_an_answer_longer_than_allowed_is_cut(provider: ProviderProcess) -> None:
    answer = send(provider, body(max_completion_tokens=3)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3
    assert len(answer["choices"][0]["message"]["content"]) == 12


OPEN_SCHEMA = {key: value for key, value in SCHEMA.items() if key != "additionalProperties"}
LAX_SCHEMA = {**SCHEMA, "required": ["name"]}
DEFAULT_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "default": "x"}},
    "required": ["a"],
    "additionalProperties": False,
}


def with_schema(schema: Any) -> dict[str, Any]:
    json_schema = {"name": "x", "strict": True, "schema": schema}
    return body(response_format={"type": "json_schema", "json_schema": json_schema})


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"{not json", None),
        (b"[]", None),
        (body(messages=...), "messages"),
        (body(model=...), "model"),
        (body(messages=[]), "messages"),
        (body(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (body(temperature=3), "temperature"),
        (body(max_completion_tokens=0), "max_completion_tokens"),
        (body(max_tokens=5), "max_tokens"),
        (body(made_up=1), "made_up"),
        (body(stream_options={"include_usage": True}), "stream_options"),
        (body(response_format={"type": "xml"}), "response_format"),
        (body(response_format={"type": "json_object"}), "response_format"),
        (body(response_format={"type": "json_schema", "json_schema": {}}), "response_format"),
        (with_schema(OPEN_SCHEMA), "response_format"),
        (with_schema(LAX_SCHEMA), "response_format"),
        (with_schema(DEFAULT_SCHEMA), "response_format"),
        (with_schema({"type": "array", "items": {"type": "string"}}), "response_format"),
    ],
)
def test_a_bad_request_is_refused_by_name_and_costs_nothing(
    provider: ProviderProcess, content: Any, param: str | None
) -> None:
    reply = send(provider, content)
    assert reply.status == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.json()["error"]["param"] == param
    (entry,) = provider.book()
    assert (entry.status, entry.paid, entry.cost_nusd) == (400, False, 0)


def test_json_mode_takes_the_schema_from_the_prompt_or_gives_all_labels(
    provider: ProviderProcess,
) -> None:
    asked = f"Answer in JSON of this schema: {json.dumps(SCHEMA)}"
    user = body()["messages"][1]
    for response_format in ({"type": "json_object"}, ...):
        content = body(
            messages=[{"role": "system", "content": asked}, user], response_format=response_format
        )
        text = send(provider, content).json()["choices"][0]["message"]["content"]
        assert json.loads(text) == ANSWER
    text = send(provider, body(response_format=...)).json()["choices"][0]["message"]["content"]
    assert json.loads(text) == {"name": "Ann", "total": "12.50 EUR"}


def test_keys_are_asked_for_and_can_be_revoked_or_run_out_of_money(
    provider: ProviderProcess,
) -> None:
    assert send(provider, body(), key=None).json()["error"]["code"] == "invalid_api_key"
    provider.control(revoked_keys=["old"], quota_out_keys=["poor"])
    assert [send(provider, body(), key=key).status for key in ("old", "poor", "good")] == [
        401,
        429,
        200,
    ]
    assert send(provider, body(), key="poor").json()["error"]["code"] == "insufficient_quota"
    provider.control(heal=True)
    assert [send(provider, body(), key=key).status for key in ("old", "poor")] == [200, 200]
    assert len({entry.key_id for entry in provider.book()}) == 4


def test_models_are_listed_and_a_gone_one_is_refused(provider: ProviderProcess) -> None:
    provider.control(models=["m", "n"], gone_models=["n"])
    listed = send(provider, b"", path="/v1/models", method="GET").json()
    assert [model["id"] for model in listed["data"]] == ["m"]
    assert send(provider, b"", path="/v1/models/m", method="GET").status == 200
    assert send(provider, b"", path="/v1/models", method="GET", key=None).status == 401
    for name in ("n", "unheard-of"):
        assert send(provider, body(model=name)).json()["error"]["code"] == "model_not_found"
    provider.control(heal=True)
    assert send(provider, body(model="n")).status == 200


def test_a_prompt_beyond_the_context_is_refused(provider: ProviderProcess) -> None:
    provider.control(context_tokens=150)
    assert send(provider, body()).status == 200
    refused = send(provider, body(TEXT + "x" * 900)).json()["error"]
    assert refused["code"] == "context_length_exceeded"


def test_a_stream_carries_the_same_text_and_usage(provider: ProviderProcess) -> None:
    content = body(stream=True, stream_options={"include_usage": True})
    reply = send(provider, content)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert json.loads("".join(delta.get("content", "") for delta in deltas)) == ANSWER
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    (entry,) = provider.book()
    assert chunks[-1]["usage"]["completion_tokens"] == entry.completion_tokens
    assert entry.usage_sent


async def test_the_openai_client_reads_both_kinds_of_answer(provider: ProviderProcess) -> None:
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as client:
        whole = await client.chat.completions.create(**body())
        assert json.loads(whole.choices[0].message.content or "") == ANSWER
        assert whole.usage
        stream = await client.chat.completions.create(
            **body(), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage == whole.usage
        assert [model.id async for model in client.models.list()] == ["test-small", "test-large"]
        provider.control(faults={"rules": [{"fault": "slow_down"}]})
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**body())
        assert caught.value.code == "slow_down"


HTTP_FAULTS = {
    "rate_limited": (429, "rate_limit_exceeded"),
    "rate_limited_seconds": (429, "rate_limit_exceeded"),
    "rate_limited_ms": (429, "rate_limit_exceeded"),
    "rate_limited_http_date": (429, "rate_limit_exceeded"),
    "rate_limited_duration": (429, "rate_limit_exceeded"),
    "slow_down": (429, "slow_down"),
    "insufficient_quota": (429, "insufficient_quota"),
    "credit_balance_exhausted": (429, "credit_balance_exhausted"),
    "billing_limit_exceeded": (429, "billing_limit_exceeded"),
    "invalid_api_key_401": (401, "invalid_api_key"),
    "no_permission_403": (403, None),
    "model_not_found_404": (404, "model_not_found"),
    "context_length_exceeded": (400, "context_length_exceeded"),
    "schema_refused_400": (400, None),
    "parameter_refused_400": (400, "unsupported_value"),
    "bad_request_400": (400, "invalid_prompt"),
    "too_large_413": (413, "request_too_large"),
    "unprocessable_422": (422, None),
    "timeout_408": (408, None),
    "conflict_409": (409, None),
    "server_error_500": (500, None),
    "unavailable_503": (503, None),
    "overloaded_529": (529, None),
}


@pytest.mark.parametrize("fault", HTTP_FAULTS)
def test_an_error_status_says_its_code_and_bills_nothing(
    provider: ProviderProcess, fault: str
) -> None:
    provider.control(faults={"rules": [{"fault": fault, "first": 1}]})
    reply = send(provider, body())
    assert (reply.status, reply.json()["error"]["code"]) == HTTP_FAULTS[fault]
    assert send(provider, body()).status == 200
    hit, answered = provider.book()
    assert (hit.fault, hit.status, hit.paid, hit.cost_nusd) == (fault, reply.status, False, 0)
    assert (answered.fault, answered.nth, answered.paid) == (None, 2, True)


def test_a_refusal_says_when_to_come_back_in_four_ways(provider: ProviderProcess) -> None:
    def headers(style: str) -> dict[str, str]:
        rule = {"fault": f"rate_limited_{style}", "retry_after_s": 90}
        provider.control(faults={"rules": [rule]})
        return send(provider, body()).headers

    assert headers("seconds")["retry-after"] == "90"
    assert headers("ms")["retry-after-ms"] == "90000"
    assert headers("duration")["retry-after"] == "1m30s"
    due = parsedate_to_datetime(headers("http_date")["retry-after"])
    assert 89 <= (due - datetime.now(UTC)).total_seconds() <= 91


BROKEN = ("html_200", "malformed_json_200", "empty_body_200", "choices_null", "choices_empty")


@pytest.mark.parametrize("fault", [*BROKEN, "error_200", "bad_gateway_502"])
def test_a_body_that_is_no_completion_arrives_whole(provider: ProviderProcess, fault: str) -> None:
    provider.control(faults={"rules": [{"fault": fault}]})
    reply = send(provider, body())
    (entry,) = provider.book()
    assert reply.status == (502 if fault == "bad_gateway_502" else 200)
    assert entry.answered
    assert entry.paid == (fault in {"malformed_json_200", "choices_null", "choices_empty"})
    assert entry.usage_sent == fault.startswith("choices")
    if entry.usage_sent:
        assert reply.json()["usage"]["prompt_tokens"] == entry.prompt_tokens
        assert reply.json()["choices"] == (None if fault == "choices_null" else [])
    elif fault == "error_200":
        assert reply.json()["error"]["type"] == "server_error"
    else:
        with pytest.raises(json.JSONDecodeError):
            reply.json()


@pytest.mark.parametrize(
    ("fault", "reason", "has_content", "refused"),
    [
        ("truncated", "length", True, False),
        ("content_filter", "content_filter", False, False),
        ("refusal", "stop", False, True),
    ],
)
def test_a_completion_can_end_without_an_answer_and_is_billed(
    provider: ProviderProcess, fault: str, reason: str, *, has_content: bool, refused: bool
) -> None:
    provider.control(faults={"rules": [{"fault": fault}]})
    choice = send(provider, body()).json()["choices"][0]
    assert choice["finish_reason"] == reason
    assert bool(choice["message"]["content"]) == has_content
    assert bool(choice["message"]["refusal"]) == refused
    (entry,) = provider.book()
    assert entry.paid
    assert entry.cost_nusd == entry.prompt_tokens * 250 + entry.completion_tokens * 2000


def content_under(provider: ProviderProcess, fault: str, **more: Any) -> str:
    provider.control(clear=True, faults={"rules": [{"fault": fault, **more}]})
    answer = send(provider, body(max_completion_tokens=...)).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    (entry,) = provider.book()
    assert entry.fault == fault
    assert entry.paid
    assert entry.usage_sent
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "fault", ["fenced_json", "trailing_text", "cut_json", "invalid_json", "giant_integer"]
)
def test_text_that_is_no_json(provider: ProviderProcess, fault: str) -> None:
    content = content_under(provider, fault)
    with pytest.raises(ValueError, match=r"Expecting|Extra data|Exceeds|Unterminated"):
        json.loads(content)
    if fault in {"fenced_json", "trailing_text"}:
        assert json.loads(content[content.index("{") : content.rindex("}") + 1]) == ANSWER


def test_hostile_json_is_what_it_says(provider: ProviderProcess) -> None:
    assert "[" * 10_000 in content_under(provider, "deep_json")
    assert "NaN" in content_under(provider, "nan_number")
    pairs: list[tuple[str, Any]] = []
    json.loads(content_under(provider, "duplicate_keys"), object_pairs_hook=pairs.extend)
    assert len(pairs) > len(dict(pairs))


@pytest.mark.parametrize("fault", ["wrong_type", "missing_field", "extra_field"])
def test_schema_invalid_answers_have_another_shape(provider: ProviderProcess, fault: str) -> None:
    found = json.loads(content_under(provider, fault))
    shapes = {name: type(value) for name, value in found.items()}
    assert shapes != {name: type(value) for name, value in ANSWER.items()}


@pytest.mark.parametrize(
    "fault", ["invented_value", "swapped_digits", "dropped_row", "wrong_field"]
)
def test_silent_errors_keep_the_shape_and_are_booked_with_their_place(
    provider: ProviderProcess, fault: str
) -> None:
    found = json.loads(content_under(provider, fault))
    assert found != ANSWER
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in ANSWER.items()
    }
    (entry,) = provider.book()
    assert (entry.altered or "").split(".")[0] in ANSWER
    assert found == json.loads(content_under(provider, fault))


def test_a_scripted_answer_is_given_as_it_stands(provider: ProviderProcess) -> None:
    assert content_under(provider, "scripted", answer='{"total": -1}') == '{"total": -1}'


@pytest.mark.parametrize("fault", ["drop_before_answer", "drop_mid_body", "reset_mid_body"])
def test_a_dropped_connection_is_booked_as_paid_and_not_answered(
    provider: ProviderProcess, fault: str
) -> None:
    provider.control(faults={"rules": [{"fault": fault, "first": 1}]})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        send(provider, body())
    assert send(provider, body()).status == 200
    hit, _ = settled(provider)
    assert (hit.fault, hit.answered, hit.usage_sent, hit.paid) == (fault, False, False, True)
    assert hit.cost_nusd > 0


@pytest.mark.parametrize("fault", ["hang", "hang_mid_body", "drip"])
def test_a_call_that_hangs_ends_when_the_client_leaves(
    provider: ProviderProcess, fault: str
) -> None:
    provider.control(faults={"rules": [{"fault": fault, "paid": False}]})
    if fault == "drip":  # each byte comes in time, the whole does not
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(drip_for, provider, 1.2)
            assert 1 <= call.result() <= 3
    else:
        with pytest.raises(TimeoutError):
            send(provider, body(), timeout_s=0.2)
    (hit,) = settled(provider)
    assert (hit.fault, hit.answered, hit.paid, hit.cost_nusd) == (fault, False, False, 0)


def drip_for(provider: ProviderProcess, duration_s: float) -> int:
    """Read a dripping body for a while; how many bytes came."""
    connection = http.client.HTTPConnection(urlsplit(provider.base_url).netloc, timeout=5)
    connection.request(
        "POST",
        "/v1/chat/completions",
        body=json.dumps(body()),
        headers={"Authorization": "Bearer k"},
    )
    answer = connection.getresponse()
    until_s, count = time.monotonic() + duration_s, 0
    while time.monotonic() < until_s:
        count += len(answer.read(1))
    connection.close()
    return count


def test_every_fault_there_is_has_a_test_above() -> None:
    tested = {
        *HTTP_FAULTS,
        *BROKEN,
        *("error_200", "bad_gateway_502", "truncated", "content_filter", "refusal"),
        *("fenced_json", "trailing_text", "cut_json", "invalid_json", "giant_integer"),
        *("deep_json", "nan_number", "duplicate_keys", "wrong_type", "missing_field"),
        *("extra_field", "invented_value", "swapped_digits", "dropped_row"),
        *("wrong_field", "scripted"),
        *("drop_before_answer", "drop_mid_body", "reset_mid_body"),
        *("hang", "hang_mid_body", "drip"),
    }
    assert tested == set(FAULTS)


def test_the_rolling_window_refuses_and_tells_when(provider: ProviderProcess) -> None:
    provider.control(rpm=2, window_s=30)
    first, second, refused = (send(provider, body()) for _ in range(3))
    assert (first.status, second.status, refused.status) == (200, 200, 429)
    assert first.headers["x-ratelimit-limit-requests"] == "4"  # a minute
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert "x-ratelimit-limit-tokens" not in first.headers
    assert 0 < int(refused.headers["retry-after-ms"]) <= 30_000
    assert send(provider, body(), key="another").status == 200
    assert provider.summary().over_limit == 1
    provider.control(rpm=1, window_s=0.5)
    until_s = time.monotonic() + 30
    while (refused := send(provider, body())).status == 200 and time.monotonic() < until_s:
        pass  # on a busy machine a window may be over before the next call
    wait_ms = int(refused.headers["retry-after-ms"])
    assert 0 < wait_ms <= 500
    time.sleep(wait_ms / 1000)
    assert send(provider, body()).status == 200
    tokens = provider.book()[0].prompt_tokens + provider.book()[0].completion_tokens
    provider.control(rpm=None, tpm=2 * tokens, window_s=60)
    assert [send(provider, body()).status for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("retry_after", [True, False])
def test_a_provider_may_tell_only_when_to_come_back_or_nothing_at_all(
    provider: ProviderProcess, *, retry_after: bool
) -> None:
    provider.control(rpm=1, tpm=10_000, limit_headers=False, retry_after=retry_after)
    first, refused = send(provider, body()), send(provider, body())
    assert refused.status == 429
    assert not [name for name in {**first.headers, **refused.headers} if "ratelimit" in name]
    told = [name for name in refused.headers if name.startswith("retry-after")]
    assert bool(told) == retry_after
    assert (b"try again" in refused.body) == retry_after


def test_who_finds_no_place_waits_in_line_before_the_latency_begins(
    provider: ProviderProcess,
) -> None:
    provider.control(latency_ms=100, serve_at_once=2)
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: send(provider, body()), range(6)))
    assert {reply.status for reply in replies} == {200}
    spans_s = [span_s(entry) for entry in provider.book()]
    assert spans_s == sorted(spans_s)  # in the order of arrival
    for (_, earlier_ended_s), (later_begun_s, _) in zip(spans_s, spans_s[2:], strict=False):
        assert later_begun_s >= earlier_ended_s
    summary = provider.summary()
    assert (summary.peak_waiting, summary.admitted) == (4, 6)


def test_a_place_is_given_up_by_who_leaves_and_a_line_moves_up_when_there_are_more(
    provider: ProviderProcess,
) -> None:
    provider.control(serve_at_once=1, faults={"rules": [{"fault": "hang", "match": "stuck"}]})
    with ThreadPoolExecutor(3) as pool:
        stuck = pool.submit(send, provider, body("stuck"), timeout_s=1.5)
        wait_for_calls(provider, 1)
        gone = pool.submit(send, provider, body("leaves the line"), timeout_s=0.5)
        wait_for_calls(provider, 2)
        waiting = pool.submit(send, provider, body())
        for left in (gone, stuck):
            with pytest.raises(TimeoutError):
                left.result()
        assert waiting.result().status == 200
        again = pool.submit(send, provider, body("stuck"), timeout_s=3)
        wait_for_calls(provider, 4)
        second = pool.submit(send, provider, body())
        wait_for_calls(provider, 5)
        assert not second.done()
        provider.control(serve_at_once=2)
        assert second.result().status == 200
        assert not again.done()
        with pytest.raises(TimeoutError):
            again.result()


def test_a_batching_server_is_slower_the_more_it_serves(provider: ProviderProcess) -> None:
    provider.control(latency_ms=400, batch_slowdown=1)  # long enough for three to come meanwhile
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: send(provider, body()), range(3)))
    took_s = [ended_s - begun_s for begun_s, ended_s in map(span_s, settled(provider))]
    for expected_s, measured_s in zip((0.4, 0.8, 1.2), took_s, strict=True):
        assert expected_s <= measured_s < expected_s + 0.39


def test_a_refusal_needs_no_place(provider: ProviderProcess) -> None:
    provider.control(rpm=1, latency_ms=1_500, serve_at_once=1)
    with ThreadPoolExecutor(2) as pool:
        served = pool.submit(send, provider, body())
        wait_for_calls(provider, 1)
        assert send(provider, body()).status == 429
        assert not served.done()


def test_bad_changes_are_refused_and_change_nothing(provider: ProviderProcess) -> None:
    before = provider.control()
    for changes in ({"rpms": 3}, {"rpm": 0}, {"faults": {"rules": [{"fault": "x"}]}}):
        with pytest.raises(ProviderError, match="nothing was changed"):
            provider.control(**changes, clear=True)
    assert provider.control() == before


def test_each_model_can_have_its_own_price(provider: ProviderProcess) -> None:
    provider.control(model_prices={"dear": {"input_usd_per_mtok": "10"}})
    send(provider, body(model="dear"))
    (entry,) = provider.book()
    assert entry.cost_nusd == entry.prompt_tokens * 10_000


def test_answers_wait_for_the_latency_side_by_side(provider: ProviderProcess) -> None:
    provider.control(latency_ms=500)
    started_s = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: send(provider, body()), range(8)))
    elapsed_s = time.monotonic() - started_s
    assert {reply.status for reply in replies} == {200}
    assert 0.5 <= elapsed_s < 3.0, "one after the other would be 4 s"
    assert provider.summary().peak_in_flight > 1


def test_the_process_writes_its_book_and_its_address_and_stops_on_sigterm(tmp_path: Path) -> None:
    book, address = tmp_path / "book.jsonl", tmp_path / "url"
    command = [sys.executable, "-m", "runner.testing", "--book", str(book)]
    options = ["--port-file", str(address), "--faults", '{"rules": [{"fault": "hang"}]}']
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
        assert process.stdout
        line = process.stdout.readline().decode().split()
        assert line[:2] == ["listening", "on"]
        assert address.read_text().strip() == line[2]
        calling = subprocess.Popen([sys.executable, "-c", HANGING_CALL, line[2]])
        until_s = time.monotonic() + 30
        while calling.poll() is None and not _in_flight(line[2]) and time.monotonic() < until_s:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert calling.wait(60) != 0
    (entry,) = [json.loads(text) for text in book.read_text().splitlines()]
    assert (entry["fault"], entry["answered"], entry["paid"]) == ("hang", False, True)


HANGING_CALL = """
import http.client, json, sys, urllib.parse
connection = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc)
body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": "Bearer k"})
sys.stderr.close()
connection.getresponse()
"""


def _in_flight(base_url: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc)
    connection.request("GET", "/_book/summary")
    count: int = json.loads(connection.getresponse().read())["in_flight"]
    connection.close()
    return count


def test_the_process_ends_with_the_one_that_started_it() -> None:
    starter = (
        "import os, sys; from runner.testing import ProviderProcess\n"
        "provider = ProviderProcess(); provider.start(); print(provider.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.wait()
    until_s = time.monotonic() + 30
    while _alive(pid) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_bad_options_are_explained() -> None:
    with pytest.raises(ProviderError, match="rpm"):
        ProviderProcess(rpm=-1).start()


def test_a_client_killed_mid_call_still_pays(provider: ProviderProcess) -> None:
    provider.control(latency_ms=60_000)
    content = json.dumps(body()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(provider.base_url).port or 0)) as client:
        client.sendall(head.encode() + b"Authorization: Bearer k\r\n\r\n" + content)
        until_s = time.monotonic() + 30
        while not provider.summary().in_flight and time.monotonic() < until_s:
            time.sleep(0.01)
    (entry,) = settled(provider)
    assert (entry.answered, entry.paid) == (False, True)
    assert (entry.finished_s or 0) - entry.received_s < 40, "it ended when its client did"
