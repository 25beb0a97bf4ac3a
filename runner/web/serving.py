"""Listens and serves: who is too slow is hung up on, and the end does not wait for open pages."""

import asyncio
import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from runner.errors import UsageError
from runner.web.guard import HEAD_MAX_BYTES
from runner.web.live import Live

HEAD_MAX_S = 10.0  # from a request's first byte to the end of its headers
CONNECTIONS_MAX = 100
STOP_MAX_S = 3
BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises UsageError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "--port gives another one, 0 any that is free"
        ) from error


def serve(app: ASGIApp, live: Live, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        http=_Impatient,
        ws="none",
        log_config=None,
        log_level="critical",  # what goes wrong is told on the page
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        h11_max_incomplete_event_size=HEAD_MAX_BYTES,
        timeout_graceful_shutdown=STOP_MAX_S,
    )
    _Server(config, live).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Closes the looks first: their pages would stay open for ever."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """End well on the first signal, at once on the second; neither is passed on."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.close()
        await super().shutdown(sockets)


class _Impatient(H11Protocol):
    """Hangs up on who has not sent the whole head of a request in time."""

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_asked = self.conn.their_state is not h11.IDLE
        if is_asked and self._waits is not None:
            self._waits.cancel()
            self._waits = None
        elif not is_asked:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waits is not None:
            self._waits.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._waits is None:
            self._waits = self.loop.call_later(HEAD_MAX_S, self.transport.close)
