"""Who may ask the dashboard, and what leaves it: checked here, before and after every page.

A page in the same browser can send requests to this machine, and a name of its own can be made to
mean this machine. So a request must name this host, come from no other site, and carry the cookie
that the token buys; one that changes something must also be a form of our own.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.web.access import LOGIN, STATIC, Access, is_for_strangers
from runner.web.forms import Form, FormError, read_form

LIVE = "/live"
HEAD_MAX_BYTES = 32_768
ANSWER_MAX_S = 30.0
WRONG_TOKEN_S = 0.5  # how long a wrong guess waits

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not no-referrer: with that, browsers say that the forms of our own pages come from nowhere
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


class Guard:
    """Lets to the app only what may be asked; a POST reaches it with its form read and checked."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send, keeps=scope["path"].startswith(STATIC))
        headers = Headers(scope=scope)
        refusal = (
            _too_large(scope) or self._foreign(scope, headers) or self._stranger(scope, headers)
        )
        if refusal is None and scope["method"] == "POST":
            refusal = await self._read_form(scope, receive, headers)
        if refusal is not None:
            await refusal(scope, receive, guarded)
        else:
            await _in_time(self._app, scope, receive, guarded)

    def _foreign(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to what another site began, or what means another host."""
        hosts, is_post = headers.getlist("host"), scope["method"] == "POST"
        if len(hosts) != 1 or not self._access.is_own_host(hosts[0]):
            return _refused(421, "this dashboard does not answer to that host name")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _refused(405, "only GET, HEAD and POST are answered here")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None and is_post:
            return _refused(403, "a form is taken from a page of this dashboard only")
        if origin is not None and _place(origin) != hosts[0].lower():
            return _refused(403, "another site asked for this; nothing was done")
        if site not in (None, "same-origin", "none") and (is_post or not _is_visit(headers)):
            return _refused(403, "another site asked for this; nothing was done")
        return None

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to who has not shown the token."""
        path: str = scope["path"]
        if is_for_strangers(path):
            return None
        reads = scope["method"] != "POST"
        if reads and "token" in (query := QueryParams(scope["query_string"])):
            return self._admitted(query["token"], to=path) or RedirectResponse(LOGIN, 303)
        if self._access.is_signed_in(
            cookies=headers.get("cookie", ""), authorization=headers.get("authorization", "")
        ):
            return None
        if reads and _is_visit(headers):
            return RedirectResponse(LOGIN, 303)
        return _refused(401, "sign in first: `runner web` prints an address that does so")

    def _admitted(self, token: str, *, to: str) -> Response | None:
        """The way in for who knows the token; None for others."""
        if not self._access.is_token(token):
            return None
        answer = RedirectResponse(to if _is_own_path(to) else "/", 303)
        answer.set_cookie(self._access.cookie, self._access.session, httponly=True, samesite="lax")
        return answer

    async def _read_form(self, scope: Scope, receive: Receive, headers: Headers) -> Response | None:
        """Put the form into the scope; the answer when it is none of ours."""
        try:
            form = await read_form(receive, content_type=headers.get("content-type", ""))
        except FormError as error:
            return _refused(error.status, str(error))
        if scope["path"] == LOGIN:
            return await self._signed_in(form)
        if not self._access.is_own_form(form.one("csrf")):
            return _refused(
                403,
                "that page was made before the dashboard was last started; nothing was done: "
                "load the page again and repeat it",
            )
        scope.setdefault("state", {})["form"] = form
        return None

    async def _signed_in(self, form: Form) -> Response:
        if (answer := self._admitted(form.one("token"), to="/")) is not None:
            return answer
        await anyio.sleep(WRONG_TOKEN_S)
        return RedirectResponse(f"{LOGIN}?wrong=1", 303)


def _too_large(scope: Scope) -> Response | None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in scope["headers"])
    return _refused(431, "address and headers are too long") if size > HEAD_MAX_BYTES else None


def _is_visit(headers: Headers) -> bool:
    """Whether a person goes there, as far as the browser says."""
    mode = headers.get("sec-fetch-mode")
    return mode == "navigate" if mode else "text/html" in headers.get("accept", "")


def _place(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _is_own_path(path: str) -> bool:
    # two slashes, or a backslash, begin the address of another host
    return path.startswith("/") and not path.startswith(("//", "/\\"))


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)


def _with_headers(send: Send, *, keeps: bool) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers["cache-control"] = "no-cache" if keeps else "no-store"
        await send(message)

    return guarded


async def _in_time(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the app answer, within ANSWER_MAX_S unless it answers for as long as somebody looks."""
    if scope["path"] == LIVE:
        await app(scope, receive, send)
        return
    has_begun = False

    async def noted(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    with anyio.move_on_after(ANSWER_MAX_S) as waiting:
        await app(scope, receive, noted)
    if waiting.cancelled_caught and not has_begun:
        await _refused(503, f"no answer within {ANSWER_MAX_S:g} s; ask for less, or later")(
            scope, receive, send
        )
