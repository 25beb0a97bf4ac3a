"""The provider without its sockets: lets a request in or refuses it, and keeps the book."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, isinf
from random import Random

from .answers import Answers
from .book import Book, Entry, Prices
from .chat_request import ChatRequest, RequestReader
from .faults import Occasion
from .limits import Grant, RollingWindow
from .outcome import (
    SECONDS_PER_MINUTE,
    Call,
    Decision,
    conclude,
    duration_text,
    token_count,
    tokens_of,
)
from .replies import ApiError, Reply
from .settings import EVERY_KEY, ProviderSettings

LISTED_MODELS = ("test-small", "test-large")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came in."""

    body: bytes
    authorization: str | None
    attempt_id: str | None
    received_s: float  # monotonic


class Provider:
    """Decides what each request gets and writes no bytes; single-threaded.

    `clock_s` gives the seconds since 1970.
    """

    def __init__(
        self, *, settings: ProviderSettings, book: Book, clock_s: Callable[[], float] = time.time
    ) -> None:
        self.book = book
        self.settings = settings
        self._clock_s = clock_s
        self._reader = RequestReader()
        self._answers = Answers()
        self._windows: dict[tuple[str, str], RollingWindow] = {}
        self._rng = Random(settings.seed)  # noqa: S311 - latencies, not secrets
        self._apply_prices()
        self.clear()

    def apply(self, settings: ProviderSettings) -> None:
        """Behave like this from now on; rate windows begin empty when the limits changed."""
        before, self.settings = self.settings, settings
        self._apply_prices()
        if before.limits() != settings.limits():
            self._windows.clear()
        if before.seed != settings.seed:
            self._rng = Random(settings.seed)  # noqa: S311 - latencies, not secrets

    def _apply_prices(self) -> None:
        self._prices = self.settings.prices()
        self._model_prices: dict[str, Prices] = {
            name: part.prices() for name, part in self.settings.model_prices.items()
        }

    def clear(self) -> None:
        """Forget every request that was seen; rate windows stay."""
        self.book.clear()
        self._requests = 0
        self._seen: Counter[str] = Counter()
        self._admitted: Counter[str] = Counter()

    def served_models(self) -> tuple[str, ...]:
        """What GET /v1/models lists; every other name is served too unless models were set."""
        listed = self.settings.models or LISTED_MODELS
        return tuple(name for name in listed if name not in self.settings.gone_models)

    def decide(self, arrival: Arrival) -> Decision:
        """What this request gets; its entry is open in the book from now on."""
        self._requests += 1
        entry = Entry(
            seq=self._requests, received_s=arrival.received_s, attempt_id=arrival.attempt_id
        )
        try:
            key = self.checked_key(arrival.authorization)
            entry = replace(entry, key_id=hashlib.sha256(key.encode()).hexdigest()[:8])
            request = self._reader.read(arrival.body)
        except ApiError as error:
            decision = _refused(entry, error)
        else:
            decision = self._decide(self._seen_again(entry, request), request, key)
        self.book.open(decision.entry)
        return decision

    def checked_key(self, authorization: str | None) -> str:
        """The API key of a request. Raises ApiError with status 401 without a good one."""
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise ApiError(
                401,
                "You didn't provide an API key. You need to provide your API key in an "
                "Authorization header using Bearer auth.",
                code="invalid_api_key",
            )
        if _names(self.settings.revoked_keys, key):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        return key

    def check_model(self, model: str) -> None:
        """Raises ApiError with status 404 for a model that is not served."""
        served = not self.settings.models or model in self.settings.models
        if not served or model in self.settings.gone_models:
            raise ApiError(
                404,
                f"The model `{model}` does not exist or you do not have access to it.",
                code="model_not_found",
            )

    def _seen_again(self, entry: Entry, request: ChatRequest) -> Entry:
        self._seen[request.document_key] += 1
        return replace(
            entry,
            document_key=request.document_key,
            nth=self._seen[request.document_key],
            model=request.model,
        )

    def _decide(self, entry: Entry, request: ChatRequest, key: str) -> Decision:
        """The decision for a well-formed request with a good key."""
        if not self.settings.streams:
            request = replace(request, stream=False)
        call = self._call(entry, request)
        try:
            self._check_account(request, key)
        except ApiError as error:
            return _refused(entry, error)
        grant = self._ask_window(call, key)
        headers = self._limit_headers(grant) if grant else {}
        if grant and grant.dimension:
            refusal = self._over_limit(grant, headers)
            return _refused(replace(entry, over_limit=True), refusal)
        self._admitted[request.document_key] += 1
        entry = replace(entry, admitted=True)
        occasion = Occasion(
            document_key=request.document_key,
            document=request.document,
            instructions=request.instructions,
            model=request.model,
            api_key=key,
            nth_of_document=self._admitted[request.document_key],
            nth_request=entry.seq,
        )
        rule = self.settings.faults.rule_for(occasion)
        call = replace(call, entry=entry, headers=headers, latency_s=self._latency_s())
        return conclude(call, rule)

    def _call(self, entry: Entry, request: ChatRequest) -> Call:
        return Call(
            entry=entry,
            request=request,
            answer=self._answers.answer(
                document=request.document,
                cache_key=(request.document_key, request.output.key),
                shape=request.output.shape,
            ),
            prices=self._model_prices.get(request.model, self._prices),
            reasoning_tokens=self.settings.reasoning_tokens,
            latency_s=0.0,
            now_s=self._clock_s(),
            headers={},
        )

    def _check_account(self, request: ChatRequest, key: str) -> None:
        """Raises ApiError when the model, the money or the context is not there."""
        self.check_model(request.model)
        if _names(self.settings.quota_out_keys, key):
            raise ApiError(
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                code="insufficient_quota",
                kind="insufficient_quota",
            )
        longest = self.settings.context_tokens
        tokens = token_count(request.prompt_bytes)
        if longest is not None and tokens > longest:
            raise ApiError(
                400,
                f"This model's maximum context length is {longest} tokens. However, your messages "
                f"resulted in {tokens} tokens. Please reduce the length of the messages.",
                code="context_length_exceeded",
                param="messages",
            )

    def _ask_window(self, call: Call, key: str) -> Grant | None:
        """Whether the rolling window of (key, model) lets this call in; None without limits."""
        limits = self.settings.limits()
        if limits.requests is None and limits.tokens is None:
            return None
        window = self._windows.setdefault((key, call.request.model), RollingWindow(limits))
        tokens = tokens_of(
            call.request,
            answer_bytes=call.answer.text_bytes,
            reasoning_tokens=call.reasoning_tokens,
        )
        return window.ask(now_s=call.entry.received_s, tokens=tokens.prompt + tokens.completion)

    def _limit_headers(self, grant: Grant) -> dict[str, str]:
        """The limits as real providers tell them: per minute, whatever the window."""
        headers: dict[str, str] = {}
        if not self.settings.limit_headers:
            return headers
        for name, limit, left in (
            ("requests", self.settings.rpm, grant.requests_left),
            ("tokens", self.settings.tpm, grant.tokens_left),
        ):
            if limit is not None:
                per_min = int(limit * SECONDS_PER_MINUTE / self.settings.window_s)
                headers[f"x-ratelimit-limit-{name}"] = str(per_min)
                headers[f"x-ratelimit-remaining-{name}"] = str(left)
                headers[f"x-ratelimit-reset-{name}"] = duration_text(grant.reset_s)
        return headers

    def _over_limit(self, grant: Grant, headers: dict[str, str]) -> ApiError:
        """The refusal of a call that the window has no room for."""
        message = f"Rate limit reached on {grant.dimension}."
        waiting: dict[str, str] = {}
        if isinf(grant.retry_after_s):
            message = f"Request too large: more {grant.dimension} than the limit allows at all."
        elif self.settings.retry_after:
            message += f" Please try again in {duration_text(grant.retry_after_s)}."
            waiting = {
                "retry-after": str(ceil(grant.retry_after_s)),
                "retry-after-ms": str(ceil(grant.retry_after_s * 1000)),
            }
        return ApiError(
            429,
            message,
            code="rate_limit_exceeded",
            kind=str(grant.dimension),
            headers={**headers, **waiting},
        )

    def _latency_s(self) -> float:
        median_ms = self.settings.latency_ms
        if not median_ms or not self.settings.latency_sigma:
            return median_ms / 1000
        return median_ms / 1000 * self._rng.lognormvariate(0, self.settings.latency_sigma)


def _names(keys: tuple[str, ...], key: str) -> bool:
    return key in keys or EVERY_KEY in keys


def _refused(entry: Entry, error: ApiError) -> Decision:
    return Decision(
        entry=replace(entry, status=error.status),
        reply=Reply(error.status, (error.body,), headers=error.headers),
    )
