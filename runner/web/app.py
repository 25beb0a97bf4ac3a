"""The dashboard as an application: its routes, what it is built of, and how errors are told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from runner.budget import day_budget_nusd
from runner.config import Settings
from runner.errors import NotFoundError, RunnerError
from runner.ledger import Ledger
from runner.metrics import CONTENT_TYPE, Metrics
from runner.pages import TEMPLATES, environment
from runner.web import batches, calls, dead, documents, evaluations, overview, prompts, reviews
from runner.web.access import LOGIN, Access
from runner.web.desk import Desk, desk_of, page, work
from runner.web.guard import Guard
from runner.web.live import Live

HERE = Path(__file__).parent
NOT_FOUND = 404
NO_PAGE = "No page of the dashboard has this address."


def routes() -> list[BaseRoute]:
    """Every address; what changes something is a POST."""
    return [
        Route("/", overview.show),
        Route("/live", live),
        Route("/metrics", metrics),
        Route("/batches", batches.list_),
        Route("/batches/{batch}", batches.show),
        Route("/batches/{batch}/pause", batches.pause, methods=["POST"]),
        Route("/batches/{batch}/resume", batches.resume, methods=["POST"]),
        Route("/batches/{batch}/cancel", batches.ask_to_cancel, methods=["GET"]),
        Route("/batches/{batch}/cancel", batches.cancel, methods=["POST"]),
        Route("/dead", dead.groups),
        Route("/dead/letters", dead.letters),
        Route("/dead/retry", dead.ask_to_retry, methods=["GET"]),
        Route("/dead/retry", dead.retry, methods=["POST"]),
        Route("/documents", documents.find),
        Route("/documents/{document}", documents.show),
        Route("/calls", calls.list_),
        Route("/calls/{call}", calls.show),
        Route("/review", reviews.list_),
        Route("/review/{document}", reviews.show, methods=["GET"]),
        Route("/review/{document}", reviews.decide, methods=["POST"]),
        Route("/review/{document}/again", reviews.ask_again, methods=["GET"]),
        Route("/review/{document}/again", reviews.again, methods=["POST"]),
        Route("/evaluations", evaluations.list_),
        Route("/evaluations/{run}", evaluations.show),
        Route("/prompts", prompts.list_),
        Route("/prompts/{job}", prompts.show),
        Route("/prompts/{job}/{version}", prompts.show_version),
        Route("/login", login),
        Route("/logout", logout, methods=["POST"]),
        Route("/static/page.css", style),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ]


def build(ledger: Ledger, settings: Settings, access: Access) -> tuple[Guard, Live]:
    """The guarded application, and its looks, which whoever serves it closes."""
    watch = Live(ledger, day_limit_nusd=day_budget_nusd(settings))
    app = Starlette(
        routes=routes(),
        lifespan=_while_serving,
        exception_handlers={
            HTTPException: _no_such_page,
            RunnerError: _explained,
            DBAPIError: _ledger_trouble,
            Exception: _unexpected,
        },
    )
    app.state.desk = Desk(
        ledger=ledger,
        settings=settings,
        access=access,
        live=watch,
        metrics=Metrics(ledger, settings),
        templates=environment(HERE / "templates", served=True),
    )
    return Guard(app, access), watch


@asynccontextmanager
async def _while_serving(app: Starlette) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.live.run)
        yield
        tasks.cancel_scope.cancel()


async def live(request: Request) -> Response:
    """The looks as server-sent events."""
    watch = desk_of(request).live
    if request.method == "HEAD":  # who asks for no body would be kept waiting for its end
        return Response(media_type="text/event-stream")
    if watch.is_full:
        return Response("too many pages look already\n", 503, {"retry-after": "30"})
    return StreamingResponse(watch.listen(), media_type="text/event-stream")


async def metrics(request: Request) -> Response:
    """The metrics, for a Prometheus that shows the token as its bearer token."""
    found = await work(desk_of(request).metrics.render)
    return Response(found, media_type=CONTENT_TYPE)


async def style(request: Request) -> Response:  # noqa: ARG001 - as every route
    """The look that all pages share."""
    return FileResponse(TEMPLATES / "style.css")


async def login(request: Request) -> Response:
    """Ask for the token."""
    return page(request, "login.html", is_wrong="wrong" in request.query_params)


async def logout(request: Request) -> Response:
    """Forget who signed in, in this browser."""
    answer = RedirectResponse(LOGIN, 303)
    answer.delete_cookie(desk_of(request).access.cookie)
    return answer


async def _explained(request: Request, error: Exception) -> Response:
    status = NOT_FOUND if isinstance(error, NotFoundError) else 409
    return _told(request, status, str(error))


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    is_lost = error.status_code == NOT_FOUND
    return _told(request, error.status_code, NO_PAGE if is_lost else error.detail)


async def _ledger_trouble(request: Request, error: Exception) -> Response:
    # its own text would quote the statement
    assert isinstance(error, DBAPIError)
    message = f"the ledger could not be read or written: {error.orig}"
    return _told(request, 503, message)


async def _unexpected(request: Request, error: Exception) -> Response:
    message = f"unexpected {type(error).__name__}; this is a fault of the runner"
    return _told(request, 500, message)


def _told(request: Request, status: int, message: str) -> Response:
    title = "Not found" if status == NOT_FOUND else "Not done"
    return page(request, "error.html", status=status, title=title, message=message)
