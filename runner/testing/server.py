"""The provider's HTTP server: routes, and the delivery of replies whole, cut, dripped or never.

| route | does |
|---|---|
| `POST /v1/chat/completions` | answers, as rules and limits have it |
| `GET /v1/models`, `GET /v1/models/NAME` | the models that are served |
| `GET /_book` | every entry, one JSON object a line |
| `GET /_book/summary` | the book added up |
| `POST /_control` | changes settings (`ProviderSettings`); `{"heal": true}`, `{"clear": true}` |
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from aiohttp import web

from .faults import Transport
from .outcome import Decision
from .places import Places
from .provider import Arrival, Provider
from .replies import JSON_TYPE, ApiError

HOST = "127.0.0.1"
BACKLOG = 4_096
OK = 200
SHUTDOWN_S = 0.5
# linger on, for 0 s: closing sends a reset instead of an orderly end
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens."""

    runner: web.ServerRunner
    port: int

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://{HOST}:{self.port}/v1"

    async def stop(self) -> None:
        """Close every connection; calls in flight are booked as not answered."""
        await self.runner.cleanup()


async def serve(provider: Provider, *, port: int = 0) -> Server:
    """Listen on 127.0.0.1; port 0 takes a free one. Raises OSError when the port is taken."""
    # a client that goes away cancels its handler, so that its call is booked as not answered
    low_level = web.Server(_Handler(provider).handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(low_level, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    listening = socket.create_server((HOST, port), backlog=BACKLOG)
    await web.SockSite(runner, listening, backlog=BACKLOG).start()
    return Server(runner, listening.getsockname()[1])


class _Handler:
    """Finds the route of a request; the low-level server spares the cost of a router."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._places = Places(count=provider.settings.serve_at_once)
        self._routes: dict[tuple[str, str], Callable[[web.BaseRequest], web.Response]] = {
            ("GET", "/_book"): self._book,
            ("GET", "/_book/summary"): self._summary,
            ("GET", "/v1/models"): self._models,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        route = (request.method, request.rel_url.path)
        if route == ("POST", "/v1/chat/completions"):
            return await self._chat(request)
        try:
            if route == ("POST", "/_control"):
                return self._control(await request.content.read())
            if route[0] == "GET" and route[1].startswith("/v1/models/"):
                return self._model(request, route[1].removeprefix("/v1/models/"))
            if route in self._routes:
                return self._routes[route](request)
        except ApiError as error:
            return _json_response(error.body, status=error.status)
        unknown = ApiError(404, f"Invalid URL ({route[0]} {route[1]})")
        return _json_response(unknown.body, status=unknown.status)

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        decision = self._provider.decide(
            Arrival(
                body=body,
                authorization=request.headers.get("Authorization"),
                attempt_id=request.headers.get("X-Runner-Attempt"),
                received_s=time.monotonic(),
            )
        )
        response = _response(decision)
        answered = False
        try:
            answered = await self._serve(request, response, decision)
        except ConnectionError:
            pass  # the client went away while it was being answered: the entry says so
        finally:
            self._provider.book.finish(
                decision.entry.seq, finished_s=time.monotonic(), answered=answered
            )
        return response

    async def _serve(
        self, request: web.BaseRequest, response: web.StreamResponse, decision: Decision
    ) -> bool:
        """Deliver a refusal at once, and anything else from a place, the slower the fuller."""
        if decision.reply.status != OK:
            return await _deliver(request, response, decision)
        book, seq = self._provider.book, decision.entry.seq
        if self._places.full:
            book.wait(seq)
        async with self._places.one() as serving:
            book.begin(seq, begun_s=time.monotonic())
            slower = 1 + self._provider.settings.batch_slowdown * (serving - 1)
            delivery = decision.delivery
            delivery = replace(delivery, latency_s=delivery.latency_s * slower)
            return await _deliver(request, response, replace(decision, delivery=delivery))

    def _book(self, _request: web.BaseRequest) -> web.Response:
        lines = (entry.to_json() + "\n" for entry in self._provider.book.entries())
        return web.Response(text="".join(lines), content_type="application/x-ndjson")

    def _summary(self, _request: web.BaseRequest) -> web.Response:
        summary = self._provider.book.summary(cpu_s=time.process_time())
        return _json_response(summary.to_json().encode())

    def _models(self, request: web.BaseRequest) -> web.Response:
        self._provider.checked_key(request.headers.get("Authorization"))
        models = [_model_object(name) for name in self._provider.served_models()]
        return _json_response(json.dumps({"object": "list", "data": models}).encode())

    def _model(self, request: web.BaseRequest, name: str) -> web.Response:
        self._provider.checked_key(request.headers.get("Authorization"))
        self._provider.check_model(name)
        return _json_response(json.dumps(_model_object(name)).encode())

    def _control(self, body: bytes) -> web.Response:
        """Heal first, then apply the changes, then clear; all or nothing."""
        try:
            changes = json.loads(body)
            settings = self._provider.settings
            settings = settings.healed() if changes.pop("heal", False) else settings
            clear = changes.pop("clear", False)
            self._provider.apply(settings.changed(changes))
        except (ValueError, AttributeError) as error:
            raise ApiError(400, f"nothing was changed: {error}") from error
        self._places.resize(self._provider.settings.serve_at_once)
        if clear:
            self._provider.clear()
        return _json_response(self._provider.settings.model_dump_json().encode())


def _json_response(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, headers={"Content-Type": JSON_TYPE})


def _model_object(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "test"}


def _response(decision: Decision) -> web.StreamResponse:
    """The response before anything is written: whole where it can be, else written in parts."""
    reply, transport = decision.reply, decision.delivery.transport
    headers = {
        "Content-Type": reply.content_type,
        "x-request-id": f"req_{decision.entry.seq:08d}",
        **reply.headers,
    }
    if len(reply.pieces) == 1 and transport is Transport.WHOLE:
        return web.Response(body=reply.body, status=reply.status, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    if len(reply.pieces) > 1:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(reply.body)
    return response


async def _deliver(
    request: web.BaseRequest, response: web.StreamResponse, decision: Decision
) -> bool:
    """Write the reply as its delivery says; whether all of it was written."""
    delivery, pieces = decision.delivery, decision.reply.pieces
    if delivery.latency_s and len(pieces) == 1:
        await asyncio.sleep(delivery.latency_s)
    match delivery.transport:
        case Transport.WHOLE:
            await _write_whole(request, response, decision)
            return True
        case Transport.DRIP:
            await _drip(request, response, decision)
            return True
        case Transport.HANG:
            await asyncio.Event().wait()
        case Transport.HANG_MID_BODY:
            await _write_half(request, response, decision)
            await asyncio.Event().wait()
        case Transport.DROP_BEFORE:
            _drop(request, reset=False)
        case Transport.DROP_MID_BODY | Transport.RESET_MID_BODY:
            await _write_half(request, response, decision)
            _drop(request, reset=delivery.transport is Transport.RESET_MID_BODY)
        case _:
            assert_never(delivery.transport)
    return False


async def _write_whole(
    request: web.BaseRequest, response: web.StreamResponse, decision: Decision
) -> None:
    """Write everything; a stream's latency is spread over its events."""
    pieces = decision.reply.pieces
    await response.prepare(request)
    if len(pieces) > 1:
        pause_s = decision.delivery.latency_s / len(pieces)
        for piece in pieces:
            if pause_s:
                await asyncio.sleep(pause_s)
            await response.write(piece)
    await response.write_eof()


async def _drip(request: web.BaseRequest, response: web.StreamResponse, decision: Decision) -> None:
    """Write byte after byte with a pause between them."""
    await response.prepare(request)
    body = decision.reply.body
    for position in range(len(body)):
        await response.write(body[position : position + 1])
        await asyncio.sleep(1 / decision.delivery.bytes_per_s)
    await response.write_eof()


async def _write_half(
    request: web.BaseRequest, response: web.StreamResponse, decision: Decision
) -> None:
    body = decision.reply.body
    await response.prepare(request)
    await response.write(body[: len(body) // 2])


def _drop(request: web.BaseRequest, *, reset: bool) -> None:
    """Close the connection under the reply; `reset` sends RST instead of an orderly end."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        listening = transport.get_extra_info("socket")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
