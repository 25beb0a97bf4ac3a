"""Reads a raw provider answer: a completion with its usage, and the failure that it stands for."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic_core import from_json

from runner.model import Completion, Failure, Fault, RawAnswer, Usage

MESSAGE_MAX_CHARS = 300
RETRY_AFTER_MAX_S = 86_400.0
TOKENS_MAX = 1_000_000_000  # more than that was not counted but made up

_TIER_MAX_CHARS = 40
_MONEY_OUT_KINDS = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "insufficient_balance"}
)
_BILLING_LIMIT = re.compile(
    r"(billing|spend|budget|credit|quota|cost|payment|balance)\w*_limit_(exceeded|reached)"
)
_FILTER_KINDS = frozenset({"content_filter", "content_policy_violation"})
_TOO_LONG_KINDS = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG_TEXT = re.compile(
    r"(maximum|exceeds?\b.{0,40}) context (length|size|window)|prompt is too long", re.IGNORECASE
)
_MODEL_GONE_TEXT = re.compile(
    r"\bmodel\b.{0,120}(not found|not exist|no such|unknown)", re.IGNORECASE
)
_PARAMETER_TEXT = re.compile(
    r"response_format|json_schema|\bschema\b|\bparameter\b|unsupported value|unrecognized request"
    r"|\btemperature\b|\btop_p\b|\bseed\b|\bmax_(completion_)?tokens\b|\breasoning_effort\b",
    re.IGNORECASE,
)
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says.

    `failure` is None exactly when the completion can be used as it is. `completion` stands beside
    a failure when the answer was truncated, refused or filtered, or reported usage at all: paid
    tokens are never lost.
    """

    completion: Completion | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class _Problem:
    """An error answer: its machine-readable kinds (type and code), parameter, and text."""

    kinds: tuple[str, ...]
    param: str
    text: str


def read_answer(raw: RawAnswer) -> Reading:
    """Read one answer by the failure table; raises nothing, whatever the bytes are.

    A retry-after that is a date counts from the answer's own Date header, so that neither the
    machine's clock nor the moment of reading matters.
    """
    tree = _tree(raw.body)
    if raw.status // 100 == 2:  # noqa: PLR2004 - the success class of HTTP
        return _read_success(raw, tree)
    problem = _problem(tree, raw.body)
    fault, hint = _fault(raw.status, problem)
    failure = Failure(
        fault=fault,
        message=_plain(f"HTTP {raw.status}{hint}: {problem.text or 'no explanation'}"),
        retry_after_s=retry_after_s(raw.headers, now=_server_time(raw.headers)),
    )
    return Reading(None, failure)


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None) -> float | None:
    """Seconds to wait as `retry-after-ms` or `retry-after` asks (number, `1m30s`, HTTP date).

    Header names are lower-case. Between 0 and 86,400; None when neither is there or makes sense.
    A date is understood only with `now` (aware).
    """
    in_ms = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(in_ms) and (wait_s := _bounded(float(in_ms) / 1_000)) is not None:
        return wait_s
    asked = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(asked):
        return _bounded(float(asked))
    parts = _DURATION.findall(asked)
    if parts and "".join(number + unit for number, unit in parts) == asked:
        return _bounded(math.fsum(float(number) * _UNIT_S[unit] for number, unit in parts))
    date = _http_date(asked)
    return _bounded((date - now).total_seconds()) if date and now else None


def _bounded(wait_s: float) -> float | None:
    return wait_s if 0 <= wait_s <= RETRY_AFTER_MAX_S else None


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else None


def _server_time(headers: Mapping[str, str]) -> datetime | None:
    return _http_date(headers.get("date", ""))


def _tree(body: bytes) -> Any:
    """The body as JSON, None when it is none; the parser bounds depth and number length itself."""
    try:
        return from_json(body)
    except ValueError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


# Success


def _read_success(raw: RawAnswer, tree: Any) -> Reading:
    choices = _mapping(tree).get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = _mapping(choice).get("message")
    if not isinstance(message, dict):
        return _read_no_completion(raw, tree)
    usage = _usage(_mapping(tree))
    completion = Completion(
        text=_content(message.get("content")),
        finish_reason=_plain(_string(_mapping(choice).get("finish_reason"))),
        usage=usage or Usage(),
        model=_plain(_string(tree.get("model"))),
        refusal=_plain(_string(message.get("refusal"))) or None,
        usage_reported=usage is not None,
    )
    return Reading(completion, _spoiled(completion))


def _read_no_completion(raw: RawAnswer, tree: Any) -> Reading:
    if isinstance(tree, dict):
        lack = (
            f"no choices; it says: {text}" if (text := _problem(tree, b"").text) else "no choices"
        )
    else:
        lack = "not a JSON object: " + (_excerpt(raw.body) or "empty body")
    failure = Failure(
        fault=Fault.NOT_A_COMPLETION,
        message=_plain(f"HTTP {raw.status}, but not a completion: {lack}"),
        retry_after_s=retry_after_s(raw.headers, now=_server_time(raw.headers)),
    )
    usage = _usage(_mapping(tree))
    if usage is None:
        return Reading(None, failure)
    model = _plain(_string(tree.get("model")))
    return Reading(Completion(text="", finish_reason="", usage=usage, model=model), failure)


def _spoiled(completion: Completion) -> Failure | None:
    """Why a completion cannot be used: refused, filtered or truncated."""
    if completion.refusal:
        return Failure(Fault.REFUSED, _plain(f"the model refused: {completion.refusal}"))
    if completion.finish_reason == "content_filter":
        return Failure(Fault.FILTERED, "the provider's content filter stopped the answer")
    if completion.finish_reason == "length":
        tokens = completion.usage.output_tokens
        return Failure(Fault.TRUNCATED, f"the answer was cut off after {tokens} output tokens")
    return None


