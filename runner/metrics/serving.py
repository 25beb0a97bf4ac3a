"""Serves metrics over HTTP to whatever scrapes them: one address, GET only, nothing else."""

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError

from runner.config import LOOPBACK_HOSTS, is_loopback
from runner.errors import UsageError
from runner.metrics import CONTENT_TYPE

PATH = "/metrics"
REQUEST_MAX_S = 10.0  # for a client to say what it wants, and to take it


class MetricsServer(ThreadingHTTPServer):
    """Answers GET /metrics with what `render` gives; port 0 takes a free one.

    Bound to this machine, it answers only requests that name this machine: a page in a browser
    could bend a name of its own to it. Raises UsageError when the address cannot be had.
    """

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, render: Callable[[], bytes], *, host: str, port: int) -> None:
        self.render = render
        self.hosts = LOOPBACK_HOSTS if is_loopback(host) else None
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen at {host}:{port}: {error.strerror or error}; "
                "`--port` and `--host` name another address, port 0 a free one"
            ) from error

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}{PATH}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to speak of."""


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = REQUEST_MAX_S
    server_version, sys_version = "runner", ""

    def do_GET(self) -> None:
        """Answer a scrape."""
        if not self._means_us():
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"not the name of this server\n")
        elif urlsplit(self.path).path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"{PATH} is all there is\n".encode())
        else:
            self._answer_metrics()

    def _means_us(self) -> bool:
        if self.server.hosts is None:
            return True
        try:
            name = urlsplit(f"//{self.headers.get('host', '')}").hostname
        except ValueError:
            return False
        return name is not None and is_loopback(name)

    def _answer_metrics(self) -> None:
        try:
            found = self.server.render()
        except DBAPIError as error:  # its own text would quote the statement
            why = f"the ledger could not be read: {error.orig}\n"
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, why.encode())
            return
        self._answer(HTTPStatus.OK, found, content_type=CONTENT_TYPE)

    def _answer(
        self, status: HTTPStatus, body: bytes, *, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is nothing to speak of."""
