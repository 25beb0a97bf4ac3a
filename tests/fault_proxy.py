"""A proxy of raw sockets between a client and the test provider that breaks what passes through.

It listens on loopback, one request a connection. Some faults strike before the request is passed on
(`before`), the others spoil the answer of the provider, which was asked and has been paid.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SLOW_S = 1.0  # between two bytes
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for 0 s
_HEAD_END = b"\r\n\r\n"

Before = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
After = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Proxy:
    """One that listens; `connections` counts how many clients came."""

    port: int
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def proxying(
    upstream: str, *, before: Before | None = None, after: After | None = None
) -> AsyncIterator[Proxy]:
    """A proxy to the base URL `upstream` that does this to every connection, until left."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy.tasks.add(task)
        proxy.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if before is not None:
                await before(reader, writer)
            else:
                request = await _read_message(reader)
                answer = await _ask(upstream, request)
                await (after or whole)(answer, writer)
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=1_000)
    proxy = Proxy(port=server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.tasks:
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """A whole request or answer that says its length."""
    head = await reader.readuntil(_HEAD_END)
    lines = head.decode("latin-1").lower().split("\r\n")
    size = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
    return head + await reader.readexactly(size)


async def _ask(upstream: str, request: bytes) -> bytes:
    parts = urlsplit(upstream)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        return await _read_message(reader)
    finally:
        writer.close()


# ------------------------------------------------------------ before anything is passed on


async def never_read(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, and read not one byte: what is large fills the buffers."""
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport can
    await asyncio.Event().wait()


async def close_at_once(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Hang up on whoever comes."""


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Take the request and hold the socket."""
    await _read_message(reader)
    await asyncio.Event().wait()


async def talk_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Something that is no HTTP, on a connection that stays open."""
    await _read_message(reader)
    writer.write(bytes(range(256)) * 4 + b"\r\n\r\n")
    await asyncio.Event().wait()


async def never_end_a_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One header line without an end, as fast as it is taken."""
    await _read_message(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nx-endless: ")
    while True:
        writer.write(b"a" * 1_000)
        await writer.drain()
        await asyncio.sleep(0.001)


async def never_end_the_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Header after header, as fast as they are taken."""
    await _read_message(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-one-more: a\r\n" * 50)
        await writer.drain()
        await asyncio.sleep(0.001)


async def only_promise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Interim answers without end."""
    await _read_message(reader)
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def never_end_the_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A chunked body whose last chunk never comes."""
    await _read_message(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


# ------------------------------------------------------------ spoiling a paid answer


async def whole(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """The answer as it is."""
    writer.write(answer)
    await writer.drain()


async def drip_headers(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """A byte a second, from the first one on."""
    await _drip(answer, writer)


async def drip_body(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """The headers at once, then a byte a second."""
    end = _body_at(answer)
    writer.write(answer[:end])
    await _drip(answer[end:], writer)


async def reset_mid_headers(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """Half the headers, then a reset."""
    await _cut(answer[: _body_at(answer) // 2], writer)


async def reset_mid_body(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """Half the body, then a reset."""
    end = _body_at(answer)
    await _cut(answer[: end + (len(answer) - end) // 2], writer)


async def close_mid_headers(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """Half the headers, then an orderly end."""
    writer.write(answer[: _body_at(answer) // 2])
    await writer.drain()


async def body_too_short(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """Fewer bytes than Content-Length says, then an orderly end."""
    writer.write(answer[:-10])
    await writer.drain()


async def body_too_short_and_held(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """Fewer bytes than Content-Length says, on a connection that stays open."""
    writer.write(answer[:-10])
    await asyncio.Event().wait()


async def body_too_long(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """More bytes than Content-Length says, in one piece."""
    writer.write(answer + b'{"not": "asked for"}')
    await asyncio.Event().wait()


async def _drip(part: bytes, writer: asyncio.StreamWriter) -> None:
    for position in range(len(part)):
        writer.write(part[position : position + 1])
        await writer.drain()
        await asyncio.sleep(SLOW_S)


async def _cut(part: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(part)
    await writer.drain()
    await asyncio.sleep(0.05)  # a reset discards what has not been read yet
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def _body_at(answer: bytes) -> int:
    return answer.index(_HEAD_END) + len(_HEAD_END)
