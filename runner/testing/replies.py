"""The bytes of every reply: completions, streamed completions, and errors in the API's words."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .book import Tokens

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
STREAM_TYPE = "text/event-stream; charset=utf-8"
STREAM_PIECE_CHARS = 24


class ApiError(Exception):
    """A request that the API refuses; becomes an error reply."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = error_body(message=str(self), kind=kind, code=code, param=param)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is to be written: `pieces` is the body in the parts that a stream writes one by one."""

    status: int
    pieces: tuple[bytes, ...]
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The whole body."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Head:
    """What names one completion."""

    seq: int
    model: str
    created_s: int


@dataclass(frozen=True, slots=True)
class Message:
    """The assistant's message: `content` or `refusal` (None is JSON's null) and why it ended."""

    content: str | None
    finish_reason: str = "stop"
    refusal: str | None = None


def error_body(*, message: str, kind: str, code: str | None, param: str | None) -> bytes:
    """The JSON body of an API error."""
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": param, "code": code}}
    ).encode()


def choices_json(message: Message) -> str:
    """The `choices` of a completion with this one message."""
    return (
        '[{"index":0,"message":{"role":"assistant",'
        f'"content":{json.dumps(message.content)},"refusal":{json.dumps(message.refusal)},'
        f'"annotations":[]}},"logprobs":null,"finish_reason":"{message.finish_reason}"}}]'
    )


def completion_body(head: Head, *, choices: str, tokens: Tokens) -> bytes:
    """A chat.completion object with `choices` (JSON text, whatever it is)."""
    return (
        f'{{{_head_json(head, kind="chat.completion")},"choices":{choices},'
        f'"usage":{_usage_json(tokens)}}}'
    ).encode()


def stream_pieces(
    head: Head, *, message: Message, tokens: Tokens, include_usage: bool
) -> tuple[bytes, ...]:
    """The server-sent events of a completion, one bytes object an event."""
    opening = f'{_head_json(head, kind="chat.completion.chunk")},"choices":['
    tail = '],"usage":null}' if include_usage else "]}"
    events = [f"{{{opening}{choice}{tail}" for choice in _delta_choices(message)]
    if include_usage:
        events.append(f'{{{opening}],"usage":{_usage_json(tokens)}}}')
    return tuple(f"data: {event}\n\n".encode() for event in (*events, "[DONE]"))


def _delta_choices(message: Message) -> Iterator[str]:
    """The choice of each chunk: the role, the text in small parts, and the reason of the end."""
    yield _choice_json('{"role":"assistant","content":"","refusal":null}')
    name = "content" if message.refusal is None else "refusal"
    text = message.refusal or message.content or ""
    for start in range(0, len(text), STREAM_PIECE_CHARS):
        part = text[start : start + STREAM_PIECE_CHARS]
        yield _choice_json(f'{{"{name}":{json.dumps(part)}}}')
    yield _choice_json("{}", finish_reason=f'"{message.finish_reason}"')


def _choice_json(delta: str, *, finish_reason: str = "null") -> str:
    return f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}'


def _head_json(head: Head, *, kind: str) -> str:
    return (
        f'"id":"chatcmpl-{head.seq:08d}","object":"{kind}","created":{head.created_s},'
        f'"model":{json.dumps(head.model)},"service_tier":"default","system_fingerprint":"fp_test"'
    )


def _usage_json(tokens: Tokens) -> str:
    return (
        f'{{"prompt_tokens":{tokens.prompt},"completion_tokens":{tokens.completion},'
        f'"total_tokens":{tokens.prompt + tokens.completion},'
        f'"prompt_tokens_details":{{"cached_tokens":{tokens.cached},"audio_tokens":0}},'
        f'"completion_tokens_details":{{"reasoning_tokens":{tokens.reasoning},"audio_tokens":0,'
        '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
    )
