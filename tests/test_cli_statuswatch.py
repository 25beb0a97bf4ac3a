"""The live screen of status: its parts, and a real terminal that shows it until Ctrl-C."""

import io
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from runner.cli.exits import Exit
from runner.cli.sparkline import BLOCKS, EMPTY, FULL, bar, sparkline
from runner.cli.statuswatch import Past, Seen, render
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.ledger.pausing import pause_batch
from runner.model import Dead, Done, Failure, Fault
from tests.command_lines import RUNNER, clean_env
from tests.ledgers import POSTGRES_URL, open_world
from tests.test_cli_ledger import Home

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)
PATIENCE_S = 30.0


@given(st.lists(st.floats(0, 1e9), max_size=50), st.integers(0, 40))
def test_a_sparkline_has_a_block_a_value_and_its_highest_is_full(
    values: list[float], width: int
) -> None:
    drawn = sparkline(values, width=width)
    shown = values[len(values) - min(width, len(values)) :]
    assert len(drawn) == len(shown)
    assert set(drawn) <= set(BLOCKS)
    if shown and max(shown) > 0:
        assert drawn[shown.index(max(shown))] == BLOCKS[-1]


@given(st.floats(-1, 2), st.integers(2, 40))
def test_a_bar_is_full_or_empty_only_when_its_share_is(share: float, width: int) -> None:
    drawn = bar(share, width=width)
    assert len(drawn) == width
    assert (FULL not in drawn) == (share <= 0)
    assert (EMPTY not in drawn) == (share >= 1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Home]:
    with open_world(tmp_path) as found:
        home = Home(found.ledger)
        home.home = tmp_path / "home"
        batch, worker = home.batch("june"), home.worker()
        home.add(batch, "one")
        home.turn(worker, Done("{}"))
        home.add(batch, "two", first_position=1)
        bad = Failure(Fault.BAD_REQUEST, "HTTP 400: \x1b[2Jno such thing")
        home.turn(worker, Dead("bad_request", bad))
        home.add(batch, "three", first_position=2)
        with home.ledger.transaction() as connection:
            pause_batch(connection, batch.id, "paused by hand", now_us=home.tick())
        yield home


def screen_of(world: Home, *, width: int) -> str:
    """What a terminal of this width shows."""
    from runner.cli.shapes.status import StatusShape  # noqa: PLC0415 - beside its only use

    status = StatusShape.model_validate(world.json("status"))
    with world.ledger.snapshot() as connection:
        calls = list_calls(connection, CallFilter())
    past = Past()
    for now_s in (0.0, 1.0, 2.0):
        past.note(status, now_s=now_s)
    shown = io.StringIO()
    seen = Seen(status, [call for call in calls if call.fault is not None])
    Console(file=shown, width=width, markup=False).print(render(seen, past, width=width))
    return shown.getvalue()


def test_the_screen_tells_progress_errors_and_what_goes_on(world: Home) -> None:
    shown = screen_of(world, width=140)
    assert "june" in shown
    assert "2/3" in shown
    assert "bad_request  HTTP 400: no such thing" in shown
    assert "\x1b" not in shown
    assert "june: paused by hand" in shown
    assert "runner batch resume june" in shown


@pytest.mark.parametrize("width", [20, 60, 200])
def test_no_line_is_wider_than_the_terminal(world: Home, width: int) -> None:
    assert max(map(len, screen_of(world, width=width).splitlines())) <= width


def read_until(leader: int, mark: bytes) -> bytes:
    """What a terminal shows until the mark comes, or it is closed."""
    shown = b""
    until_s = time.monotonic() + PATIENCE_S
    while mark not in shown and time.monotonic() < until_s:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                shown += os.read(leader, 65_536)
            except OSError:  # the other end is closed
                break
    return shown


def test_a_terminal_shows_it_until_ctrl_c_and_is_left_as_it_was(world: Home) -> None:
    leader, follower = pty.openpty()
    env = clean_env(RUNNER_HOME=str(world.home), TERM="xterm-256color", COLUMNS="120", LINES="40")
    process = subprocess.Popen(
        [*RUNNER, "status", "--watch"], env=env, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = read_until(leader, b"paused by hand")
    process.send_signal(signal.SIGINT)
    # read on: a terminal that nobody reads would keep it from ending
    shown += read_until(leader, b"\x1b[?1049l")
    assert process.wait(PATIENCE_S) == Exit.DONE
    assert b"paused by hand" in shown
    assert b"\x1b[?1049h" in shown, "a screen of its own"
    assert b"\x1b[?25h" in shown[-40:], "the cursor is back"
    assert b"\x1b[?1049l" in shown[-40:], "and the screen of before"
    os.close(leader)


def test_without_a_terminal_or_with_json_it_is_refused(world: Home) -> None:
    for arguments, why in ((("--watch",), "needs a terminal"), (("--watch", "--json"), "either")):
        ended = world.call("status", *arguments)
        assert ended.code == Exit.USAGE
        assert why in ended.err
