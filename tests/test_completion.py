"""Reading provider answers: every row that a status or a body decides, and hostile bytes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.completion import MESSAGE_MAX_CHARS, RETRY_AFTER_MAX_S, read_answer, retry_after_s
from runner.model import Completion, Failure, Fault, RawAnswer, Usage

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
NO_USE: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 3}


def answered(tree: object, *, status: int = 200, **headers: str) -> RawAnswer:
    body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawAnswer(status=status, body=body, headers=named)


def completion_tree(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": more.pop("content", "{}")}
    message |= {"refusal": more.pop("refusal", None)}
    choice = {"index": 0, "finish_reason": more.pop("finish_reason", "stop"), "message": message}
    return {"model": "m-1", "choices": [choice], "usage": NO_USE} | more


def failure_of(tree: object, *, status: int, **headers: str) -> Failure:
    reading = read_answer(answered(tree, status=status, **headers))
    assert reading.failure is not None
    return reading.failure


def completion_of(tree: object) -> Completion:
    completion = read_answer(answered(tree)).completion
    assert completion is not None
    return completion


def error(**parts: object) -> dict[str, object]:
    return {"error": parts}


@pytest.mark.parametrize(
    ("status", "tree", "fault"),
    [
        (429, error(code="rate_limit_exceeded", type="tokens"), Fault.RATE_LIMITED),
        (429, error(code="tokens_per_day_limit_exceeded"), Fault.RATE_LIMITED),
        (429, b"busy", Fault.RATE_LIMITED),
        (429, error(code="slow_down"), Fault.RAMPED_TOO_FAST),
        (503, error(type="slow_down"), Fault.RAMPED_TOO_FAST),
        (429, error(code="insufficient_quota"), Fault.MONEY_OUT),
        (429, error(type="insufficient_quota", code=None), Fault.MONEY_OUT),
        (429, error(code="credit_balance_exhausted"), Fault.MONEY_OUT),
        (429, error(code="billing_hard_limit_reached"), Fault.MONEY_OUT),
        (429, error(code="organization_spend_limit_exceeded"), Fault.MONEY_OUT),
        (402, error(message="Insufficient Balance"), Fault.MONEY_OUT),
        (401, error(code="invalid_api_key"), Fault.BAD_KEY),
        (403, b"<html>no</html>", Fault.NO_PERMISSION),
        (404, error(code="model_not_found"), Fault.MODEL_GONE),
        (404, error(message='model "m" not found, try pulling it first'), Fault.MODEL_GONE),
        (404, error(message="The model `m` does not exist."), Fault.MODEL_GONE),
        (400, error(code="model_not_found", param="model"), Fault.MODEL_GONE),
        (404, b"<html><h1>Not Found</h1></html>", Fault.REQUEST_REFUSED),
        (307, b"", Fault.REQUEST_REFUSED),
        (400, error(code="context_length_exceeded", param="messages"), Fault.TOO_LONG),
        (400, error(message="This model's maximum context length is 4096"), Fault.TOO_LONG),
        (400, error(type="exceed_context_size_error", code=400), Fault.TOO_LONG),
        (400, error(message="Invalid schema for response_format"), Fault.REQUEST_REFUSED),
        (400, error(message="nope", param="temperature"), Fault.REQUEST_REFUSED),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "bad"}]}, Fault.REQUEST_REFUSED),
        (400, error(code="content_filter", param="prompt"), Fault.FILTERED),
        (400, error(message="bad image", param="messages.[0].content"), Fault.BAD_REQUEST),
        (400, error(message="no"), Fault.BAD_REQUEST),
        (422, {"detail": "no"}, Fault.BAD_REQUEST),
        (413, b"too large", Fault.BAD_REQUEST),
        (418, error(message="teapot"), Fault.BAD_REQUEST),
        (408, b"", Fault.CONFLICT),
        (409, b"", Fault.CONFLICT),
        (500, {"error": "out of memory"}, Fault.SERVER_ERROR),
        (503, b"<html>", Fault.SERVER_ERROR),
        (529, error(type="overloaded_error"), Fault.SERVER_ERROR),
        (200, b"<html>hello</html>", Fault.NOT_A_COMPLETION),
        (200, b"", Fault.NOT_A_COMPLETION),
        (200, b'{"choices": [', Fault.NOT_A_COMPLETION),
        (200, [1], Fault.NOT_A_COMPLETION),
        (200, {"choices": None}, Fault.NOT_A_COMPLETION),
        (200, {"choices": []}, Fault.NOT_A_COMPLETION),
        (200, {"choices": [None]}, Fault.NOT_A_COMPLETION),
        (200, {"choices": [{"message": None}]}, Fault.NOT_A_COMPLETION),
        (200, error(message="upstream died"), Fault.NOT_A_COMPLETION),
        (200, completion_tree(finish_reason="length"), Fault.TRUNCATED),
        (200, completion_tree(refusal="I can't", content=None), Fault.REFUSED),
        (200, completion_tree(finish_reason="content_filter"), Fault.FILTERED),
    ],
)
def test_an_answer_is_recognised_as_its_row_of_the_failure_table(
    status: int, tree: object, fault: Fault
) -> None:
    assert failure_of(tree, status=status).fault is fault


def test_a_good_answer_is_a_completion_with_all_its_usage() -> None:
    usage = {
        "prompt_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "completion_tokens": 20,
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    tree = completion_tree(usage=usage, content='{"a": 1}', service_tier="flex")
    reading = read_answer(answered(tree))
    assert reading.failure is None
    assert reading.completion == Completion(
        text='{"a": 1}',
        finish_reason="stop",
        usage=Usage(100, 40, 10, 20, 5, "flex"),
        model="m-1",
    )


@pytest.mark.parametrize(
    "tree",
    [
        completion_tree(finish_reason="length"),
        completion_tree(refusal="no"),
        completion_tree(finish_reason="content_filter", content=None),
        {"choices": [], "usage": NO_USE},
        {"error": {"message": "died"}, "usage": NO_USE},
    ],
)
def test_paid_tokens_are_kept_beside_a_failure(tree: object) -> None:
    reading = read_answer(answered(tree))
    assert reading.failure is not None
    assert reading.completion is not None
    assert reading.completion.usage_reported
    assert reading.completion.usage == Usage(input_tokens=7, output_tokens=3)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"prompt_tokens": 7},
        {"prompt_tokens": "7", "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3},
        {"prompt_tokens": 7.5, "completion_tokens": 3},
        {"prompt_tokens": -7, "completion_tokens": 3},
        {"prompt_tokens": 10**12, "completion_tokens": 3},
        NO_USE | {"prompt_tokens_details": {"cached_tokens": 8}},
        NO_USE | {"prompt_tokens_details": {"cached_tokens": "8"}},
        NO_USE | {"completion_tokens_details": {"reasoning_tokens": 4}},
    ],
)
def test_usage_that_cannot_be_true_counts_as_not_reported(usage: object) -> None:
    completion = completion_of(completion_tree(usage=usage))
    assert not completion.usage_reported
    assert completion.usage == Usage()


def test_null_usage_details_are_no_tokens() -> None:
    nulls = {"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}}
    completion = completion_of(completion_tree(usage=NO_USE | nulls))
    assert completion.usage_reported
    assert completion.usage == Usage(input_tokens=7, output_tokens=3)


def test_text_given_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "{"}, {"type": "text", "text": "}"}, None]
    assert completion_of(completion_tree(content=parts)).text == "{}"


def test_a_message_without_text_is_an_empty_answer_of_the_model() -> None:
    reading = read_answer(answered(completion_tree(content=None)))
    assert reading.failure is None
    assert reading.completion is not None
    assert reading.completion.text == ""


def test_a_wrong_base_url_is_explained() -> None:
    failure = failure_of(b"<html>\n<h1>Not Found</h1></html>", status=404)
    assert "base_url" in failure.message
    assert "Not Found" in failure.message
    assert "<" not in failure.message


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_message_is_one_bounded_line_without_control_characters(status: int) -> None:
    hostile = "a\x1b[31m\u202e\r\n\x00" + "b" * 10_000
    message = failure_of({"error": {"message": hostile}}, status=status).message
    assert len(message) <= MESSAGE_MAX_CHARS
    assert message.isprintable()
    assert "[31m" in message


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"error":' * 100_000,
        b'{"choices":[{"message":{"content":"\\ud800"}}]}',
        b'{"error":{"message":' + b"9" * 100_000 + b"}}",
        b'{"error":{"message":"' + b"model " * 200_000 + b'"}}',
        b"<" * 1_000_000,
        b"\xff\xfe",
    ],
    ids=["depth", "nesting", "surrogate", "giant integer", "long text", "tags", "no utf-8"],
)
def test_hostile_bytes_are_a_failure_and_never_an_exception(status: int, body: bytes) -> None:
    assert read_answer(answered(body, status=status)).failure is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "error", "detail", "loc", "code", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    tree=json_values,
    status=st.integers(200, 599),
    retry_after=st.text(max_size=30),
    date=st.text(max_size=30),
)
def test_any_json_of_any_status_reads_as_a_completion_or_a_failure(
    tree: object, status: int, retry_after: str, date: str
) -> None:
    reading = read_answer(answered(tree, status=status, retry_after=retry_after, date=date))
    assert reading.completion or reading.failure
    if reading.failure:
        assert len(reading.failure.message) <= MESSAGE_MAX_CHARS


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "20"}, 20.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "500ms"}, 0.5),
        ({"retry-after": "1h0m2s"}, 3602.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 13:00:30 +0100"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Mon, 23 Nov 2036 11:00:00 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "86401"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "99d"}, None),
        ({"retry-after": "1m 30s please"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_every_notation_and_never_absurd(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert retry_after_s(headers, now=NOW) == wait_s


@given(text=st.text(alphabet="0123456789.mshdMonNvGT:+-, ", max_size=40))
def test_retry_after_is_none_or_within_a_day(text: str) -> None:
    wait_s = retry_after_s({"retry-after": text, "retry-after-ms": text}, now=NOW)
    assert wait_s is None or 0 <= wait_s <= RETRY_AFTER_MAX_S


def test_a_retry_date_counts_from_the_clock_of_the_server_that_named_it() -> None:
    failure = failure_of(
        error(code="rate_limit_exceeded"),
        status=429,
        date="Mon, 23 Nov 2020 12:00:00 GMT",
        retry_after="Mon, 23 Nov 2020 12:00:30 GMT",
    )
    assert failure.retry_after_s == 30.0


def test_a_retry_date_without_a_server_clock_is_ignored() -> None:
    late = "Mon, 23 Nov 2020 12:00:30 GMT"
    assert failure_of({}, status=429, retry_after=late).retry_after_s is None
