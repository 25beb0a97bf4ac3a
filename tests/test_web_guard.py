"""The dashboard's guard: strangers, other sites, other hosts, forged and oversized forms."""

import re
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from starlette.routing import BaseRoute, Mount, Route

from runner.ledger.calls import document_calls
from runner.web.app import routes
from tests.dashboards import (
    KEY,
    WRONG,
    Answer,
    Dashboard,
    Home,
    Visitor,
    dashboard,
    dead_of,
    open_home,
)
from tests.ledgers import POSTGRES_URL

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="the dashboard finds its ledger by the home folder"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with open_home(tmp_path_factory.mktemp("guard")) as made:
        made.through("right")
        made.through("wrong", outcome=WRONG)
        made.through("dead", outcome=dead_of())
        yield made


@pytest.fixture(scope="module")
def board(home: Home) -> Iterator[Dashboard]:
    with dashboard(home) as running:
        yield running


def paths(home: Home) -> list[tuple[str, str]]:
    """Every method and address, with ids that are there."""
    document = next(one for one, state in home.where().items() if state == "review")
    with home.ledger.snapshot() as connection:
        call = document_calls(connection, document)[0].id
    batch = home.named().id
    ids = {"batch": batch, "document": document, "call": call, "run": "e1", "job": "tiny"}
    ids["version"] = "v1"
    found = []
    for route in routes():
        for method in sorted(_methods(route)):
            path = re.sub(r"\{(\w+)\}", lambda name: ids[name[1]], _path(route))
            found.append((method, path))
    return found


def _path(route: BaseRoute) -> str:
    if isinstance(route, Mount):
        return f"{route.path}/web.css"
    assert isinstance(route, Route)
    return route.path


def _methods(route: BaseRoute) -> set[str]:
    return {"GET"} if isinstance(route, Mount) else set(getattr(route, "methods", None) or ())


def dump(home: Home) -> dict[str, list[object]]:
    """All that a request could have changed."""
    with home.ledger.snapshot() as connection:
        return {
            table: list(connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1").all())
            for table in ("batch", "document", "record", "review", "event", "budget", "attempt")
        }


def nearly(secret: str) -> str:
    """Another text, by its last sign alone."""
    return secret[:-1] + ("y" if secret.endswith("x") else "x")


def form_of_everything() -> bytes:
    """A form that would do something anywhere."""
    return urlencode([("decision", "accepted"), ("by", "mallory"), ("why", "x")]).encode()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_whoever_may_not_ask_changes_nothing_and_learns_nothing(
    home: Home, board: Dashboard
) -> None:
    """Every route and method, for a stranger, for another site, and under another host's name."""
    before, known = dump(home), board.visitor()
    own = f"http://127.0.0.1:{board.port}"
    cases: dict[str, dict[str, str]] = {
        "no token": {"Origin": own},
        "wrong cookie": {"Origin": own, "Cookie": nearly(known.cookie)},
        "wrong bearer": {"Origin": own, "Authorization": "Bearer nonsense"},
        "foreign origin": {"Origin": "http://evil.example", "Cookie": known.cookie},
        "null origin": {"Origin": "null", "Cookie": known.cookie},
        "own name, other port": {"Origin": "http://127.0.0.1:1", "Cookie": known.cookie},
        "foreign site": {"Origin": own, "Cookie": known.cookie, "Sec-Fetch-Site": "cross-site"},
        "sister site": {"Origin": own, "Cookie": known.cookie, "Sec-Fetch-Site": "same-site"},
        "foreign host": {"Host": "evil.example", "Cookie": known.cookie},
        "foreign host, port": {"Host": f"evil.example:{board.port}", "Cookie": known.cookie},
        "host with a name before": {"Host": f"a@127.0.0.1:{board.port}", "Cookie": known.cookie},
        "bare address of another": {"Host": "10.0.0.1", "Cookie": known.cookie},
    }
    for name, headers in cases.items():
        is_stranger = name in ("no token", "wrong cookie", "wrong bearer")
        for method, path in paths(home):
            if is_stranger and (path.startswith("/static/") or path == "/login"):
                continue
            body = form_of_everything() if method == "POST" else None
            answer = known.ask(method, path, body=body, headers=FORM | headers)
            assert answer.status in (401, 403, 421), (name, method, path, answer.status)
            assert "june" not in answer.text, (name, method, path)
    assert dump(home) == before


def test_a_form_without_our_token_or_origin_is_not_taken(home: Home, board: Dashboard) -> None:
    before, known = dump(home), board.visitor()
    posts = [path for method, path in paths(home) if method == "POST"]
    assert len(posts) >= 6
    for path in posts:
        for csrf in ("", "nonsense", nearly(known.csrf)):
            forged = Visitor(board.port, known.cookie, csrf)
            answer = forged.post(path, [("decision", "accepted")])
            assert answer.status == 403, (path, csrf)
            assert "load the page again" in answer.text
        for headers in (FORM, FORM | {"Origin": "http://127.0.0.1.evil.example"}):
            body = urlencode([("csrf", known.csrf)]).encode()
            sent = known.ask("POST", path, body=body, headers=headers | {"Cookie": known.cookie})
            assert sent.status == 403, (path, headers)
        plain = FORM | {"Content-Type": "text/plain", "Cookie": known.cookie}
        plain["Origin"] = f"http://127.0.0.1:{board.port}"
        body = urlencode([("csrf", known.csrf)]).encode()
        assert known.ask("POST", path, body=body, headers=plain).status == 415
    assert dump(home) == before


def test_nothing_changes_by_looking(home: Home, board: Dashboard) -> None:
    before, known = dump(home), board.visitor()
    for method, path in paths(home):
        if method == "GET" and path != "/live":
            looked = known.get(path)
            assert KEY not in looked.text
            assert looked.status in (200, 303, 404), path
        if method == "HEAD":
            assert known.ask("HEAD", path, headers={"Cookie": known.cookie}).text == ""
    assert dump(home) == before


def test_only_get_head_and_post_are_answered(board: Dashboard) -> None:
    known = board.visitor()
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        answer = known.ask(method, "/", headers={"Cookie": known.cookie})
        assert answer.status == 405, method


@pytest.fixture
def every_kind_of_answer(board: Dashboard) -> list[Answer]:
    known, stranger = board.visitor(), board.stranger()
    return [
        known.get("/"),
        known.get("/nothing-here"),
        known.get("/batches/none"),
        known.get("/static/web.js"),
        known.get("/static/none.js"),
        known.post("/batches/none/pause"),
        stranger.get("/"),
        stranger.get("/login"),
        stranger.get("/live"),
        stranger.get("/", Host="evil.example"),
        stranger.get("/", Accept="*/*"),
        stranger.get("/?token=wrong"),
        stranger.post("/login", [("token", "wrong")]),
    ]


def test_every_answer_forbids_scripts_of_others_frames_and_keeping(
    every_kind_of_answer: list[Answer],
) -> None:
    for answer in every_kind_of_answer:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "http:"} & set(policy.split())
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in answer.headers
        assert not re.search(r"<[^>]* (style|on\w+)=", answer.text), "no inline style or handler"
        assert "access-control-allow-origin" not in answer.headers
    assert every_kind_of_answer[0].headers["cache-control"] == "no-store"


