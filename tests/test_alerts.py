"""Alerts: each told once, at 80 % of a limit and at a pause, and a command that harms nothing."""

import asyncio
import json
import shlex
import socket
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import runner.alerts
import runner.telling
from runner.alerts import Alerts
from runner.config import AlertSettings, BudgetSettings, Settings
from runner.errors import ConfigError
from runner.ledger.alerts import Alert, take_alerts
from runner.ledger.calls import events
from runner.ledger.control import raise_day_budget, resume_batch
from runner.ledger.keypauses import pause_key
from runner.ledger.money import budget_scope, day_scope, set_limit
from runner.ledger.pausing import pause_batch
from runner.ledger.raising import Raised, raise_alert
from runner.ledger.writer import GroupThread
from runner.limiter import Outage
from runner.model import Failure, Fault, Pauses
from runner.outages import Outages
from tests.ledgers import HOLD_NUSD, World, lane_of, open_world

LIMIT_NUSD = 10 * HOLD_NUSD


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def spend(world: World, nusd: int, *, name: str = "b", **plan: Any) -> None:
    """One document of a batch done at this cost."""
    batch = world.batch(name, **plan)
    world.add(batch, f"{name} {world.now_us}")
    worker = world.worker()
    world.sql("UPDATE leader SET worker_id = :me", me=worker.id)
    (ticket,) = world.feed(worker)
    assert world.finish(world.claim(ticket, worker), cost_nusd=nusd)


def taken(world: World, *, day_limit_nusd: int | None = None) -> list[Alert]:
    with world.ledger.transaction() as connection:
        return take_alerts(connection, day_limit_nusd=day_limit_nusd, now_us=world.tick())


