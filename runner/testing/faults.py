"""Every fault that the provider can inject, and the rules that say which request gets which.

A rule without `match`, `instructions`, `models`, `from_request`, `to_request` or `keys` is common:
the common rules share one draw in [0, 1) a document, their rates laid end to end, so that they
never overlap and exactly the same documents are hit every time. The other rules are targeted: they
are tried first, in their order, each with a draw of its own. `first` lets a rule hit only the first
N requests of a document that got past authentication, quota and rate limits.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from . import spoil

DRAW_BITS = 53  # what a float holds exactly, so that a draw stays below 1


class RetryStyle(StrEnum):
    """How a refusal says when to come back."""

    NONE = "none"
    SECONDS = "seconds"  # retry-after: 2
    MILLISECONDS = "milliseconds"  # retry-after-ms: 1500
    HTTP_DATE = "http_date"  # retry-after: Wed, 04 Nov 2026 10:00:00 GMT
    DURATION = "duration"  # retry-after: 1m30s


@dataclass(frozen=True, slots=True)
class HttpFault:
    """An error status; nothing is billed."""

    status: int
    message: str
    code: str | None = None
    kind: str = "invalid_request_error"
    param: str | None = None
    retry: RetryStyle = RetryStyle.NONE
    html: bool = False


class BrokenBody(StrEnum):
    """A 200 whose body is not a completion."""

    HTML = "html"
    MALFORMED = "malformed"
    EMPTY = "empty"
    CHOICES_NULL = "choices_null"
    CHOICES_EMPTY = "choices_empty"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class BodyFault:
    """A 200 that is not a completion; `paid` and whether the counts of tokens can be read."""

    body: BrokenBody
    paid: bool
    usage_readable: bool


class Ending(StrEnum):
    """A completion that did not end with an answer."""

    LENGTH = "length"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class EndingFault:
    """A completion without an answer; billed as usual."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class ContentFault:
    """A completion whose text is wrong; billed as usual."""

    spoiler: spoil.Spoiler


class Transport(StrEnum):
    """How the bytes of a good answer fail to arrive."""

    WHOLE = "whole"
    DROP_BEFORE = "drop_before"
    DROP_MID_BODY = "drop_mid_body"
    RESET_MID_BODY = "reset_mid_body"
    HANG = "hang"
    HANG_MID_BODY = "hang_mid_body"
    DRIP = "drip"


