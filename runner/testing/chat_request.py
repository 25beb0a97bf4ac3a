"""The request side of the wire format: what arrives is checked as the real API checks it."""

import hashlib
import json
import marshal
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .answers import Shape, compile_schema
from .replies import ApiError
from .strict import root_problem, strict_problem

CACHED_SCHEMAS_MAX = 64
SCHEMA_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
TEMPERATURE_MAX = 2
_OPEN_TAG = re.compile(r"<document(?:\s[^<>]*)?>")
_CLOSE_TAG = "</document>"


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What shape the answer must have: `key` names it; None as shape is an object of all labels."""

    key: bytes
    shape: Shape | None = None
    schema_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One accepted request, reduced to what an answer depends on."""

    model: str
    document: str
    document_key: str
    instructions: str  # the leading system or developer messages
    prompt_bytes: int  # UTF-8 of every message's text and of the schema
    system_bytes: int  # UTF-8 of the leading system or developer messages
    output: OutputFormat
    max_output_tokens: int | None
    stream: bool
    include_usage: bool


def document_text(user_message: str) -> str:
    """The stripped text inside <document>…</document>, else the whole message stripped."""
    opened = _OPEN_TAG.search(user_message)
    closed = user_message.rfind(_CLOSE_TAG)
    if opened is None or closed < opened.end():
        return user_message.strip()
    return user_message[opened.end() : closed].strip()


