"""Metrics say what the ledger says, only grow where they count, and stay cheap to read."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from runner.config import BudgetSettings, Settings
from runner.keys import first_id
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.lanes import note_lanes, write_use
from runner.ledger.tables import attempt
from runner.metrics import CONTENT_TYPE, Metrics
from runner.metrics.serving import MetricsServer
from runner.model import AttemptState, Outcome, Usage
from tests.command_lines import call
from tests.figures import Samples
from tests.ledgers import DEAD, DONE, POSTGRES_URL, START_US, TRANSIENT, World, lane_of, open_world
from tests.test_limitwatch import QUIET

SCRAPE_MAX_S = 0.3  # of a core
STEP_US = 2_000  # 500 calls a second
END_US = START_US + 200_000 * STEP_US


@dataclass(frozen=True)
class Alert:
    """A rule, and series of a minute a value: with the first ones it fires at `at`, else not."""

    name: str
    at: str
    fires: Mapping[str, str]
    rests: Mapping[str, str]

    def case(self, *, fires: bool) -> dict[str, Any]:
        """One test as promtool reads it."""
        series = self.fires if fires else self.rests
        return {
            "interval": "1m",
            "input_series": [{"series": one, "values": n} for one, n in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{self.name}",alertstate="firing"}})',
                    "eval_time": self.at,
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }


LANE = '{model="m",server="s",key="k",lane="n1"}'
ALERTS = (
    Alert(
        "RunnerDayBudgetMostlySpent",
        "1m",
        {
            'runner_day_usd{kind="settled"}': "7 7",
            'runner_day_usd{kind="ambiguous"}': "1 1",
            "runner_day_budget_usd": "10 10",
        },
        {
            'runner_day_usd{kind="settled"}': "7 7",
            'runner_day_usd{kind="held"}': "3 3",
            "runner_day_budget_usd": "10 10",
        },
    ),
    Alert(
        "RunnerBatchBudgetMostlySpent",
        "1m",
        {
            'runner_batch_usd{batch="b",job="j",kind="settled"}': "8 8",
            'runner_batch_budget_usd{batch="b",job="j"}': "10 10",
        },
        {
            'runner_batch_usd{batch="b",job="j",kind="settled"}': "7 7",
            'runner_batch_usd{batch="other",job="j",kind="settled"}': "8 8",
            'runner_batch_budget_usd{batch="b",job="j"}': "10 10",
        },
    ),
    Alert(
        "RunnerBatchPaused",
        "6m",
        {'runner_batch_paused{batch="b",job="j"}': "1x7"},
        {'runner_batch_paused{batch="b",job="j"}': "0 0 0 1 1 1 1 1"},
    ),
    Alert(
        "RunnerKeyPaused",
        "1m",
        {'runner_key_paused{scope="key:y",name="K",fault="bad_key"}': "1 1"},
        {'runner_key_paused{scope="key:y",name="K",fault="bad_key"}': "_ _"},
    ),
    Alert(
        "RunnerBreakerOpen",
        "3m",
        {f"runner_lane_breaker_open{LANE}": "1x4", f"runner_lane_seen_seconds{LANE}": "2x4"},
        {f"runner_lane_breaker_open{LANE}": "1x4", f"runner_lane_seen_seconds{LANE}": "90x4"},
    ),
    Alert(
        "RunnerOldestDocumentWaitsLong",
        "11m",
        {'runner_oldest_age_seconds{state="waiting"}': "3700x12"},
        {'runner_oldest_age_seconds{state="waiting"}': "3500x12"},
    ),
    Alert(
        "RunnerManyDeadLetters",
        "36m",
        {
            'runner_documents{state="dead"}': "0+1x40",
            'runner_documents{state="done"}': "0+10x40",
            'runner_documents{state="review"}': "0x40",
        },
        {
            'runner_documents{state="dead"}': "0+1x40",
            'runner_documents{state="done"}': "0+30x40",
            'runner_documents{state="review"}': "0x40",
        },
    ),
    Alert(
        "RunnerManyCallsFail",
        "21m",
        {
            'runner_calls_total{model="m",outcome="good",simulated="false"}': "0+4x22",
            'runner_calls_total{model="m",outcome="server_error",simulated="false"}': "0+6x22",
        },
        {
            'runner_calls_total{model="m",outcome="good",simulated="false"}': "0+6x22",
            'runner_calls_total{model="m",outcome="server_error",simulated="false"}': "0+4x22",
        },
    ),
    Alert(
        "RunnerWorkerGone",
        "5m",
        {"runner_workers_died_total": "0 0 0 1 1 1", 'runner_workers{state="lost"}': "0x6"},
        {"runner_workers_died_total": "1x6", 'runner_workers{state="lost"}': "0x6"},
    ),
    Alert(
        "RunnerNobodyWorks",
        "6m",
        {'runner_documents{state="queued"}': "5x7", 'runner_workers{state="working"}': "0x7"},
        {'runner_documents{state="queued"}': "5x7", 'runner_workers{state="working"}': "1x7"},
    ),
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def metrics_of(world: World, tmp_path: Path, **settings: Any) -> Metrics:
    return Metrics(world.ledger, Settings(home=tmp_path, **settings))


def test_an_attempt_is_counted_once_it_has_ended_and_once_only(
    world: World, tmp_path: Path
) -> None:
    metrics = metrics_of(world, tmp_path)
    worker, batch = world.worker(), world.batch()
    world.add(batch, "one", "two")
    one, two = (world.claim(ticket, worker) for ticket in world.feed(worker))
    world.store(one)
    open_ones = Samples(metrics.render())
    assert open_ones.of("runner_calls_total") == 0
    assert open_ones.of("runner_held_usd") == 2_000 / 1e9
    usage = Usage(input_tokens=100, cached_tokens=60, output_tokens=9)
    world.finish(one, DONE, usage=usage, response_us=40_000, parse_us=900, total_us=50_000)
    for _ in range(3):
        seen = Samples(metrics.render())
        assert seen.of("runner_calls_total") == 1
        assert seen.of("runner_calls_total", outcome="good", model="small") == 1
        assert seen.of("runner_tokens_total", kind="cached") == 60
        assert seen.of("runner_cost_usd_total", kind="settled") == 900 / 1e9
        assert seen.of("runner_step_seconds_bucket", step="total", le="0.05") == 1
        assert seen.of("runner_step_seconds_bucket", step="total", le="0.025") == 0
        assert seen.of("runner_step_seconds_sum", step="parse") == 900 / 1e6
    world.finish(two, TRANSIENT, state=AttemptState.AMBIGUOUS, cost_nusd=None, ambiguous_nusd=1_000)
    seen = Samples(metrics.render())
    assert seen.of("runner_calls_total", outcome="server_error") == 1
    assert seen.of("runner_cost_usd_total", kind="ambiguous") == 1_000 / 1e9
    assert seen.of("runner_held_usd") == 0


def test_a_reader_that_looked_often_and_one_that_looks_now_say_the_same(
    world: World, tmp_path: Path
) -> None:
    metrics = metrics_of(world, tmp_path)
    worker = world.worker()
    before: Samples | None = None
    outcomes: list[Outcome] = [DONE, TRANSIENT, DEAD, DONE]
    for turn, outcome in enumerate(outcomes):
        batch = world.batch(f"b{turn}", simulated=turn == 3)
        world.add(batch, f"text {turn}", f"other {turn}")
        world.turn(worker, outcome)
        seen = Samples(metrics.render())
        for (name, labels), value in ({} if before is None else before).items():
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert seen[name, labels] >= value, "counters only grow"
        before = seen
    assert before == Samples(metrics_of(world, tmp_path).render())
    assert before is not None
    assert before.of("runner_calls_total", simulated="true") == 2


def test_an_attempt_under_an_id_of_long_ago_is_counted_too(world: World, tmp_path: Path) -> None:
    metrics = metrics_of(world, tmp_path)
    worker, batch = world.worker(), world.batch()
    world.add(batch, "one", "two")
    early, late = world.feed(worker)
    world.finish(world.claim(early, worker, attempt_id="a5"))
    assert Samples(metrics.render()).of("runner_calls_total") == 1
    world.finish(world.claim(late, worker, attempt_id="a01aaaaaaaa"))  # as by a clock set back
    for _ in range(2):
        assert Samples(metrics.render()).of("runner_calls_total") == 2


def test_a_call_that_never_left_is_no_call(world: World, tmp_path: Path) -> None:
    worker, batch = world.worker(), world.batch()
    world.add(batch, "one")
    world.turn(worker, TRANSIENT, state=AttemptState.NOT_SENT, cost_nusd=0)
    seen = Samples(metrics_of(world, tmp_path).render())
    assert seen.of("runner_calls_total") == 0
    assert seen.of("runner_calls_not_sent_total", model="small") == 1


def test_budgets_lanes_and_pauses_are_told(world: World, tmp_path: Path) -> None:
    worker, batch = world.worker(), world.batch('na"me\n', budget_nusd=5_000_000_000)
    world.add(batch, "one")
    lane = lane_of()
    use = QUIET.model_copy(update={"refused": 4, "breaker_open": True})
    now_us = world.ledger.clock.us()
    with world.ledger.transaction() as connection:
        note_lanes(connection, [lane], now_us=now_us)
        write_use(connection, {lane.id: use.model_dump_json()}, now_us=now_us)
    world.sql(
        "INSERT INTO key_pause (scope, name, fault, reason, since_us) "
        "VALUES ('key:y', 'ONE_KEY at example.org', 'money_out', 'because', 1)"
    )
    settings = {"budget": BudgetSettings(day_usd=12)}
    seen = Samples(metrics_of(world, tmp_path, **settings).render())
    assert seen.of("runner_day_budget_usd") == 12
    assert seen.of("runner_batch_budget_usd", batch='na"me\n', job="invoice") == 5
    assert seen.of("runner_batch_documents", state="queued") == 1
    assert seen.of("runner_lane_requests_limit", server="example.org", key="ONE_KEY") == 500
    assert seen.of("runner_lane_refusals_total") == 4
    assert seen.of("runner_lane_breaker_open", model="small") == 1
    assert seen.of("runner_key_paused", fault="money_out") == 1
    assert seen.of("runner_oldest_age_seconds", state="waiting") > 0
    assert seen.of("runner_workers", state="lost") == 1, "it beat in another year"
    world.sql("UPDATE worker SET state = 'dead' WHERE id = :id", id=worker.id)
    assert Samples(metrics_of(world, tmp_path).render()).of("runner_workers_died_total") == 1


@pytest.mark.slow
@pytest.mark.skipif(POSTGRES_URL is not None, reason="fills the ledger in SQLite's words")
def test_a_look_at_200_000_attempts_is_cheap(tmp_path: Path) -> None:
    world = World(Ledger(sqlite_url(tmp_path / "ledger.db")))  # it balances no more
    world.add(world.batch(), "one")
    world.turn(world.worker())
    births = [(first_id("a", at_us=at_us), at_us) for at_us in range(START_US, END_US, STEP_US)]
    names = [column.name for column in attempt.columns if column.name not in ("id", "created_us")]
    with world.ledger.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE birth (id TEXT, at_us INTEGER)")
        connection.exec_driver_sql("INSERT INTO birth VALUES (?, ?)", births)
        connection.exec_driver_sql(
            f"INSERT INTO attempt (id, created_us, {', '.join(names)}) "
            f"SELECT birth.id, at_us, {', '.join(names)} FROM attempt, birth"
        )
    metrics = metrics_of(world, tmp_path)
    metrics.render()
    took_s = []
    for _ in range(3):  # the machine may be busy with other tests
        began_s = time.thread_time()
        answer = metrics.render()
        took_s.append(time.thread_time() - began_s)
    assert min(took_s) < SCRAPE_MAX_S
    assert Samples(answer).of("runner_calls_total") == 200_001
    world.ledger.close()


def test_every_metric_that_a_rule_or_a_panel_names_is_there(world: World, tmp_path: Path) -> None:
    there = Samples(metrics_of(world, tmp_path).render()).names
    for name in ("alerts.yml", "grafana.json"):
        shipped = (files("runner.metrics") / name).read_text(encoding="utf-8")
        named = set(re.findall(r"\brunner_[a-z_]+", shipped))
        assert len(named) > 8, "void"
        assert named <= there, name


PROMTOOL = shutil.which("promtool") or ""
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="no promtool on PATH")


def promtool(*arguments: str, given: bytes = b"") -> str:
    """What Prometheus itself says, complaints and all."""
    done = subprocess.run(
        [PROMTOOL, *arguments], input=given, capture_output=True, check=False, timeout=60
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@needs_promtool
def test_prometheus_has_nothing_against_metrics_and_rules(world: World, tmp_path: Path) -> None:
    worker, batch = world.worker(), world.batch('na"me\n', budget_nusd=5_000_000_000)
    world.add(batch, "one", "two")
    world.claim(world.feed(worker)[0], worker)
    now_us = world.ledger.clock.us()
    with world.ledger.transaction() as connection:
        note_lanes(connection, [lane_of()], now_us=now_us)
        write_use(connection, {lane_of().id: QUIET.model_dump_json()}, now_us=now_us)
    assert promtool("check", "metrics", given=metrics_of(world, tmp_path).render()) == ""
    rules = files("runner.metrics") / "alerts.yml"
    assert "SUCCESS: 10 rules found" in promtool("check", "rules", "--lint-fatal", str(rules))


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    copy = tmp_path / "alerts.yml"
    copy.write_text((files("runner.metrics") / "alerts.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"alert: (\w+)", copy.read_text(encoding="utf-8")))
    assert named == {alert.name for alert in ALERTS}
    cases = [alert.case(fires=fires) for alert in ALERTS for fires in (True, False)]
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"rule_files": [str(copy)], "tests": cases}), encoding="utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_rules_and_dashboard_are_printed_whole(tmp_path: Path) -> None:
    dashboard = call("metrics", "--grafana", home=tmp_path)
    assert (dashboard.code, json.loads(dashboard.out)["title"]) == (0, "runner")
    rules = call("metrics", "--alert-rules", home=tmp_path)
    assert rules.out == (files("runner.metrics") / "alerts.yml").read_text(encoding="utf-8")
    assert call("metrics", "--grafana", "--json", home=tmp_path).code == 2


# ------------------------------------------------------------ over HTTP


def ask(url: str, *, host: str | None = None, method: str = "GET") -> tuple[int, bytes, str]:
    request = urllib.request.Request(url, method=method)
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=100) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers["Content-Type"]


@pytest.fixture
def served() -> Iterator[MetricsServer]:
    with MetricsServer(lambda: b"up 1\n", host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_one_address_answers_and_only_to_who_names_this_machine(served: MetricsServer) -> None:
    assert ask(served.url) == (200, b"up 1\n", CONTENT_TYPE)
    assert ask(served.url, host="localhost:9465")[0] == 200
    assert ask(served.url, host="evil.example")[0] == 421
    assert ask(served.url + "/../../etc/passwd")[0] == 404
    assert ask(served.url, method="POST")[0] == 501