@dataclass(frozen=True, slots=True)
class TransportFault:
    """A good answer that does not arrive; billed, as a real provider would have done the work."""

    transport: Transport


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A completion whose text the rule gives; billed as usual."""


Fault = ScriptedFault | HttpFault | BodyFault | EndingFault | ContentFault | TransportFault

_RATE_MESSAGE = "Rate limit reached for requests. Please try again later."


def _rate_limited(retry: RetryStyle) -> HttpFault:
    return HttpFault(429, _RATE_MESSAGE, "rate_limit_exceeded", "requests", retry=retry)


def _money_out(code: str, kind: str = "insufficient_quota") -> HttpFault:
    return HttpFault(
        429, "You exceeded your current quota, check your billing details.", code, kind
    )


FAULTS: dict[str, Fault] = {
    "rate_limited": _rate_limited(RetryStyle.NONE),
    "rate_limited_seconds": _rate_limited(RetryStyle.SECONDS),
    "rate_limited_ms": _rate_limited(RetryStyle.MILLISECONDS),
    "rate_limited_http_date": _rate_limited(RetryStyle.HTTP_DATE),
    "rate_limited_duration": _rate_limited(RetryStyle.DURATION),
    "slow_down": HttpFault(
        429, "Please reduce your request rate and ramp up slowly.", "slow_down", "slow_down"
    ),
    "insufficient_quota": _money_out("insufficient_quota"),
    "credit_balance_exhausted": _money_out("credit_balance_exhausted", "billing_error"),
    "billing_limit_exceeded": _money_out("billing_limit_exceeded", "billing_error"),
    "invalid_api_key_401": HttpFault(401, "Incorrect API key provided.", "invalid_api_key"),
    "no_permission_403": HttpFault(
        403, "You are not allowed to use this model.", None, "permission_denied"
    ),
    "model_not_found_404": HttpFault(
        404, "The model does not exist or you do not have access to it.", "model_not_found"
    ),
    "context_length_exceeded": HttpFault(
        400,
        "This model's maximum context length is exceeded; please shorten the messages.",
        "context_length_exceeded",
        param="messages",
    ),
    "schema_refused_400": HttpFault(
        400, "Invalid schema for response_format 'extraction'.", param="response_format"
    ),
    "parameter_refused_400": HttpFault(
        400,
        "Unsupported value: 'temperature' does not support 0 with this model.",
        "unsupported_value",
        param="temperature",
    ),
    "bad_request_400": HttpFault(400, "Invalid prompt: it was flagged.", "invalid_prompt"),
    "too_large_413": HttpFault(413, "The request is too large.", "request_too_large"),
    "unprocessable_422": HttpFault(422, "The request could not be processed."),
    "timeout_408": HttpFault(408, "The request timed out.", None, "timeout"),
    "conflict_409": HttpFault(409, "The request conflicts with another one.", None, "conflict"),
    "server_error_500": HttpFault(
        500, "The server had an error while processing your request.", None, "server_error"
    ),
    "bad_gateway_502": HttpFault(502, "Bad Gateway", None, "server_error", html=True),
    "unavailable_503": HttpFault(
        503, "The engine is currently overloaded.", None, "server_error", retry=RetryStyle.SECONDS
    ),
    "overloaded_529": HttpFault(529, "Overloaded", None, "overloaded_error"),
    "drop_before_answer": TransportFault(Transport.DROP_BEFORE),
    "drop_mid_body": TransportFault(Transport.DROP_MID_BODY),
    "reset_mid_body": TransportFault(Transport.RESET_MID_BODY),
    "hang": TransportFault(Transport.HANG),
    "hang_mid_body": TransportFault(Transport.HANG_MID_BODY),
    "drip": TransportFault(Transport.DRIP),
    "html_200": BodyFault(BrokenBody.HTML, paid=False, usage_readable=False),
    "malformed_json_200": BodyFault(BrokenBody.MALFORMED, paid=True, usage_readable=False),
    "empty_body_200": BodyFault(BrokenBody.EMPTY, paid=False, usage_readable=False),
    "choices_null": BodyFault(BrokenBody.CHOICES_NULL, paid=True, usage_readable=True),
    "choices_empty": BodyFault(BrokenBody.CHOICES_EMPTY, paid=True, usage_readable=True),
    "error_200": BodyFault(BrokenBody.ERROR, paid=False, usage_readable=False),
    "truncated": EndingFault(Ending.LENGTH),
    "refusal": EndingFault(Ending.REFUSAL),
    "content_filter": EndingFault(Ending.CONTENT_FILTER),
    "fenced_json": ContentFault(spoil.fenced),
    "trailing_text": ContentFault(spoil.trailing_text),
    "cut_json": ContentFault(spoil.cut_json),
    "invalid_json": ContentFault(spoil.invalid_json),
    "wrong_type": ContentFault(spoil.wrong_type),
    "missing_field": ContentFault(spoil.missing_field),
    "extra_field": ContentFault(spoil.extra_field),
    "deep_json": ContentFault(spoil.deep_json),
    "nan_number": ContentFault(spoil.not_a_number),
    "giant_integer": ContentFault(spoil.giant_integer),
    "duplicate_keys": ContentFault(spoil.duplicate_keys),
    "invented_value": ContentFault(spoil.invented_value),
    "swapped_digits": ContentFault(spoil.swapped_digits),
    "dropped_row": ContentFault(spoil.dropped_row),
    "wrong_field": ContentFault(spoil.wrong_field),
    "scripted": ScriptedFault(),
}


@dataclass(frozen=True, slots=True)
class Occasion:
    """One request, as far as rules look at it."""

    document_key: str
    document: str
    instructions: str
    model: str
    api_key: str
    nth_of_document: int  # 1 is the first admitted request for this document
    nth_request: int  # 1 is the first request since the start, or since the book was cleared


class Rule(BaseModel):
    """Which requests get which fault. `paid` overrides whether the fault's call is billed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    rate: float = Field(default=1.0, ge=0, le=1)
    first: int | None = Field(default=None, ge=1)
    match: re.Pattern[str] | None = None  # searched for in the document's text
    instructions: re.Pattern[str] | None = None  # searched for in the system messages
    models: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None  # API keys
    from_request: int | None = Field(default=None, ge=1)
    to_request: int | None = Field(default=None, ge=1)  # inclusive
    paid: bool | None = None
    retry_after_s: float = Field(default=1.0, ge=0)
    bytes_per_s: float = Field(default=1.0, gt=0)  # of a drip
    answer: str | None = None  # of the fault `scripted`

    @field_validator("fault")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FAULTS:
            raise ValueError(f"no fault is called {name!r}; there are {', '.join(sorted(FAULTS))}")
        return name

    @model_validator(mode="after")
    def _answer_of_scripted(self) -> Self:
        if (self.fault == "scripted") != (self.answer is not None):
            raise ValueError("an `answer` belongs to the fault `scripted`, and that needs one")
        return self

    @property
    def effect(self) -> Fault:
        """What happens to a request that this rule hits."""
        return FAULTS[self.fault]

    @property
    def common(self) -> bool:
        """Whether this rule looks at nothing but the document's draw."""
        words = (self.match, self.instructions)
        targets = (*words, self.models, self.keys, self.from_request, self.to_request)
        return all(target is None for target in targets)

    def aims_at(self, occasion: Occasion) -> bool:
        """Whether a request has everything that this rule names; the rate is not looked at."""
        return (
            (self.from_request is None or occasion.nth_request >= self.from_request)
            and (self.to_request is None or occasion.nth_request <= self.to_request)
            and (self.models is None or occasion.model in self.models)
            and (self.keys is None or occasion.api_key in self.keys)
            and (self.match is None or self.match.search(occasion.document) is not None)
            and (
                self.instructions is None
                or self.instructions.search(occasion.instructions) is not None
            )
        )

    def still_on(self, occasion: Occasion) -> bool:
        """Whether `first` lets this rule hit once more."""
        return self.first is None or occasion.nth_of_document <= self.first


