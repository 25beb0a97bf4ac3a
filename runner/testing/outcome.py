"""What an admitted call gets: the right answer, or what the fault that hits it makes of it.

Token counts are ceil(UTF-8 bytes / 4): of every message's text and the schema for the prompt, of
the answer's text for the completion (reasoning tokens are added). Cached tokens are those of the
leading system messages rounded down to a multiple of 128 when they are at least 1,024: a pure
function of the request, so the first call counts them as cached already. A completion never has
more tokens than the request allows; one that would is cut, with finish_reason "length".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from math import ceil
from typing import assert_never

from .answers import Answer
from .book import Entry, Prices, Tokens
from .chat_request import ChatRequest
from .faults import (
    BodyFault,
    BrokenBody,
    ContentFault,
    Ending,
    EndingFault,
    HttpFault,
    RetryStyle,
    Rule,
    ScriptedFault,
    Transport,
    TransportFault,
)
from .replies import (
    HTML_TYPE,
    JSON_TYPE,
    STREAM_TYPE,
    Head,
    Message,
    Reply,
    choices_json,
    completion_body,
    error_body,
    stream_pieces,
)

BYTES_PER_TOKEN = 4
CACHE_STEP_TOKENS = 128
CACHED_TOKENS_MIN = 1_024
SECONDS_PER_MINUTE = 60
HTML_PAGE = b"<!doctype html><html><title>Gateway</title><body><h1>Please wait</h1></body></html>"
REFUSAL_TEXT = "I'm sorry, but I can't help with that document."


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a reply's bytes go out, and after how long."""

    transport: Transport = Transport.WHOLE
    latency_s: float = 0.0
    bytes_per_s: float = 1.0  # of a drip


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request gets, and the entry that is finished once it has been delivered."""

    entry: Entry
    reply: Reply
    delivery: Delivery = Delivery()


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted request and everything that its reply depends on."""

    entry: Entry
    request: ChatRequest
    answer: Answer
    prices: Prices
    reasoning_tokens: int
    latency_s: float
    now_s: float  # since 1970
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A completion before it is written."""

    message: Message
    tokens: Tokens


def token_count(byte_count: int) -> int:
    """Tokens of a text of `byte_count` UTF-8 bytes."""
    return -(-byte_count // BYTES_PER_TOKEN)


def tokens_of(request: ChatRequest, *, answer_bytes: int, reasoning_tokens: int) -> Tokens:
    """What answering `request` with a text of `answer_bytes` counts, never above what it allows."""
    system = token_count(request.system_bytes)
    cached = system - system % CACHE_STEP_TOKENS if system >= CACHED_TOKENS_MIN else 0
    completion = token_count(answer_bytes) + reasoning_tokens
    allowed = request.max_output_tokens or completion
    return Tokens(
        prompt=token_count(request.prompt_bytes),
        cached=cached,
        completion=min(completion, allowed),
        reasoning=min(reasoning_tokens, allowed),
    )


def conclude(call: Call, rule: Rule | None) -> Decision:  # noqa: PLR0911 - one a kind of fault
    """The decision for an admitted call, hit by `rule` or by none."""
    if rule is None:
        return _completion(call, call.entry, _draft(call, call.answer.text))
    entry = replace(call.entry, fault=rule.fault)
    effect = rule.effect
    match effect:
        case HttpFault():
            return _http_error(call, entry, rule, effect)
        case BodyFault():
            return _broken_body(call, entry, rule, effect)
        case EndingFault():
            return _completion(call, entry, _ended(call, effect.ending), paid=rule.paid)
        case ContentFault():
            pick = int(call.request.document_key[:8], 16)
            spoiled = effect.spoiler(call.answer.value, call.request.output.shape, pick)
            entry = replace(entry, altered=spoiled.altered)
            return _completion(call, entry, _draft(call, spoiled.text), paid=rule.paid)
        case ScriptedFault():
            assert rule.answer is not None, "such a rule has one"
            return _completion(call, entry, _draft(call, rule.answer), paid=rule.paid)
        case TransportFault():
            decision = _completion(call, entry, _draft(call, call.answer.text), paid=rule.paid)
            delivery = Delivery(effect.transport, call.latency_s, rule.bytes_per_s)
            return replace(decision, delivery=delivery)
        case _:
            assert_never(effect)


def _draft(call: Call, text: str, *, finish_reason: str = "stop") -> _Draft:
    """A completion of `text`, cut to the tokens that the request allows."""
    body = text.encode("utf-8", "surrogatepass")
    tokens = tokens_of(call.request, answer_bytes=len(body), reasoning_tokens=call.reasoning_tokens)
    room = tokens.completion - tokens.reasoning
    if room < token_count(len(body)):
        text = body[: room * BYTES_PER_TOKEN].decode(errors="ignore")
        finish_reason = "length"
    return _Draft(Message(text, finish_reason), tokens)


def _ended(call: Call, ending: Ending) -> _Draft:
    """A completion that ended without an answer."""
    match ending:
        case Ending.LENGTH:
            half = call.answer.text[: len(call.answer.text) // 2]
            return _draft(call, half, finish_reason="length")
        case Ending.CONTENT_FILTER:
            return _draft(call, "", finish_reason="content_filter")
        case Ending.REFUSAL:
            tokens = _draft(call, REFUSAL_TEXT).tokens
            return _Draft(Message(None, refusal=REFUSAL_TEXT), tokens)
        case _:
            assert_never(ending)


def _completion(call: Call, entry: Entry, draft: _Draft, *, paid: bool | None = None) -> Decision:
    """A good 200, billed unless `paid` is False; as events when a stream was asked for."""
    request = call.request
    if request.stream:
        pieces = stream_pieces(
            _head(call),
            message=draft.message,
            tokens=draft.tokens,
            include_usage=request.include_usage,
        )
    else:
        choices = choices_json(draft.message)
        pieces = (completion_body(_head(call), choices=choices, tokens=draft.tokens),)
    return Decision(
        entry=_billed(
            call,
            entry,
            draft.tokens,
            paid=paid is not False,
            usage_sent=request.include_usage or not request.stream,
        ),
        reply=Reply(200, pieces, STREAM_TYPE if request.stream else JSON_TYPE, call.headers),
        delivery=Delivery(latency_s=call.latency_s),
    )


def _billed(call: Call, entry: Entry, tokens: Tokens, *, paid: bool, usage_sent: bool) -> Entry:
    return replace(
        entry,
        status=200,
        prompt_tokens=tokens.prompt,
        cached_tokens=tokens.cached,
        completion_tokens=tokens.completion,
        reasoning_tokens=tokens.reasoning,
        cost_nusd=call.prices.cost_nusd(tokens) if paid else 0,
        paid=paid,
        usage_sent=usage_sent,
    )


def _broken_body(call: Call, entry: Entry, rule: Rule, effect: BodyFault) -> Decision:
    """A 200 that is not a completion."""
    draft = _draft(call, call.answer.text)
    content_type = HTML_TYPE if effect.body is BrokenBody.HTML else JSON_TYPE
    if call.request.stream and effect.body is BrokenBody.MALFORMED:
        return _cut_stream(_completion(call, entry, draft, paid=rule.paid))
    return Decision(
        entry=_billed(
            call,
            entry,
            draft.tokens,
            paid=effect.paid if rule.paid is None else rule.paid,
            usage_sent=effect.usage_readable,
        ),
        reply=Reply(200, (_broken_bytes(call, effect.body, draft),), content_type, call.headers),
        delivery=Delivery(latency_s=call.latency_s),
    )


def _cut_stream(decision: Decision) -> Decision:
    """A stream that ends in good order, but before its answer does."""
    pieces = decision.reply.pieces
    return replace(
        decision,
        entry=replace(decision.entry, usage_sent=False),
        reply=replace(decision.reply, pieces=pieces[: len(pieces) // 2]),
    )


def _broken_bytes(call: Call, body: BrokenBody, draft: _Draft) -> bytes:
    def completion(choices: str) -> bytes:
        return completion_body(_head(call), choices=choices, tokens=draft.tokens)

    match body:
        case BrokenBody.HTML:
            return HTML_PAGE
        case BrokenBody.EMPTY:
            return b""
        case BrokenBody.MALFORMED:
            whole = completion(choices_json(draft.message))
            return whole[: len(whole) // 2]
        case BrokenBody.CHOICES_NULL:
            return completion("null")
        case BrokenBody.CHOICES_EMPTY:
            return completion("[]")
        case BrokenBody.ERROR:
            return error_body(
                message="The upstream had an error.", kind="server_error", code=None, param=None
            )
        case _:
            assert_never(body)


def _head(call: Call) -> Head:
    return Head(seq=call.entry.seq, model=call.request.model, created_s=int(call.now_s))


def _http_error(call: Call, entry: Entry, rule: Rule, effect: HttpFault) -> Decision:
    """An error status, at once; billed only if the rule says so."""
    paid = rule.paid is True
    tokens = _draft(call, call.answer.text).tokens if paid else Tokens()
    body = (
        HTML_PAGE
        if effect.html
        else error_body(
            message=effect.message, kind=effect.kind, code=effect.code, param=effect.param
        )
    )
    headers = retry_headers(effect.retry, wait_s=rule.retry_after_s, now_s=call.now_s)
    return Decision(
        entry=replace(
            _billed(call, entry, tokens, paid=paid, usage_sent=False), status=effect.status
        ),
        reply=Reply(
            effect.status,
            (body,),
            HTML_TYPE if effect.html else JSON_TYPE,
            {**call.headers, **headers},
        ),
    )


def retry_headers(style: RetryStyle, *, wait_s: float, now_s: float) -> dict[str, str]:
    """The header that asks to come back after `wait_s` seconds, never earlier than that."""
    match style:
        case RetryStyle.NONE:
            return {}
        case RetryStyle.SECONDS:
            return {"retry-after": str(ceil(wait_s))}
        case RetryStyle.MILLISECONDS:
            return {"retry-after-ms": str(ceil(wait_s * 1000))}
        case RetryStyle.HTTP_DATE:
            due = datetime.fromtimestamp(ceil(now_s + wait_s), tz=UTC)
            return {"retry-after": format_datetime(due, usegmt=True)}
        case RetryStyle.DURATION:
            return {"retry-after": duration_text(wait_s)}
        case _:
            assert_never(style)


def duration_text(duration_s: float) -> str:
    """Seconds as the API's headers write them: "1m30s", "0.25s", "6m0s"; rounded up to the ms."""
    minutes, rest_ms = divmod(ceil(duration_s * 1000 - 1e-6), SECONDS_PER_MINUTE * 1000)
    seconds = f"{rest_ms / 1000:g}s" if rest_ms % 1000 else f"{rest_ms // 1000}s"
    return f"{minutes}m{seconds}" if minutes else seconds