def test_a_batch_is_told_of_once_when_80_percent_of_its_budget_are_spent(world: World) -> None:
    spend(world, LIMIT_NUSD * 8 // 10 - 1, budget_nusd=LIMIT_NUSD)
    assert taken(world) == []
    spend(world, 1)
    (alert,) = taken(world)
    assert (alert.kind, alert.batch, alert.spent_nusd, alert.limit_nusd) == (
        "budget_alert",
        "b",
        8_000,
        LIMIT_NUSD,
    )
    assert alert.scope == budget_scope(world.batch("b").id)
    assert alert.message.startswith("budget of batch b: 0.0000 of 0.0000 USD spent")
    spend(world, 1)
    assert taken(world) == []
    with world.ledger.snapshot() as connection:
        (event,) = events(connection)
    assert (event.kind, event.message) == ("budget_alert", alert.message)


def test_a_raised_budget_is_told_of_anew_and_the_same_one_is_not(world: World) -> None:
    spend(world, LIMIT_NUSD, budget_nusd=LIMIT_NUSD)
    assert len(taken(world)) == 1
    scope = budget_scope(world.batch("b").id)
    for limit_nusd, told in ((LIMIT_NUSD, 0), (LIMIT_NUSD + 1, 1), (LIMIT_NUSD, 0)):
        with world.ledger.transaction() as connection:
            set_limit(connection, scope, limit_nusd)
        assert len(taken(world)) == told


def test_a_day_is_told_of_by_the_settings_or_by_what_a_person_raised(world: World) -> None:
    spend(world, LIMIT_NUSD)
    assert taken(world) == []
    assert taken(world, day_limit_nusd=2 * LIMIT_NUSD) == []
    (alert,) = taken(world, day_limit_nusd=LIMIT_NUSD)
    assert (alert.scope, alert.batch) == (day_scope(world.now_us), None)
    assert "budget of the day 2023-11-14: " in alert.message
    with world.ledger.transaction() as connection:
        raise_day_budget(connection, LIMIT_NUSD + 1, now_us=world.tick())
    assert taken(world, day_limit_nusd=LIMIT_NUSD)[0].limit_nusd == LIMIT_NUSD + 1


def test_a_past_day_is_not_told_of(world: World) -> None:
    spend(world, LIMIT_NUSD)
    world.now_us += 86_400_000_000
    assert taken(world, day_limit_nusd=LIMIT_NUSD) == []


def test_a_pause_is_told_of_once_unless_a_person_made_it_or_ended_it(world: World) -> None:
    own, by_day, by_hand, over = (world.batch(name) for name in ("a", "b", "c", "d"))
    day = day_scope(world.now_us)
    spend(world, 5, name="b")
    with world.ledger.transaction() as connection:
        pause_batch(connection, own.id, "budget spent", now_us=world.tick())
        pause_batch(connection, by_day.id, "day spent", now_us=world.tick(), scope=day)
        pause_batch(connection, by_hand.id, "wait", now_us=world.tick(), by_person=True)
        pause_batch(connection, over.id, "budget spent", now_us=world.tick())
        resume_batch(connection, over, budget_nusd=None, now_us=world.tick())
    first, second = taken(world, day_limit_nusd=100)
    assert (first.kind, first.scope, first.message) == (
        "batch_paused",
        budget_scope(own.id),
        "batch a is paused: budget spent",
    )
    assert (second.scope, second.batch, second.spent_nusd, second.limit_nusd) == (
        day,
        "b",
        5,
        100,
    )
    assert taken(world, day_limit_nusd=100) == []


# ------------------------------------------------------------ the command


def command(folder: Path, code: str) -> Settings:
    """Settings whose alert command runs this code; `lines` is a file beside it."""
    script = folder / "alert me.py"
    script.write_text(
        f"import pathlib, sys, time\nlines = open({str(folder / 'told')!r}, 'a')\n{code}"
    )
    script.chmod(stat.S_IRWXU)
    return Settings(
        home=folder,
        budget=BudgetSettings(day_usd=LIMIT_NUSD / 1e9),
        alerts=AlertSettings(command=f"{sys.executable} '{script}'"),
    )


def told(folder: Path) -> list[str]:
    return (folder / "told").read_text().splitlines()


APPEND = "lines.write(sys.stdin.read())\n"


async def tell(world: World, settings: Settings) -> None:
    alerts = Alerts(world.ledger, settings, clock_s=lambda: world.now_us / 1e6)
    await alerts.look()
    await alerts.finish()
    await alerts.finish()


async def test_the_command_reads_one_line_of_json(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(world, LIMIT_NUSD)
    await tell(world, command(tmp_path, APPEND))
    (line,) = told(tmp_path)
    assert json.loads(line) == {
        "kind": "budget_alert",
        "scope": "day:2023-11-14",
        "batch": None,
        "spent_usd": 0.00001,
        "limit_usd": 0.00001,
        "message": "budget of the day 2023-11-14: 0.0000 of 0.0000 USD spent; no call is begun "
        "that could exceed it",
        "at": "2023-11-14T22:13:20Z",
    }
    assert capsys.readouterr().err.count("runner: budget of the day 2023-11-14") == 1


async def test_what_is_taken_as_the_drain_begins_is_told_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go = threading.Event(), threading.Event()

    def take_late(*arguments: Any, **named: Any) -> list[Alert]:
        taken = take_alerts(*arguments, **named)
        begun.set()
        assert may_go.wait(10)
        return taken

    monkeypatch.setattr(runner.alerts, "take_alerts", take_late)
    spend(world, LIMIT_NUSD)
    alerts = Alerts(world.ledger, command(tmp_path, APPEND), clock_s=lambda: world.now_us / 1e6)
    looking = asyncio.create_task(alerts.look())
    await asyncio.to_thread(begun.wait, 10)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert looking.cancelled()
    may_go.set()
    await alerts.look()
    await alerts.finish()
    assert len(told(tmp_path)) == 1


async def test_what_is_taken_by_a_commit_whose_answer_is_lost_is_told_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact, is_lost = GroupThread._transact, iter([True])

    def loses(thread: GroupThread, group: list[Any]) -> list[Any]:
        answers = transact(thread, group)
        if thread._thread.name == "ledger-writer" and next(is_lost, False):
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database is locked"))
        return answers

    monkeypatch.setattr(GroupThread, "_transact", loses)
    spend(world, LIMIT_NUSD)
    await tell(world, command(tmp_path, APPEND))
    assert next(is_lost, None) is None, "void: nothing was lost"
    assert len(told(tmp_path)) == 1


def shell(folder: Path, script: str) -> Settings:
    """Settings whose alert command is this script of the shell, which starts at once."""
    settings = command(folder, "")
    lines = shlex.quote(f"echo x >> {shlex.quote(str(folder / 'told'))}; {script}")
    return settings.model_copy(update={"alerts": AlertSettings(command=f"sh -c {lines}")})


FAILS = ("exit 3", "ended with exit code 3")
HANGS = ("exec sleep 60", "took longer than 1 s")


@pytest.mark.parametrize(("script", "trouble"), [FAILS, HANGS], ids=["fails", "hangs"])
async def test_a_command_that_fails_or_hangs_is_tried_twice_and_harms_nothing(
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    script: str,
    trouble: str,
) -> None:
    monkeypatch.setattr(runner.telling, "COMMAND_MAX_S", 1.0)
    spend(world, LIMIT_NUSD)
    began_s = time.monotonic()
    await tell(world, shell(tmp_path, script))
    assert time.monotonic() - began_s < 30, "half of what it would hang"
    assert len(told(tmp_path)) == 2
    assert capsys.readouterr().err.count(trouble) == 2


async def test_a_command_that_does_not_exist_is_named(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(world, LIMIT_NUSD, budget_nusd=LIMIT_NUSD)
    settings = Settings(home=tmp_path, alerts=AlertSettings(command="/nowhere/at-all --now"))
    await tell(world, settings)
    assert "'/nowhere/at-all --now' cannot be started" in capsys.readouterr().err


@pytest.mark.parametrize("line", ['webhook_url = "http://example.org/x"', 'webhook_url = "x"'])
def test_a_webhook_is_posted_to_over_https_or_on_this_machine(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runner.toml"
    path.write_text(f"[alerts]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"runner\.toml: alerts\.webhook_url"):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


@pytest.mark.parametrize("line", ['command = ""', 'command = "\'open"', "commands = 1"])
def test_a_command_that_cannot_be_read_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runner.toml"
    path.write_text(f"[alerts]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"runner\.toml: alerts\.command"):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


@pytest.mark.parametrize("line", ["day_usd = 0", "day_usd = inf", "document_usd = -1"])
def test_a_budget_that_is_no_amount_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runner.toml"
    path.write_text(f"[budget]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"runner\.toml: budget\.(day|document)_usd"):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


# ------------------------------------------------------------ what is raised


def raised(key: str = "k", **changes: Any) -> Raised:
    """Something to tell."""
    values: dict[str, Any] = {"kind": "drift", "key": key, "scope": "job:x", "message": "rose"}
    return Raised(**(values | changes))


def test_what_is_raised_again_and_again_is_told_once_and_anew_after_its_quiet_time(
    world: World,
) -> None:
    batch = world.batch()
    news = []
    for _ in range(3):
        with world.ledger.transaction() as connection:
            one = raised(batch_id=batch.id, message="m" * 5_000)
            news.append(raise_alert(connection, one, now_us=world.tick()))
    assert news == [True, False, False]
    (alert,) = taken(world)
    assert (alert.kind, alert.scope, alert.batch, len(alert.message)) == (
        *("drift", "job:x", "b"),
        1_000,
    )
    assert taken(world) == []
    for later_us, told in ((999, 0), (2_000_000, 1)):
        world.now_us += later_us
        with world.ledger.transaction() as connection:
            raise_alert(connection, raised(), now_us=world.now_us, quiet_us=1_000_000)
        assert len(taken(world)) == told
    with world.ledger.snapshot() as connection:
        assert [row.kind for row in events(connection)] == ["drift", "drift"]


def test_of_two_leaders_one_tells(world: World) -> None:
    with world.ledger.transaction() as connection:
        raise_alert(connection, raised(), now_us=world.tick())
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: taken(world), range(4)))
    assert sum(map(len, told)) == 1


def test_a_paused_key_is_told_of_once_however_many_batches_it_holds(world: World) -> None:
    failure = Failure(Fault.BAD_KEY, "HTTP 401")
    for name in ("a", "b"):
        batch = world.batch(name)
        with world.ledger.transaction() as connection:
            pause_key(
                connection,
                batch.id,
                lane=lane_of(),
                pauses=Pauses.KEY,
                failure=failure,
                now_us=world.tick(),
            )
    told = [one for one in taken(world) if one.kind == "key_paused"]
    assert [(one.scope, one.batch) for one in told] == [("key:yone", None)]
    assert "ONE_KEY at example.org does not work: HTTP 401" in told[0].message


async def test_an_outage_is_told_of_once_whoever_hears_of_it(world: World) -> None:
    for _ in range(2):
        outages = Outages(world.ledger, clock_s=lambda: world.now_us / 1e6)
        outages.begin(Outage(lane=lane_of(), since_s=1.0))
        await outages.finish()
    (alert,) = taken(world)
    assert (alert.kind, alert.scope) == ("breaker_open", "lane:nonesmall")
    assert "small at example.org fails again and again" in alert.message


async def test_an_outage_that_cannot_be_told_keeps_no_other_from_being_forgiven(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(_: Any, raised: Raised, **__: Any) -> None:
        if raised.scope == f"lane:{lane_of('one').id}":
            raise ValueError("cannot be told")

    forgiven: list[str] = []
    monkeypatch.setattr("runner.outages.raise_alert", told)
    monkeypatch.setattr("runner.outages.forgive", lambda _, run: forgiven.append(run.lane.key_id))
    outages = Outages(world.ledger, clock_s=lambda: world.now_us / 1e6)
    for key in ("one", "two"):
        outages.begin(Outage(lane=lane_of(key), since_s=1.0))
    with pytest.raises(ValueError, match="cannot be told"):
        await outages.finish()
    assert forgiven == [lane_of("two").key_id]


# ------------------------------------------------------------ the webhook


class Receiver(ThreadingHTTPServer):
    """A webhook that answers with the given statuses in turn, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.got: list[tuple[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens; what looks like a secret is part of it."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook/s3cret"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Note what came and answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, json.loads(body)))
        statuses = self.server.statuses
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        self.send_response(status)
        self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to no time between two tries."""
    monkeypatch.setattr(runner.alerts, "POST_PAUSES_S", (0.01, 0.01, 0.01))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("statuses", "tries"),
    [((204,), 1), ((500, 429, 200), 3), ((503,), 4), ((404,), 1), ((302,), 1)],
    ids=str,
)
async def test_a_webhook_gets_the_line_and_is_tried_again_where_that_may_help(
    world: World,
    capsys: pytest.CaptureFixture[str],
    *,
    statuses: tuple[int, ...],
    tries: int,
) -> None:
    receiver = Receiver(*statuses)
    with world.ledger.transaction() as connection:
        raise_alert(connection, raised(), now_us=world.tick())
    await tell(world, Settings(home=Path(), alerts=AlertSettings(webhook_url=receiver.url)))
    receiver.shutdown()
    receiver.server_close()
    assert [path for path, _ in receiver.got] == ["/hook/s3cret"] * tries
    assert receiver.got[0][1] == {
        "kind": "drift",
        "scope": "job:x",
        "batch": None,
        "spent_usd": None,
        "limit_usd": None,
        "message": "rose",
        "at": "2023-11-14T22:13:20Z",
    }
    said = capsys.readouterr().err
    assert said.count("alert webhook at 127.0.0.1:") == sum(
        status >= 300 for status in (*statuses, *[statuses[-1]] * 9)[:tries]
    )
    assert "s3cret" not in said


@pytest.mark.usefixtures("impatient")
async def test_a_webhook_that_is_away_harms_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with world.ledger.transaction() as connection:
        raise_alert(connection, raised(), now_us=world.tick())
    url = f"http://127.0.0.1:{port}/"
    await tell(world, Settings(home=Path(), alerts=AlertSettings(webhook_url=url)))
    said = capsys.readouterr().err
    assert said.count("runner: rose\n") == 1
    assert said.count(f"alert webhook at 127.0.0.1:{port} cannot be reached") == 4


@pytest.mark.usefixtures("impatient")
async def test_a_webhook_that_answers_anything_but_http_is_told_of_and_tried_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ready\r\n")
        await reader.read()
        writer.close()

    with world.ledger.transaction() as connection:
        raise_alert(connection, raised(), now_us=world.tick())
    async with await asyncio.start_server(greet, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await tell(world, Settings(home=Path(), alerts=AlertSettings(webhook_url=url)))
    said = capsys.readouterr().err
    assert said.count("did not answer in HTTP (BadStatusLine)") == 4


async def test_the_end_does_not_wait_for_ever_for_what_hears_nothing(
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner.alerts, "FINISH_MAX_S", 0.5)
    spend(world, LIMIT_NUSD)
    began_s = time.monotonic()
    await tell(world, shell(tmp_path, HANGS[0]))
    assert time.monotonic() - began_s < runner.telling.COMMAND_MAX_S, "when it would be stopped"
    assert "alerts that were not told before the end: 1" in capsys.readouterr().err
