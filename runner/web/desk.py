"""What every page has at hand: the ledger to read in a thread, templates, and notices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any, TypeVar

import anyio.to_thread
from jinja2 import Environment
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from runner.config import Settings
from runner.ledger import Ledger
from runner.metrics import Metrics
from runner.web.access import Access, is_for_strangers
from runner.web.forms import Form
from runner.web.live import Live

NOTICES_MAX = 200

T = TypeVar("T")


class Notices:
    """What was done, told once on the page that follows; an address names it, and no text."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def keep(self, text: str) -> str:
        """Keep a text; the name to ask for it with."""
        while len(self._kept) >= NOTICES_MAX:
            del self._kept[next(iter(self._kept))]
        name = token_urlsafe(9)
        self._kept[name] = text
        return name

    def take(self, name: str) -> str | None:
        """The text of this name, the first time it is asked for."""
        return self._kept.pop(name, None)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The parts that pages are made with, built once by `app.build`."""

    ledger: Ledger
    settings: Settings
    access: Access
    live: Live
    metrics: Metrics
    templates: Environment
    notices: Notices = field(default_factory=Notices)


def desk_of(request: Request) -> Desk:
    """The desk of the app that a request is for."""
    desk: Desk = request.app.state.desk
    return desk


def form_of(request: Request) -> Form:
    """What was filled in; the guard has read and checked it."""
    form: Form = request.state.form
    return form


async def look(request: Request, reading: Callable[[Connection], T]) -> T:
    """Read from one snapshot, in a thread."""
    ledger = desk_of(request).ledger

    def read() -> T:
        with ledger.snapshot() as connection:
            return reading(connection)

    return await work(read)


async def work(task: Callable[[], T]) -> T:
    """Do what takes its time in a thread; one that no longer matters is left to end by itself."""
    return await anyio.to_thread.run_sync(task, abandon_on_cancel=True)


def page(request: Request, template: str, /, *, status: int = 200, **values: Any) -> Response:
    """A page of the dashboard."""
    desk = desk_of(request)
    path = request.url.path
    shared: Mapping[str, Any] = {
        "here": path,
        # strangers see these pages, and are told nothing
        "csrf": "" if is_for_strangers(path) else desk.access.csrf,
        "home": str(desk.settings.home),
        "notice": desk.notices.take(request.query_params.get("notice", "")),
    }
    made = desk.templates.get_template(template).render(**{**shared, **values})
    # half of a surrogate pair, which JSON can hold, is no text
    return HTMLResponse(made.encode("utf-8", "backslashreplace"), status)


def done(request: Request, to: str, notice: str) -> Response:
    """Go on to a page, which tells what was done."""
    name = desk_of(request).notices.keep(notice)
    path, mark, anchor = to.partition("#")
    joined = "&" if "?" in path else "?"
    return RedirectResponse(f"{path}{joined}notice={name}{mark}{anchor}", 303)