class FaultPlan(BaseModel):
    """All rules; a rule's place in the list and `seed` decide which documents it draws."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _common_rates_fit(self) -> Self:
        total = sum(rule.rate for rule in self.rules if rule.common)
        if total > 1 + 1e-9:
            raise ValueError(f"the rates of the common rules add up to {total:g}, which is above 1")
        return self

    @cached_property
    def _common(self) -> tuple[tuple[float, Rule], ...]:
        """The common rules with the upper end of each one's range of draws."""
        ends: list[tuple[float, Rule]] = []
        upper = 0.0
        for rule in self.rules:
            if rule.common:
                upper += rule.rate
                ends.append((upper, rule))
        return tuple(ends)

    @cached_property
    def _targeted(self) -> tuple[tuple[int, Rule], ...]:
        return tuple((at, rule) for at, rule in enumerate(self.rules) if not rule.common)

    def common_rule(self, document_key: str) -> Rule | None:
        """The one common rule whose range holds this document's draw; `first` is not looked at."""
        if not self._common:
            return None
        drawn = draw(self.seed, "document", document_key)
        return next((rule for upper, rule in self._common if drawn < upper), None)

    def rule_for(self, occasion: Occasion) -> Rule | None:
        """The rule that hits this request, if any: targeted ones first."""
        for position, rule in self._targeted:
            if rule.aims_at(occasion) and rule.still_on(occasion):
                drawn = draw(self.seed, f"rule {position}", occasion.document_key)
                if drawn < rule.rate:
                    return rule
        common = self.common_rule(occasion.document_key)
        return common if common and common.still_on(occasion) else None


def draw(seed: int, purpose: str, document_key: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}:{purpose}:{document_key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - DRAW_BITS)) / (1 << DRAW_BITS)