def _content(value: Any) -> str:
    """The text of a message; some servers give it as a list of parts."""
    if isinstance(value, list):
        return "".join(_string(_mapping(part).get("text")) for part in value)
    return _string(value)


def _usage(tree: Mapping[str, Any]) -> Usage | None:
    """The usage, or None when it is missing or cannot be true: then the worst case is paid."""
    reported = tree.get("usage")
    if not isinstance(reported, dict):
        return None
    inward = _mapping(reported.get("prompt_tokens_details"))
    outward = _mapping(reported.get("completion_tokens_details"))
    counts = (
        _count(reported.get("prompt_tokens")),
        _count(inward.get("cached_tokens") or 0),
        _count(inward.get("cache_write_tokens") or 0),
        _count(reported.get("completion_tokens")),
        _count(outward.get("reasoning_tokens") or 0),
    )
    if min(counts) < 0:
        return None
    usage = Usage(*counts, service_tier=_string(tree.get("service_tier"))[:_TIER_MAX_CHARS] or None)
    if usage.cached_tokens + usage.cache_write_tokens > usage.input_tokens:
        return None
    return usage if usage.reasoning_tokens <= usage.output_tokens else None


def _count(value: Any) -> int:
    """A plausible number of tokens, else -1."""
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else -1


# Errors


def _problem(tree: Any, body: bytes) -> _Problem:
    """The error in the shapes that servers use: an object, a string, the `detail` of FastAPI."""
    answer = _mapping(tree)
    error = answer.get("error", answer)
    if isinstance(error, str):
        return _Problem((), "", _cut(error))
    error = _mapping(error)
    detail = error.get("detail")
    if isinstance(detail, list) and detail:
        first = _mapping(detail[0])
        place = first.get("loc")
        param = _cut(str(place[-1])) if isinstance(place, list) and place else ""
        return _Problem((), param, f"{param}: {_cut(_string(first.get('msg')))}")
    return _Problem(
        kinds=tuple(_cut(_string(error.get(name))).lower() for name in ("type", "code")),
        param=_cut(_string(error.get("param"))),
        text=_cut(_string(error.get("message")) or _string(detail) or _excerpt(body)),
    )


def _fault(status: int, problem: _Problem) -> tuple[Fault, str]:
    """The row of the failure table, and what to look at when the provider's text does not say."""
    match status // 100:
        case 4:
            return _client_fault(status, problem)
        case 3:
            return Fault.REQUEST_REFUSED, " (a redirect, not followed; mend the model's base_url)"
        case _:
            ramped = "slow_down" in problem.kinds
            return (Fault.RAMPED_TOO_FAST if ramped else Fault.SERVER_ERROR), ""


def _client_fault(status: int, problem: _Problem) -> tuple[Fault, str]:  # noqa: PLR0911 - a row each
    if any(_is_money(kind) for kind in problem.kinds):
        return Fault.MONEY_OUT, ""
    match status:
        case 429:
            ramped = "slow_down" in problem.kinds
            return (Fault.RAMPED_TOO_FAST if ramped else Fault.RATE_LIMITED), ""
        case 402:
            return Fault.MONEY_OUT, ""
        case 401:
            return Fault.BAD_KEY, " (check the key that the model's api_key_env names)"
        case 403:
            return Fault.NO_PERMISSION, " (the key may not use this model)"
        case 404:
            if "model_not_found" in problem.kinds or _MODEL_GONE_TEXT.search(problem.text):
                return Fault.MODEL_GONE, ""
            return Fault.REQUEST_REFUSED, " (nothing is served there; check the model's base_url)"
        case 408 | 409:
            return Fault.CONFLICT, ""
        case 400 | 422:
            return _refusal(problem), ""
        case _:
            return Fault.BAD_REQUEST, ""


def _is_money(kind: str) -> bool:
    return (
        kind in _MONEY_OUT_KINDS
        or kind.startswith("billing_")
        or _BILLING_LIMIT.search(kind) is not None
    )


def _refusal(problem: _Problem) -> Fault:
    """Which kind of 400 or 422; `messages…` as the parameter is the document, not configuration."""
    if _TOO_LONG_KINDS.intersection(problem.kinds) or _TOO_LONG_TEXT.search(problem.text):
        return Fault.TOO_LONG
    if _FILTER_KINDS.intersection(problem.kinds):
        return Fault.FILTERED
    if "model_not_found" in problem.kinds:
        return Fault.MODEL_GONE
    if problem.param.startswith("messages"):
        return Fault.BAD_REQUEST
    if problem.param or _PARAMETER_TEXT.search(problem.text):
        return Fault.REQUEST_REFUSED
    return Fault.BAD_REQUEST


# Text for people


def _cut(text: str) -> str:
    """The part of a foreign text that is looked at: the rest could be megabytes."""
    return text[: 8 * MESSAGE_MAX_CHARS]


def _excerpt(body: bytes) -> str:
    """The beginning of a body that is no JSON, without its tags."""
    text = body[: 8 * MESSAGE_MAX_CHARS].decode("utf-8", errors="replace")
    return re.sub(r"<[^<>]*>", " ", text)


def _plain(text: str) -> str:
    """One bounded line without control characters or direction marks."""
    line = " ".join("".join(c if c.isprintable() else " " for c in _cut(text)).split())
    return line if len(line) <= MESSAGE_MAX_CHARS else line[: MESSAGE_MAX_CHARS - 1] + "…"