def document_key(text: str) -> str:
    """The key under which the book keeps a document: SHA-256 of its stripped text, hexadecimal."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()


class RequestReader:
    """Reads request bodies and keeps what it learnt about the few schemas that come again."""

    def __init__(self) -> None:
        self._formats: dict[bytes, OutputFormat] = {}

    def read(self, body: bytes) -> ChatRequest:
        """The request in `body`. Raises ApiError with status 400 and the API's words otherwise."""
        request = _parse(body)
        _check_parameters(request)
        texts = [(message["role"], _text(message)) for message in request["messages"]]
        user = next((text for role, text in texts if role == "user"), "")
        document = document_text(user)
        instructions = "\n".join(_leading_system(texts))
        output = self._output(request.get("response_format"), texts, document)
        return ChatRequest(
            model=request["model"],
            document=document,
            document_key=document_key(document),
            instructions=instructions,
            prompt_bytes=sum(_byte_count(text) for _, text in texts) + output.schema_bytes,
            system_bytes=sum(_byte_count(text) for text in _leading_system(texts)),
            output=output,
            max_output_tokens=request.get("max_completion_tokens") or request.get("max_tokens"),
            stream=request.get("stream") or False,
            include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        )

    def _output(
        self, wanted: dict[str, Any] | None, texts: list[tuple[str, str]], document: str
    ) -> OutputFormat:
        """The compiled format of a request, from the cache when it came before."""
        if wanted and wanted.get("type") == "json_schema":
            key = marshal.dumps(wanted)
        else:
            prompt = "\n".join(text for _, text in texts).replace(document, "", 1)
            key = marshal.dumps((wanted, prompt))
        known = self._formats.get(key)
        if known is None:
            known = _compile_format(wanted or {"type": "text"}, key, texts, document)
            if len(self._formats) >= CACHED_SCHEMAS_MAX:
                self._formats.clear()
            self._formats[key] = known
        return known


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            400,
            "We could not parse the JSON body of your request. (The API expects a JSON payload, "
            "but what was sent was not valid JSON.)",
        ) from error
    if not isinstance(request, dict):
        raise ApiError(400, "The body of your request must be a JSON object.")
    return request


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number_up_to(highest: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and 0 <= value <= highest


_REQUIRED: dict[str, Callable[[Any], bool]] = {
    "model": _is_text,
    "messages": lambda value: isinstance(value, list) and value != [],
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "response_format": _is_object,
    "max_completion_tokens": _is_count,
    "max_tokens": _is_count,
    "temperature": _is_number_up_to(TEMPERATURE_MAX),
    "top_p": _is_number_up_to(1),
    "seed": _is_integer,
    "n": lambda value: value == 1 and type(value) is int,
    "stream": _is_flag,
    "stream_options": _is_object,
    "store": _is_flag,
    "metadata": _is_object,
    "user": _is_text,
    "service_tier": _is_text,
    "reasoning_effort": _is_text,
    "prompt_cache_key": _is_text,
    "safety_identifier": _is_text,
}


def _check_parameters(request: dict[str, Any]) -> None:
    for name in _REQUIRED:
        if name not in request:
            raise ApiError(400, f"Missing required parameter: '{name}'.", param=name)
    for name, value in request.items():
        check = _REQUIRED.get(name) or _OPTIONAL.get(name)
        if check is None:
            raise ApiError(400, f"Unrecognized request argument supplied: {name}", param=name)
        if not check(value) and not (value is None and name in _OPTIONAL):
            raise ApiError(400, f"Invalid value for '{name}': {str(value)[:80]!r}.", param=name)
    if request.get("max_tokens") and request.get("max_completion_tokens"):
        raise ApiError(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
        )
    if request.get("stream_options") and not request.get("stream"):
        raise ApiError(
            400, "'stream_options' is only allowed when 'stream' is true.", param="stream_options"
        )
    for position, message in enumerate(request["messages"]):
        _check_message(message, f"messages[{position}]")


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise ApiError(400, f"Invalid type for '{where}': expected an object.", param=where)
    if message.get("role") not in ROLES:
        raise ApiError(
            400,
            f"Invalid value for '{where}.role': {message.get('role')!r}.",
            param=f"{where}.role",
        )
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    if not parts or not all(_is_text_part(part) for part in parts):
        raise ApiError(
            400,
            f"Invalid type for '{where}.content': expected a string or an array of text parts.",
            param=f"{where}.content",
        )


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _leading_system(texts: list[tuple[str, str]]) -> Iterator[str]:
    for role, text in texts:
        if role not in ("system", "developer"):
            return
        yield text


def _compile_format(
    wanted: dict[str, Any], key: bytes, texts: list[tuple[str, str]], document: str
) -> OutputFormat:
    """Check and compile a response_format. Raises ApiError naming response_format."""
    kind = wanted.get("type")
    if kind == "json_schema":
        schema = _checked_schema(wanted.get("json_schema"))
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        return OutputFormat(key, _compile(schema), _byte_count(text))
    if kind not in ("text", "json_object"):
        raise _format_error(f"Invalid value for 'response_format.type': {kind!r}.")
    prompt = "\n".join(text for _, text in texts)
    if kind == "json_object" and "json" not in prompt.lower():
        raise _format_error(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'."
        )
    schema_in_prompt = _schema_in(prompt.replace(document, "", 1))
    return OutputFormat(key, _compile(schema_in_prompt) if schema_in_prompt else None)


def _checked_schema(wanted: Any) -> dict[str, Any]:
    if not isinstance(wanted, dict) or not SCHEMA_NAME.fullmatch(str(wanted.get("name", ""))):
        raise _format_error("Missing or invalid parameter: 'response_format.json_schema.name'.")
    schema = wanted.get("schema")
    if not isinstance(schema, dict):
        raise _format_error("Missing required parameter: 'response_format.json_schema.schema'.")
    problem = strict_problem(schema) if wanted.get("strict") else root_problem(schema)
    if problem:
        raise _format_error(f"Invalid schema for response_format '{wanted['name']}': {problem}")
    return schema


def _compile(schema: dict[str, Any]) -> Shape:
    try:
        return compile_schema(schema)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise _format_error(f"Invalid schema for response_format: {error}") from error


def _format_error(message: str) -> ApiError:
    return ApiError(400, message, param="response_format")


def _schema_in(prompt: str) -> dict[str, Any] | None:
    """The first JSON object in a prompt that looks like the schema of an object."""
    decoder = json.JSONDecoder()
    start = prompt.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(prompt, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and isinstance(value.get("properties"), dict):
            return value
        start = prompt.find("{", start + 1)
    return None
