"""Builds the body of a chat completions request: the same inputs always give the same bytes."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic_core import to_json

from runner.model import FieldError
from runner.prompts import Parameters, RenderedPrompt, render_reask

StructuredOutput = Literal["json_schema", "json_object", "none"]

_SCHEMA_IN_WORDS = """\
{system}

Answer with one JSON object that matches this JSON schema, and with nothing else:
{schema}"""


def build_body(
    *,
    api_model: str,
    rendered: RenderedPrompt,
    schema: Mapping[str, Any],
    schema_name: str,
    structured_output: StructuredOutput,
    parameters: Parameters,
    max_output_tokens: int,
    reask: Sequence[FieldError],
    streams: bool = False,
) -> bytes:
    """Return the JSON bytes to send.

    `schema` is strict (`runner.jsonschema`); where the provider cannot enforce one
    (`structured_output` is not json_schema) it stands at the end of the system message. Errors in
    `reask` follow the document in the user message: the beginning stays equal, for the provider's
    prompt cache. `max_output_tokens` is the limit of this call; `parameters.max_output_tokens` is
    not looked at. `streams`: the answer is to come as server-sent events, its usage with it.
    """
    head, tail = _around_user(
        api_model=api_model,
        system=rendered.system,
        schema_json=to_json(schema),
        schema_name=schema_name,
        structured_output=structured_output,
        parameters=parameters,
        max_output_tokens=max_output_tokens,
        streams=streams,
    )
    user = f"{rendered.user}\n\n{render_reask(reask)}" if reask else rendered.user
    return b"".join((head, to_json(user), tail))


# All but the document is the same for thousands of calls: 64 covers versions, models and doublings.
@lru_cache(maxsize=64)
def _around_user(
    *,
    api_model: str,
    system: str,
    schema_json: bytes,
    schema_name: str,
    structured_output: StructuredOutput,
    parameters: Parameters,
    max_output_tokens: int,
    streams: bool,
) -> tuple[bytes, bytes]:
    rest: dict[str, Any] = parameters.model_dump(exclude_none=True, exclude={"max_output_tokens"})
    rest["max_completion_tokens"] = max_output_tokens
    if streams:
        rest |= {"stream": True, "stream_options": {"include_usage": True}}
    match structured_output:
        case "json_schema":
            # put in as bytes: parsing and writing it again could only change it
            wanted = b'{"name":%b,"strict":true,"schema":%b}' % (to_json(schema_name), schema_json)
            ending = b',"response_format":{"type":"json_schema","json_schema":%b}}' % wanted
        case "json_object":
            ending = b',"response_format":{"type":"json_object"}}'
        case "none":
            ending = b"}"
    if structured_output != "json_schema":
        system = _SCHEMA_IN_WORDS.format(system=system, schema=schema_json.decode())
    head = b'{"model":%b,"messages":[{"role":"system","content":%b},{"role":"user","content":' % (
        to_json(api_model),
        to_json(system),
    )
    return head, b"}]," + to_json(rest)[1:-1] + ending