def test_no_page_has_the_key_the_token_or_what_the_cookie_carries(
    board: Dashboard, every_kind_of_answer: list[Answer]
) -> None:
    secret = board.visitor().cookie.partition("=")[2]
    for answer in every_kind_of_answer:
        for hidden in (KEY, board.token, secret):
            assert hidden not in answer.text
    for shown in (answer.text for answer in every_kind_of_answer[6:]):
        assert board.visitor().csrf not in shown, "a stranger gets no token for forms"


def test_the_address_signs_in_by_a_cookie_that_scripts_cannot_read(board: Dashboard) -> None:
    stranger = board.stranger()
    answer = stranger.get(f"/batches?token={board.token}")
    assert (answer.status, answer.headers["location"]) == (303, "/batches")
    (cookie,) = answer.cookies
    assert cookie.startswith(f"runner_web_{board.port}=")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert board.token not in cookie
    stranger.cookie = cookie.partition(";")[0]
    assert stranger.get("/batches").status == 200


def test_an_address_cannot_send_the_person_elsewhere(board: Dashboard) -> None:
    for path in ("//evil.example", "/\\evil.example", "//evil.example/%2f.."):
        answer = board.stranger().get(f"{path}?token={board.token}")
        assert answer.headers["location"] == "/", path


def test_a_wrong_token_waits_and_a_right_one_in_the_form_signs_in(board: Dashboard) -> None:
    stranger = board.stranger()
    began_s = time.monotonic()
    wrong = stranger.post("/login", [("token", "wrong")])
    assert time.monotonic() - began_s >= 0.5
    assert wrong.cookies == ()
    assert "not the token" in stranger.follow(wrong).words
    right = stranger.post("/login", [("token", board.token)])
    assert right.headers["location"] == "/"
    assert right.cookies
    refused = stranger.post("/login", [("token", board.token)], Origin="http://evil.example")
    assert refused.status == 403
    assert refused.cookies == ()


def test_a_bearer_token_lets_a_machine_read(board: Dashboard) -> None:
    answer = board.stranger().get("/batches", Authorization=f"Bearer {board.token}")
    assert answer.status == 200


def test_signing_out_forgets_the_cookie(board: Dashboard) -> None:
    answer = board.visitor().post("/logout")
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.cookies[0]


def test_a_form_that_is_too_large_is_refused(board: Dashboard) -> None:
    answer = board.visitor().post("/logout", [("note", "x" * 1_000_001)])
    assert answer.status == 413


def test_too_many_or_unreadable_fields_are_refused(board: Dashboard) -> None:
    assert board.visitor().post("/logout", [("a", "")] * 6_000).status == 400
    known = board.visitor()
    headers = FORM | {"Cookie": known.cookie, "Origin": f"http://127.0.0.1:{board.port}"}
    assert known.ask("POST", "/logout", body=b"csrf=%ff%fe", headers=headers).status == 400


def test_headers_that_are_too_large_are_refused(board: Dashboard) -> None:
    known = board.visitor()
    assert known.get("/batches", **{"X-Large": "x" * 40_000}).status == 431
    assert known.get("/batches?" + "x" * 40_000).status == 431
