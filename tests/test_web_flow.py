"""What the plots and figures of the overview count: each call once, when it is over."""

import json
from pathlib import Path

import pytest

from runner.ledger.flow import recent_endings
from runner.ledger.standing import queue_standing
from runner.web.flow import Flow, Point
from runner.web.live import Live, columns
from runner.web.stills import POINTS_MAX, TITLES, stills
from tests.dashboards import Home, dashboard, dead_of, open_home
from tests.ledgers import POSTGRES_URL

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="the dashboard finds its ledger by the home folder"
)


def look(home: Home, flow: Flow) -> Point:
    with home.ledger.snapshot() as connection:
        queue = queue_standing(connection, now_us=home.now_us)
        return flow.look(connection, queue, now_us=home.now_us)


def test_each_call_is_counted_once_when_it_is_over(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        batch, worker, flow = home.named(), home.worker(), Flow()
        home.add(batch, "one", "two", "three")
        tickets = home.feed(worker)
        first = home.claim(tickets[0], worker, attempt_id=home.new_call())
        assert look(home, flow).calls_per_s is None, "one look tells no speed"
        second = home.claim(tickets[1], worker, attempt_id=home.new_call())
        home.store(first)
        home.finish(first)
        home.now_us += 1_000_000
        point = look(home, flow)
        assert point.calls_per_s == pytest.approx(1, rel=0.02)
        assert (point.failed_per_min, point.running) == (0, 1)
        home.store(second)
        home.finish(second, dead_of())
        home.now_us += 1_000_000
        point = look(home, flow)
        assert point.calls_per_s == pytest.approx(1, rel=0.02)
        assert point.failed_per_min == pytest.approx(30, rel=0.02)
        home.now_us += 1_000_000
        assert look(home, flow).calls_per_s == pytest.approx(2 / 3, rel=0.02)
        told = columns(flow.points)
        assert told["at_s"] == sorted(told["at_s"])
        with home.ledger.snapshot() as connection:
            endings = recent_endings(connection, since_us=0, limit=10)
        assert endings.by_fault == {None: 1, "bad_request": 1}


def test_the_past_hour_is_read_once_from_the_ledger(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        worker = home.worker()
        home.add(home.named(), "one", "two")
        for ticket in home.feed(worker):
            lease = home.claim(ticket, worker, attempt_id=home.new_call())
            home.store(lease)
            home.finish(lease)
            home.now_us += 60_000_000
        flow = Flow()
        look(home, flow)
        speeds = [point.calls_per_s for point in flow.points]
        assert speeds[-1] is None
        assert [round(60 * (one or 0)) for one in speeds[:-1]].count(1) == 2


def test_the_depth_of_the_past_hour_is_there_at_once(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        worker = home.worker()
        home.add(home.named(), "one", "two", "three")
        home.now_us += 80_000_000
        for ticket in home.feed(worker)[:2]:
            lease = home.claim(ticket, worker, attempt_id=home.new_call())
            home.now_us += 60_000_000
            home.store(lease)
            home.finish(lease, total_us=60_000_000)
        home.now_us += 50_000_000
        flow = Flow()
        look(home, flow)
        assert [(one.waiting, one.running) for one in flow.points] == [
            *((3, 0), (2, 1), (1, 1), (1, 0)),
            (1, 0),
        ]
        assert flow.points[0].calls_per_s == 0, "nothing was called then, and that is known"
        told = [point.at_s for point in flow.points]
        assert told == sorted(told)


def test_live_looks_say_what_the_page_says(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        home.through("one", "two")
        home.through("three", outcome=dead_of())
        live = Live(home.ledger, day_limit_nusd=None)
        event = live._look()
        with dashboard(home) as board:
            page = board.visitor().get("/")
    assert event.startswith("event: look\ndata: ")
    told = json.loads(event.partition("data: ")[2])["figures"]
    for name in ("queued", "dead", "done", "today", "workers"):
        assert told[name]
        if name != "workers":
            assert f'data-figure="{name}">{told[name]}<' in page.text


def test_plots_that_stand_still_show_some_of_many_points_and_the_newest() -> None:
    points = [Point(float(60 * at), at, 0, None, at / 7, 0.0, None) for at in range(1_000)]
    drawn = stills(points)
    assert list(drawn) == list(TITLES)
    assert "waiting: 999 at 16:39" in drawn["depth"], "the newest"
    assert 10 < drawn["depth"].count("<circle") / 2 <= POINTS_MAX
    assert stills([])["depth"].count("<circle") == 0
