"""How the dashboard listens: who is too slow, too many listeners, which names mean it."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import uvicorn

from runner.config import Settings, is_loopback
from runner.errors import UsageError
from runner.web import forms, serving
from runner.web.access import Access
from runner.web.app import build
from runner.web.forms import FormError, read_form
from runner.web.serving import listen, serve
from tests.command_lines import call
from tests.dashboards import Home, Visitor, dashboard, dead_of, open_home
from tests.ledgers import POSTGRES_URL

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="the dashboard finds its ledger by the home folder"
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path) as made:
        yield made


async def test_a_form_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "BODY_MAX_S", 0.05)

    async def nothing_more() -> dict[str, object]:
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(FormError) as refused:
        await read_form(nothing_more, content_type=forms.TYPE)
    assert refused.value.status == 408


def test_who_does_not_send_a_whole_head_is_hung_up_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_MAX_S", 0.2)
    monkeypatch.setattr("uvicorn.Config", partial(uvicorn.Config, timeout_keep_alive=200))
    listener = listen("127.0.0.1", 0)
    app, live = build(home.ledger, Settings.load(env=home.env), Access())
    thread = threading.Thread(target=serve, args=(app, live, listener), daemon=True)
    thread.start()
    began_s = time.monotonic()
    slow = [b"", b"GET / HTTP/1.1\r\n", b"GET /next"]
    open_ones = [socket.create_connection(listener.getsockname(), timeout=100) for _ in slow]
    open_ones[2].sendall(b"GET /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while b"</svg>" not in open_ones[2].recv(65_536):
        pass
    for one, sent in zip(open_ones, slow, strict=True):
        one.sendall(sent)
    for one in open_ones:
        while one.recv(65_536):
            pass
        one.close()
    live.close()
    assert time.monotonic() - began_s < 100, "well before a connection that is kept alive ends"


async def test_looks_have_a_most_of_listeners_and_end_with_the_process(home: Home) -> None:
    with dashboard(home) as board:
        known = board.visitor()
        request = f"GET /live HTTP/1.1\r\nHost: localhost\r\nCookie: {known.cookie}\r\n\r\n"
        listeners = []
        for _ in range(20):
            one = socket.create_connection(("127.0.0.1", board.port))
            one.settimeout(100)
            one.sendall(request.encode())
            while b"event: look" not in one.recv(65_536):
                pass
            listeners.append(one)
        assert known.get("/live").status == 503
        board.process.send_signal(signal.SIGTERM)
        assert board.process.wait(100) == 0
        for one in listeners:
            last = b""
            while more := one.recv(65_536):
                last = (last + more)[-5:]
            assert last == b"0\r\n\r\n", "it came to its end: what is held back is cut off"
            one.close()


def test_two_dashboards_and_a_shell_retry_dead_letters_once_each(home: Home) -> None:
    ids = home.through(*map(str, range(60)), outcome=dead_of())
    batch = home.named().id
    with dashboard(home) as one, dashboard(home) as other:
        guests = [one.visitor(), other.visitor()] * 2
        start = threading.Barrier(len(guests) + 1)

        def post(guest: Visitor) -> None:
            start.wait()
            assert guest.post("/dead/retry", [("batch", batch)]).status == 303

        posting = [threading.Thread(target=post, args=(guest,)) for guest in guests]
        for thread in posting:
            thread.start()
        start.wait()
        in_shell = call("dead", "retry", "--yes", "--json", home=home.folder / "home", env=home.env)
        for thread in posting:
            thread.join()
    assert in_shell.code == 0, in_shell.err
    with home.ledger.snapshot() as connection:
        retried = connection.exec_driver_sql(
            "SELECT document_id, count(*) FROM event WHERE kind = 'dead_retried' GROUP BY 1"
        ).all()
    assert sorted(retried) == sorted((one, 1) for one in ids)


def test_a_dashboard_that_is_killed_changes_nothing(home: Home) -> None:
    home.through("before", outcome=dead_of())
    with dashboard(home) as board:
        known = board.visitor()
        listener = socket.create_connection(("127.0.0.1", board.port), timeout=20)
        request = f"GET /live HTTP/1.1\r\nHost: localhost\r\nCookie: {known.cookie}\r\n\r\n"
        listener.sendall(request.encode())
        assert listener.recv(1)
        board.process.kill()
        board.process.wait()
        listener.close()
    home.through("after")  # and what is in the ledger is checked at the end of every test
    assert sorted(home.where().values()) == ["dead", "done"]


def test_other_machines_are_let_in_with_a_token_of_ones_own_only(home: Home) -> None:
    for env in ({}, {"RUNNER_WEB_TOKEN": "short"}):
        ended = call("web", "--host", "0.0.0.0", home=home.folder / "home", env=env)
        assert ended.code == 2
        assert "RUNNER_WEB_TOKEN" in ended.err
        assert ended.out == ""


def test_beyond_loopback_bare_addresses_and_own_names_are_meant_and_no_others() -> None:
    token = "a-token-that-is-long-enough"
    far = Access.to("0.0.0.0", 8484, token=token)
    assert far.token == token
    for host in ("localhost:8484", "192.168.1.7:8484", "[fe80::1]:80", socket.gethostname()):
        assert far.is_own_host(host), host
    near = Access.to("127.0.0.1", 8484, token=None)
    for host in ("localhost", "LOCALHOST:9000", "127.0.0.1:8484", "[::1]:8484"):
        assert near.is_own_host(host), host
    for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1@evil", "a:b:c", "x/y"):
        assert not far.is_own_host(host), host
        assert not near.is_own_host(host), host
    assert not near.is_own_host("192.168.1.7:8484")
    assert len({Access().token, Access().token, near.token, near.csrf, near.session}) == 5
    assert near.token not in repr(near)


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UsageError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])
