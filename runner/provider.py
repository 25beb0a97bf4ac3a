"""The one file that sends documents to a model: exact request bytes out, the exact answer back."""

import asyncio
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from runner.config import LOOPBACK_HOSTS, Settings
from runner.errors import ConfigError
from runner.model import Call, Fault, RawAnswer, Unanswered
from runner.stream import Stream

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_CONNECTIONS = 1_000
CONNECT_MAX_S = 10.0
IN_ONE_PIECE_BYTES = 512 * 1024
# Common servers hang up after 5 idle seconds; a call sent into that moment would be ambiguous.
IDLE_MAX_S = 4.0
# A shorter key is a placeholder ("test", "EMPTY"): it is no secret, and blotting such a word out of
# answers would falsify them.
SECRET_MIN_CHARS = 20
SENT_S = "sent_s"  # under this name an answer carries when its request left
NO_KEY = "none"  # what a server on this machine gets when no key is set

_KEPT_HEADERS = (
    "content-type",
    "date",
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
)
_KEPT_PREFIX = "x-ratelimit-"

# All of these happen before the first byte of a request leaves. The transport that the SDK ships
# loses the difference: it reports a connection dropped after sending as a connect timeout too.
_NEVER_SENT = (
    aiohttp.ClientConnectorError,  # refused, unreachable, unknown host, TLS handshake
    aiohttp.ConnectionTimeoutError,  # connecting, or waiting for a free connection
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)


class Provider(Protocol):
    """Where calls go. The seam behind which a test or a dry run puts its own."""

    async def call(self, call: Call) -> RawAnswer | Unanswered:
        """Send one request once. An answer of any status, or why there is none; cancellable."""


class OpenAIProvider:
    """Sends calls to OpenAI-compatible servers, one attempt each, under a total deadline.

    Retries nothing and follows no redirect: a key reaches the host it was configured for and no
    other. Keys are read from `env`, under the name that each model's settings give. `base_urls`
    names, per model, a server on this machine that the runner itself has started: it gets no key.
    `stream` hears the answer as it comes; what is handed back then is the completion that its
    events come to.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        env: Mapping[str, str],
        base_urls: Mapping[str, str] | None = None,
        stream: Stream | None = None,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._env = env
        self._base_urls = dict(base_urls or {})
        self._links: dict[str, _Link] = {}
        self._clients: dict[tuple[str, str], AsyncOpenAI] = {}

    def check(self, model: str) -> None:
        """Raise ConfigError, naming the setting, when calls to `model` could not be sent at all."""
        self._link(model)

    async def call(self, call: Call) -> RawAnswer | Unanswered:
        """Send `call` once and wait at most `call.deadline_s` seconds for the whole answer.

        NOT_SENT is said only when no byte of the request left; everything else that ends without
        a complete answer is AMBIGUOUS. A key echoed by the answer is blotted out of it, but not a
        placeholder such as `EMPTY`.
        Raises ConfigError when the model's base URL or key is not configured.
        """
        link = self._link(call.model)
        begun_ns = time.perf_counter_ns()
        if self._stream is not None:
            self._stream.begin()
        try:
            async with asyncio.timeout(call.deadline_s):
                response = await _post(link.client, call)
        except TimeoutError:
            lack = f"no complete answer from {link.host} within {call.deadline_s:g} s"
            return _ambiguous(lack, begun_ns)
        except APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                message = f"no connection to {link.host}: {error.__cause__}; nothing was sent"
                return Unanswered(Fault.NOT_SENT, message, _since_us(begun_ns))
            return _ambiguous(f"no answer from {link.host}: {error.__cause__}", begun_ns)
        body = response.content if self._stream is None else self._stream.end(response.content)
        return RawAnswer(
            status=response.status_code,
            body=link.blot(body),
            headers={
                name: link.blot(value.encode()).decode() for name, value in response.headers.items()
            },
            elapsed_us=_since_us(begun_ns),
            sent_s=response.extensions.get(SENT_S),
        )

    async def aclose(self) -> None:
        """Close every connection; calling it twice is harmless."""
        clients, self._clients, self._links = list(self._clients.values()), {}, {}
        for client in clients:
            await client.close()

    def _link(self, model: str) -> "_Link":
        link = self._links.get(model)
        if link is None:
            base_url, key = self._address(model)
            client = self._clients.get((base_url, key))
            if client is None:
                client = self._clients[base_url, key] = _client(base_url, key, self._stream)
            secret = key.encode() if len(key) >= SECRET_MIN_CHARS else b""
            link = self._links[model] = _Link(client, urlsplit(base_url).hostname or "", secret)
        return link

    def _address(self, model: str) -> tuple[str, str]:
        own = self._base_urls.get(model)
        if own is not None:
            if urlsplit(own).hostname not in LOOPBACK_HOSTS:
                raise ConfigError(f"model {model}: {own!r} is not a server on this machine")
            return own, NO_KEY
        if self._settings.model(model).server == "local":
            raise ConfigError(
                f'model {model}: its server is "local" but has not been started; '
                "`runner run` and `runner work` start it, or give it a base_url in runner.toml"
            )
        base_url = self._settings.base_url(model)
        return base_url, self._key(model, base_url)

    def _key(self, model: str, base_url: str) -> str:
        variable = self._settings.model(model).api_key_env
        key = self._env.get(variable, "").strip()
        if not key:
            if urlsplit(base_url).hostname in LOOPBACK_HOSTS:
                return NO_KEY
            raise ConfigError(
                f"model {model}: no API key: set {variable}, or name another variable "
                "with api_key_env in runner.toml"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"model {model}: {variable} holds characters that no API key has; set it again"
            )
        return key


@dataclass(frozen=True, slots=True)
class _Link:
    """A model's way out: the client to use, the host to name in messages, the key to hide."""

    client: AsyncOpenAI = field(repr=False)
    host: str
    secret: bytes = field(repr=False)

    def blot(self, text: bytes) -> bytes:
        """The text without the key: some servers quote the key that they refuse."""
        return text.replace(self.secret, b"[key]") if self.secret in text and self.secret else text


