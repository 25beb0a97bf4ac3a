"""The provider against real sockets that answer, refuse, hang up, drip and lie."""

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner import provider
from runner.config import ModelSettings, Settings
from runner.errors import ConfigError
from runner.model import Call, Fault, RawAnswer, Unanswered
from runner.provider import OpenAIProvider

KEY = "sk-canary-0123456789"
LATE_S = 2.0  # a busy machine may be that late; without its deadline a call is later by far
BODY = b'{"model":"m",  "messages":[{"role":"user","content":"\xc3\xa9 \\u00e9"}]}'

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A raw-socket HTTP server: keeps every request, and replies as the test says."""

    port: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # (head, body)
    connections: int = 0
    hung_up: int = 0  # connections that the client closed

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncIterator[Server]:
    """A server that gives the n-th request the n-th reply, and the last one ever after."""
    server = Server()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [line for line in head.lower().split("\r\n") if "content-length:" in line]
                size = int(lengths[0].split(":")[1]) if lengths else 0
                server.requests.append((head, await reader.readexactly(size)))
                reply = replies[min(len(server.requests), len(replies)) - 1]
                watch = asyncio.ensure_future(reader.read(1)) if reply is hang else None
                await (watch or reply(writer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            server.hung_up += 1
        finally:
            writer.close()

    listener = await asyncio.start_server(converse, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)

    return reply


async def hang(writer: asyncio.StreamWriter) -> None:
    """Never answer; `serving` waits for the client to hang up instead."""


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def hang_up_mid_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03 this is no HTTP\r\n\r\n")
    await writer.drain()
    writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


def settings_for(url: str, **more: object) -> Settings:
    model = ModelSettings.model_validate({"base_url": url, "api_key_env": "THE_KEY", **more})
    return Settings(home=Path("home"), models={"m": model})


@asynccontextmanager
async def asking(url: str, *, key: str = KEY, **more: object) -> AsyncIterator[OpenAIProvider]:
    """A provider whose model `m` is served at `url`, closed at the end."""
    asked = OpenAIProvider(settings_for(url, **more), env={"THE_KEY": key} if key else {})
    try:
        yield asked
    finally:
        await asked.aclose()


def a_call(*, deadline_s: float = 5.0) -> Call:
    return Call(attempt_id="a1", model="m", body=BODY, deadline_s=deadline_s)


async def test_the_exact_bytes_go_out_once_with_key_and_attempt_id() -> None:
    async with serving(answer(b"{}")) as server, asking(server.url) as asked:
        await asked.call(a_call())
    [(head, body)] = server.requests
    assert body == BODY
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    for line in (
        f"Authorization: Bearer {KEY}",
        "X-Runner-Attempt: a1",
        "Accept-Encoding: identity",
    ):
        assert line.lower() in head.lower().split("\r\n")


async def test_a_large_request_goes_out_in_its_exact_bytes_with_its_length() -> None:
    body = b'{"model":"m","messages":"' + b"\xc3\xa9" * 1_000_000 + b'"}'
    async with serving(answer(b"{}")) as server, asking(server.url) as asked:
        got = await asked.call(Call(attempt_id="a1", model="m", body=body, deadline_s=5.0))
    assert isinstance(got, RawAnswer)
    [(head, sent)] = server.requests
    assert sent == body
    assert f"content-length: {len(body)}" in head.lower().split("\r\n")
    assert "transfer-encoding" not in head.lower()


@pytest.mark.parametrize(
    "status", ["200 OK", "400 Bad Request", "429 Slow", "500 Oops", "529 Full"]
)
async def test_an_answer_of_any_status_comes_back_with_its_exact_bytes(status: str) -> None:
    body = b'{"a":\t1}\n\xff\x00'
    headers = (
        "Retry-After: 7\r\nX-Request-Id: r9\r\nX-RateLimit-Limit-Tokens: 5\r\nSet-Cookie: a=b\r\n"
    )
    async with (
        serving(answer(body, status=status, headers=headers)) as server,
        asking(server.url) as asked,
    ):
        got = await asked.call(a_call())
    assert isinstance(got, RawAnswer)
    assert (got.status, got.body) == (int(status[:3]), body)
    assert got.headers == {
        "retry-after": "7",
        "x-request-id": "r9",
        "x-ratelimit-limit-tokens": "5",
    }
    assert got.elapsed_us > 0
    assert len(server.requests) == 1


async def test_an_answer_says_when_its_request_left() -> None:
    replied_s: list[float] = []

    async def reply_late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        replied_s.append(time.monotonic())
        await answer(b"{}")(writer)

    began_s = time.monotonic()
    async with serving(reply_late) as server, asking(server.url) as asked:
        got = await asked.call(a_call())
    assert isinstance(got, RawAnswer)
    assert got.sent_s is not None
    assert began_s < got.sent_s < replied_s[0]


async def test_a_refused_connection_was_not_sent() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    async with asking(f"http://127.0.0.1:{port}/v1") as asked:
        got = await asked.call(a_call())
    assert isinstance(got, Unanswered)
    assert got.fault is Fault.NOT_SENT
    assert "127.0.0.1" in got.message


async def test_an_unknown_host_was_not_sent() -> None:
    async with asking("https://no-such-host.invalid/v1") as asked:
        got = await asked.call(a_call())
    assert isinstance(got, Unanswered)
    assert got.fault is Fault.NOT_SENT


async def test_a_connect_that_nobody_answers_was_not_sent_and_ends_before_the_deadline() -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as black_hole:
        port = black_hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with asking(f"http://127.0.0.1:{port}/v1") as asked:
            got = await asked.call(a_call(deadline_s=1.0))
        for filler in fillers:
            filler.close()
    assert isinstance(got, Unanswered)
    assert got.fault is Fault.NOT_SENT
    assert got.elapsed_us < 1_000_000


async def test_a_call_that_found_no_free_connection_was_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provider, "MAX_CONNECTIONS", 1)
    async with serving(hang) as server, asking(server.url) as asked:
        first = asyncio.create_task(asked.call(a_call(deadline_s=1.0)))
        await asyncio.sleep(0.1)
        second = await asked.call(a_call(deadline_s=0.6))
        assert await first
    assert isinstance(second, Unanswered)
    assert second.fault is Fault.NOT_SENT
    assert len(server.requests) == 1


async def test_a_failed_tls_handshake_was_not_sent_and_shows_no_key() -> None:
    async with (
        serving(garbage) as server,
        asking(f"https://127.0.0.1:{server.port}/v1") as asked,
    ):
        got = await asked.call(a_call(deadline_s=2.0))
    assert isinstance(got, Unanswered)
    assert got.fault is Fault.NOT_SENT
    assert server.requests == []


@pytest.mark.parametrize("fault", [hang_up, hang_up_mid_body, reset, garbage, hang, drip])
async def test_whatever_breaks_after_sending_is_ambiguous_within_the_deadline_and_sent_once(
    fault: Reply,
) -> None:
    begun = time.monotonic()
    async with serving(fault) as server, asking(server.url) as asked:
        got = await asked.call(a_call(deadline_s=0.5))
    assert isinstance(got, Unanswered)
    assert got.fault is Fault.AMBIGUOUS
    assert "may have been paid" in got.message
    assert time.monotonic() - begun < 0.5 + LATE_S
    assert len(server.requests) == 1


async def test_a_request_on_a_used_connection_that_is_dropped_is_never_sent_again_unasked() -> None:
    async with (
        serving(answer(b"{}"), hang_up, answer(b"{}")) as server,
        asking(server.url) as asked,
    ):
        first, second = await asked.call(a_call()), await asked.call(a_call())
    assert isinstance(first, RawAnswer)
    assert isinstance(second, Unanswered)
    assert second.fault is Fault.AMBIGUOUS
    assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_redirect_is_handed_back_and_the_key_goes_to_no_other_host() -> None:
    async with serving(answer(b"{}")) as other:
        moved = answer(
            b"", status="307 Moved", headers=f"location: {other.url}/chat/completions\r\n"
        )
        async with serving(moved) as server, asking(server.url) as asked:
            got = await asked.call(a_call())
    assert isinstance(got, RawAnswer)
    assert got.status == 307
    assert other.connections == 0


async def test_three_hundred_calls_are_in_flight_at_once() -> None:
    together = asyncio.Barrier(300)

    async def all_at_once(writer: asyncio.StreamWriter) -> None:
        await together.wait()
        await answer(b"{}")(writer)

    async with serving(all_at_once) as server, asking(server.url) as asked:
        got = await asyncio.gather(*(asked.call(a_call(deadline_s=20.0)) for _ in range(300)))
    assert [type(each) for each in got] == [RawAnswer] * 300
    assert server.connections == 300


async def test_cancelling_a_call_cancels_it_and_hangs_up() -> None:
    received = asyncio.Event()

    async def hold(writer: asyncio.StreamWriter) -> None:
        received.set()
        await writer.wait_closed()

    async with serving(hold) as server, asking(server.url) as asked:
        task = asyncio.create_task(asked.call(a_call()))
        await received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(server.requests) == 1


async def test_an_answer_beyond_the_size_cap_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "MAX_ANSWER_BYTES", 100_000)
    bomb = answer(gzip.compress(bytes(30_000_000)), headers="content-encoding: gzip\r\n")
    for reply in (answer(bytes(200_000)), answer(bytes(200_000), status="500 Oops"), bomb):
        async with serving(reply) as server, asking(server.url) as asked:
            got = await asked.call(a_call())
        assert isinstance(got, Unanswered)
        assert got.fault is Fault.AMBIGUOUS
        assert "larger than 100000 bytes" in got.message


async def test_an_answer_compressed_against_our_wish_is_read_all_the_same() -> None:
    packed = answer(gzip.compress(b'{"a":1}'), headers="content-encoding: gzip\r\n")
    async with serving(packed) as server, asking(server.url) as asked:
        got = await asked.call(a_call())
    assert isinstance(got, RawAnswer)
    assert got.body == b'{"a":1}'


async def test_a_key_that_the_answer_quotes_is_blotted_out() -> None:
    quoting = answer(
        b'{"error":"bad key ' + KEY.encode() + b'"}',
        status="401 Unauthorized",
        headers=f"x-request-id: r-{KEY}\r\n",
    )
    async with serving(quoting) as server, asking(server.url) as asked:
        got = await asked.call(a_call())
    assert isinstance(got, RawAnswer)
    assert got.body == b'{"error":"bad key [key]"}'
    assert KEY not in repr(got)
    assert KEY not in repr(asked)


async def test_a_server_on_this_machine_needs_no_key() -> None:
    async with serving(answer(b'{"none":"none"}')) as server, asking(server.url, key="") as asked:
        got = await asked.call(a_call())
    assert isinstance(got, RawAnswer)
    assert got.body == b'{"none":"none"}'
    assert "authorization: bearer none" in server.requests[0][0].lower()


async def test_a_server_that_the_runner_started_never_sees_the_real_key() -> None:
    settings = settings_for("https://api.example.com/v1")
    async with serving(answer(b"{}")) as server:
        asked = OpenAIProvider(settings, env={"THE_KEY": KEY}, base_urls={"m": server.url})
        await asked.call(a_call())
        await asked.aclose()
    assert KEY not in server.requests[0][0]


@pytest.mark.parametrize("key", ["", "  ", "sk-two words", "sk-line\nbreak", "sk-é"])
async def test_a_missing_or_broken_key_is_a_config_error_that_names_the_variable_only(
    key: str,
) -> None:
    async with asking("https://api.example.com/v1", key=key) as asked:
        with pytest.raises(ConfigError, match="THE_KEY") as caught:
            asked.check("m")
        with pytest.raises(ConfigError):
            await asked.call(a_call())
    assert not key.strip() or key not in str(caught.value)


def test_a_key_with_a_line_break_at_its_end_is_taken_without_it() -> None:
    OpenAIProvider(settings_for("https://api.example.com/v1"), env={"THE_KEY": KEY + "\n"}).check(
        "m"
    )


def test_plain_http_off_this_machine_is_refused_before_anything_is_sent() -> None:
    asked = OpenAIProvider(settings_for("http://api.example.com/v1"), env={"THE_KEY": KEY})
    with pytest.raises(ConfigError, match="https"):
        asked.check("m")


def test_an_address_override_off_this_machine_is_refused() -> None:
    asked = OpenAIProvider(
        settings_for("https://api.example.com/v1"),
        env={"THE_KEY": KEY},
        base_urls={"m": "https://api.example.org/v1"},
    )
    with pytest.raises(ConfigError, match="not a server on this machine"):
        asked.check("m")


def test_a_local_model_whose_server_was_not_started_is_refused_by_name() -> None:
    settings = Settings(home=Path("home"), models={"tiny": ModelSettings(server="local")})
    with pytest.raises(ConfigError, match="tiny"):
        OpenAIProvider(settings, env={}).check("tiny")


async def test_the_proxy_of_the_environment_is_used_off_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    refusal = answer(b"", status="407 Proxy Authentication Required")
    async with serving(refusal) as proxy, serving(answer(b"{}")) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with asking("https://api.example.com/v1") as asked:
            far = await asked.call(a_call())
        async with asking(server.url) as asked:
            near = await asked.call(a_call())
    assert isinstance(far, Unanswered)
    assert far.fault is Fault.NOT_SENT
    assert "hunter2" not in far.message
    assert [head.split()[0] for head, _ in proxy.requests] == ["CONNECT"]
    assert KEY not in proxy.requests[0][0]
    assert isinstance(near, RawAnswer)


async def test_models_of_one_address_and_key_share_their_connections() -> None:
    async with serving(answer(b"{}")) as server:
        model = ModelSettings(base_url=server.url, api_key_env="THE_KEY")
        settings = Settings(home=Path("home"), models={"m": model, "n": model})
        asked = OpenAIProvider(settings, env={"THE_KEY": KEY})
        for name in ("m", "n"):
            await asked.call(Call(attempt_id="a", model=name, body=BODY, deadline_s=5.0))
        await asked.aclose()
        await asked.aclose()
    assert (server.connections, len(server.requests)) == (1, 2)