class _Transport(httpx2.AsyncBaseTransport):
    """HTTP by aiohttp: half the processor time of the SDK's default.

    It says surely whether a request left (ConnectError: no), bounds the answer, and keeps no
    cookies. The session is made at the first call, inside the event loop that will use it.
    """

    def __init__(self, base_url: str, stream: Stream | None) -> None:
        self._base_url = base_url
        self._stream = stream
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request` and read the whole answer; only the headers of use are kept."""
        if self._session is None:
            self._session = _session(self._base_url)
        connect_s = request.extensions["timeout"]["connect"]
        sending = _Sending()
        try:
            async with self._session.request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=_payload(request.content),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(connect=connect_s, sock_connect=connect_s),
                trace_request_ctx=sending,
            ) as answer:
                body = await _read_bounded(answer.content, self._stream)
                headers = [pair for pair in answer.headers.items() if _is_kept(pair[0])]
                stream = httpx2.ByteStream(body)  # `content=` would add a header
                return httpx2.Response(
                    answer.status,
                    headers=headers,
                    stream=stream,
                    extensions={SENT_S: sending.sent_s},
                )
        except _NEVER_SENT as error:
            raise httpx2.ConnectError(_reason(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(_reason(error)) from error

    async def aclose(self) -> None:
        """Close the session's connections."""
        if self._session is not None:
            await self._session.close()


@dataclass(slots=True)
class _Sending:
    """When the last piece of a request was handed to the connection, by `time.monotonic`."""

    sent_s: float | None = None


async def _note_sent(_session: object, context: Any, _piece: object) -> None:
    context.trace_request_ctx.sent_s = time.monotonic()


def _sent_noted() -> aiohttp.TraceConfig:
    traced = aiohttp.TraceConfig()
    traced.on_request_chunk_sent.append(_note_sent)
    return traced


def _client(base_url: str, key: str, stream: Stream | None) -> AsyncOpenAI:
    http = httpx2.AsyncClient(transport=_Transport(base_url, stream), follow_redirects=False)
    return AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http)


def _session(base_url: str) -> aiohttp.ClientSession:
    parts = urlsplit(base_url)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS,
            keepalive_timeout=IDLE_MAX_S,
            ssl=httpx2.create_ssl_context() if parts.scheme == "https" else True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_sent_noted()],
        proxy=_proxy(parts.scheme, parts.hostname or ""),
    )


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy of the environment, looked up once: aiohttp would start a thread for each call."""
    if host in LOOPBACK_HOSTS or proxy_bypass(host):
        return None
    return getproxies().get(scheme)


async def _post(client: AsyncOpenAI, call: Call) -> httpx2.Response:
    connect_s = min(CONNECT_MAX_S, call.deadline_s / 2)  # so that it ends before the deadline does
    try:
        return await client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=call.body,
            options={
                "headers": {
                    "X-Runner-Attempt": call.attempt_id,
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",
                },
                "timeout": httpx2.Timeout(None, connect=connect_s),
            },
        )
    except APIStatusError as error:
        return error.response


def _payload(body: bytes) -> bytes | io.BytesIO:
    """A large body goes out in pieces: in one, it would hold up every other call meanwhile."""
    return body if len(body) <= IN_ONE_PIECE_BYTES else io.BytesIO(body)


async def _read_bounded(content: aiohttp.StreamReader, stream: Stream | None) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise httpx2.ReadError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        if stream is not None and not stream.hear(piece):
            break  # it has said its last word: some servers keep the line open
    return b"".join(pieces)


def _is_kept(name: str) -> bool:
    lower = name.lower()
    return lower in _KEPT_HEADERS or lower.startswith(_KEPT_PREFIX)


def _reason(error: Exception) -> str:
    """What happened, without the foreigner's own text: that may hold an address with a password."""
    kind = type(error).__name__
    detail = error.strerror if isinstance(error, OSError) else None
    return f"{kind} ({detail})" if detail else kind


def _ambiguous(lack: str, begun_ns: int) -> Unanswered:
    return Unanswered(Fault.AMBIGUOUS, f"{lack}; the call may have been paid", _since_us(begun_ns))


def _since_us(begun_ns: int) -> int:
    return (time.perf_counter_ns() - begun_ns) // 1_000
