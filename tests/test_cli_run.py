"""`runner run` and `runner work` as a person has them: processes, a provider, a terminal."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pexpect
import pytest

from runner.batches import CHUNK_MAX_S, Summary
from runner.cli.exits import Exit
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.pausing import pause_batch
from runner.ledger.standing import all_batches
from runner.testing import ProviderProcess, generate_documents
from tests.command_lines import RUNNER, TIMEOUT_S, Ended, call, clean_env, spawn
from tests.ledgers import DEAD, World

PATIENCE_S = 100.0


class Place:
    """A home, a folder of inputs and a provider."""

    def __init__(self, folder: Path, provider: ProviderProcess) -> None:
        self.home = folder / "home"
        self.inputs = folder / "in"
        self.out = folder / "out.jsonl"
        self.provider = provider
        self.inputs.mkdir()
        config = folder / "runner.toml"
        config.write_text(
            "".join(
                f'[models."{model}"]\nbase_url = "{provider.base_url}"\n'
                "input_usd_per_mtok = 1\noutput_usd_per_mtok = 4\n"
                for model in ("gpt-5-mini", "gpt-5")
            )
        )
        self.env = {"RUNNER_CONFIG": str(config)}

    def documents(self, count: int, *, seed: int = 1) -> None:
        """Put that many documents in."""
        for name, text in generate_documents(count, seed=seed, size="small"):
            (self.inputs / f"{seed}-{name}.txt").write_text(text)

    def arguments(self, *options: str) -> list[str]:
        """A `run` over the inputs."""
        return ["run", "invoice", str(self.inputs), "--batch", "june", *options]

    def run(self, *options: str) -> Ended:
        """Run to the end."""
        return spawn(*self.arguments(*options), home=self.home, env=self.env)

    def call(self, *arguments: str) -> Ended:
        """Any command, in this process."""
        return call(*arguments, home=self.home, env=self.env)

    def status(self) -> Any:
        """The batch as `status` has it."""
        return self.call("status", "june", "--json").json()["batches"][0]

    def on_terminal(self, *arguments: str) -> "pexpect.spawn[str]":
        """A command on a terminal of 120 columns."""
        return pexpect.spawn(
            RUNNER[0],
            [*RUNNER[1:], *arguments],
            env=clean_env(RUNNER_HOME=str(self.home), TERM="xterm", **self.env),
            encoding="utf-8",
            timeout=PATIENCE_S,
            dimensions=(30, 120),
        )

    def assert_balanced(self) -> None:
        """Ledger and provider agree on every call and its cost."""
        audit = self.call("audit", "--json").json()
        assert audit["problems"] == []
        book = self.provider.summary()
        settled, ambiguous = (
            Decimal(str(audit["settled_usd"])),
            Decimal(str(audit["ambiguous_usd"])),
        )
        assert settled <= Decimal(book.cost_nusd) / 10**9 <= settled + ambiguous


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ProviderProcess(input_usd_per_mtok="1", output_usd_per_mtok="4") as provider:
        yield Place(tmp_path, provider)


def until(what: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.05)


def calls_seen(place: Place) -> int:
    return len(place.provider.book())


# ------------------------------------------------------------ run


def test_a_run_gives_every_source_a_line_and_a_rerun_calls_nobody(place: Place) -> None:
    place.documents(12)
    (place.inputs / "copy.txt").write_text(min(place.inputs.iterdir()).read_text())
    ended = place.run("--out", str(place.out), "--json")
    assert ended.code == Exit.DONE, ended.err
    summed = ended.json()
    assert list(summed) == list(Summary.model_fields)
    counts = {
        name: summed[name] for name in ("accepted", "duplicate", "done", "attempts", "queued")
    }
    assert counts == {"accepted": 12, "duplicate": 1, "done": 12, "attempts": 12, "queued": 0}
    lines = [json.loads(line, parse_float=Decimal) for line in place.out.read_text().splitlines()]
    assert len(lines) == 13
    assert sum(line["cost_usd"] for line in lines) == Decimal(str(summed["cost_usd"]))
    place.assert_balanced()
    place.out.unlink()
    again = place.run("--out", str(place.out))
    assert again.code == Exit.DONE
    assert calls_seen(place) == 12
    assert len(place.out.read_text().splitlines()) == 13


def test_dead_letters_end_a_run_with_3_and_the_commands_that_help(place: Place) -> None:
    place.documents(2)
    (place.inputs / "broken.pdf").write_bytes(b"no PDF")
    for _ in range(2):  # a rerun of a finished batch ends as the first run did
        ended = place.run("--out", str(place.out))
        assert ended.code == Exit.UNFINISHED
        assert "1 dead letter:" in ended.err
        assert "`runner dead list --batch june`" in ended.err
        assert "dead retry" not in ended.err, "nothing to send again: it would stay dead"
    assert calls_seen(place) == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_the_run_goes_on(place: Place) -> None:
    place.documents(30)
    place.provider.control(latency_ms=400)
    process = subprocess.Popen(
        [*RUNNER, *place.arguments("--concurrency", "5", "--json")],
        env=clean_env(RUNNER_HOME=str(place.home), **place.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: calls_seen(place) >= 5)
    (worker,) = place.call("status", "--json").json()["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    out, told = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == Exit.DONE, told
    assert json.loads(out)["done"] == 30
    assert "a worker ended (killed by SIGKILL); starting another one" in told
    assert calls_seen(place) <= 30 + 5  # at most one more for each that was in flight
    place.assert_balanced()


def test_a_spent_budget_ends_a_run_with_5_and_a_larger_one_goes_on(place: Place) -> None:
    place.documents(12)
    small = place.run("--out", str(place.out), "--budget-usd", "0.04", "--concurrency", "2")
    assert small.code == Exit.PAUSED, small.err
    assert "is paused: budget spent" in small.err
    assert f"--out {place.out} --concurrency 2 --budget-usd USD" in small.err
    assert len(place.out.read_text().splitlines()) == 12  # partial results are written all the same
    seen = calls_seen(place)
    assert 0 < seen < 12
    large = place.run("--budget-usd", "1")
    assert (large.code, calls_seen(place)) == (Exit.DONE, 12)
    place.assert_balanced()


def test_a_paused_batch_ends_a_run_with_5_and_the_two_commands_that_go_on(place: Place) -> None:
    place.documents(2)
    place.call("submit", "invoice", str(place.inputs), "--batch", "june")
    place.call("batch", "pause", "june", "--why", "looks wrong")
    ended = place.run()
    assert ended.code == Exit.PAUSED
    assert "june is paused: looks wrong" in ended.err
    assert "`runner batch resume june` lets it go on, then:\n  runner run invoice" in ended.err
    assert calls_seen(place) == 0


def test_a_batch_that_a_past_day_holds_goes_on_with_the_next_run(place: Place) -> None:
    place.documents(2)
    place.call("submit", "invoice", str(place.inputs), "--batch", "june")
    ledger = Ledger(sqlite_url(place.home / "ledger.db"))
    with ledger.transaction() as connection:
        (june,) = all_batches(connection, limit=1)
        pause_batch(connection, june.id, "spent", now_us=1, scope="day:2026-01-01")
    ledger.close()
    ended = place.run()
    assert (ended.code, calls_seen(place)) == (Exit.DONE, 2)


def test_a_cancelled_batch_ends_a_run_with_1(place: Place) -> None:
    place.documents(2)
    place.call("submit", "invoice", str(place.inputs), "--batch", "june")
    place.call("batch", "cancel", "june", "--yes")
    ended = place.run()
    assert (ended.code, calls_seen(place)) == (Exit.FAILED, 0)
    assert "june was cancelled; another --batch name begins a new one" in ended.err


def test_a_dry_run_prices_and_sends_and_creates_nothing(place: Place) -> None:
    place.documents(3)
    (place.inputs / "copy.txt").write_text(min(place.inputs.iterdir()).read_text())
    config = Path(place.env["RUNNER_CONFIG"])
    config.write_text(config.read_text().replace("output_usd", "rpm = 6000\noutput_usd"))
    ended = place.call(*place.arguments("--dry-run", "--json"))
    assert ended.code == Exit.DONE, ended.err
    found = ended.json()
    assert (found["documents"], found["unparsable"]) == (3, 0)
    assert 0 < found["expected_usd"] < found["worst_usd"]
    assert (found["expected_s"], found["worst_s"]) == (0.0, 0.1)  # 3 and 15 calls at 6,000 a minute
    assert not place.home.exists()
    people = place.call(*place.arguments("--dry-run"))
    assert "worst case" in people.out
    assert "at the rate limits" in people.out
    assert "nothing was sent" in people.err
    assert calls_seen(place) == 0


def test_a_run_stops_with_5_when_nothing_ends_for_max_wait(place: Place) -> None:
    place.documents(2)
    place.provider.control(latency_ms=60_000)
    said = place.home.parent / "said"
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [*RUNNER, *place.arguments("--max-wait", "5")],
            env=clean_env(RUNNER_HOME=str(place.home), **place.env),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    # on a busy machine the five seconds may be over before a call is made: it stops all the same
    stops = re.compile("press Ctrl-C to abort|stopping")
    until(lambda: process.poll() is not None or bool(stops.search(said.read_text())))
    process.send_signal(signal.SIGINT)  # the calls would hang for a minute: abort them
    process.wait(PATIENCE_S)
    told = said.read_text()
    assert process.returncode == Exit.PAUSED, told
    assert "stopped after --max-wait" in told
    assert "this goes on:\n  runner run invoice" in told
    place.assert_balanced()


def test_standard_input_that_never_ends_does_not_keep_a_run_from_stopping(place: Place) -> None:
    texts = [text for _, text in generate_documents(200, seed=1, size="small")]
    with subprocess.Popen(
        [*RUNNER, "run", "invoice", "-", "--text-field", "body", "--batch", "june"],
        env=clean_env(RUNNER_HOME=str(place.home), **place.env),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        until((place.home / "ledger.db").exists)
        for text in texts:  # what has come is submitted with the next row
            process.stdin.write(json.dumps({"body": text}) + "\n")
            process.stdin.flush()
            if calls_seen(place) >= 2:
                break
            time.sleep(CHUNK_MAX_S)
        assert calls_seen(place) >= 2
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()  # standard input is still open
    assert process.returncode == Exit.INTERRUPTED
    assert "interrupted; this goes on:" in told
    assert place.status()["submitted"] is False


# ------------------------------------------------------------ on a terminal


def test_ctrl_c_on_a_terminal_finishes_calls_in_flight_and_names_the_command_that_goes_on(
    place: Place,
) -> None:
    place.documents(40)
    place.provider.control(latency_ms=700, latency_sigma=0.5)
    arguments = place.arguments("--concurrency", "8", "--out", str(place.out))
    shown = place.on_terminal(*arguments)
    shown.expect(r"june.*\d+/40.* 8 in flight")
    shown.expect(r"ETA")
    shown.sendintr()
    shown.expect(r"finishing \d+ calls? in flight; press Ctrl-C again to abort")
    shown.expect(r"interrupted; this goes on:\s+runner (run invoice .*out\.jsonl)")
    typed = shown.match[1]
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == Exit.INTERRUPTED
    assert typed.split() == arguments
    stopped = place.status()
    assert stopped["ambiguous_usd"] == 0
    assert stopped["done"] == stopped["calls"] == calls_seen(place) < 40
    place.provider.control(latency_ms=0)
    ended = place.run("--out", str(place.out))
    assert (ended.code, calls_seen(place)) == (Exit.DONE, 40)
    place.assert_balanced()


def test_two_ctrl_c_in_a_workers_first_second_still_name_the_command_that_goes_on(
    place: Place,
) -> None:
    place.documents(4)
    arguments = place.arguments()
    shown = place.on_terminal(*arguments)
    shown.expect("the worker is starting")
    shown.sendintr()
    shown.sendintr()
    shown.expect(rf"interrupted; this goes on:\s+runner {re.escape(' '.join(arguments))}")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == Exit.INTERRUPTED
    assert (place.run().code, calls_seen(place)) == (Exit.DONE, 4)


@pytest.mark.parametrize("step", ["make_plan", "export", "tell_ending"])
def test_ctrl_c_before_and_after_the_waiting_names_the_command_that_goes_on_too(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"runner.cli.run.{step}", interrupted)
    arguments = place.arguments("--out", str(place.out))
    ended = place.call(*arguments)
    assert ended.code == Exit.INTERRUPTED
    assert f"interrupted; this goes on:\n  runner {' '.join(arguments)}\n" in ended.err


def test_a_second_ctrl_c_aborts_and_lists_what_may_have_been_paid(place: Place) -> None:
    place.documents(4)
    place.provider.control(latency_ms=60_000)
    shown = place.on_terminal(*place.arguments())
    shown.expect(r"4 in flight")
    shown.sendintr()
    shown.expect("press Ctrl-C again to abort")
    shown.sendintr()
    shown.expect("aborting; calls in flight are listed as possibly paid")
    shown.expect("for calls of unknown end")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == Exit.INTERRUPTED
    assert place.status()["ambiguous_usd"] > 0
    place.assert_balanced()


def test_a_terminal_is_asked_before_dead_letters_are_retried(place: Place) -> None:
    world = World(Ledger(sqlite_url(place.home / "ledger.db")))
    world.add(world.batch("june"), "one")
    world.turn(world.worker(), DEAD)
    world.ledger.close()
    for answer, told in (("n", "interrupted"), ("y", "retried 1")):
        shown = place.on_terminal("dead", "retry", "--batch", "june")
        shown.expect("1 dead letter matches")
        shown.expect(r"retry 1 document\?")
        shown.sendline(answer)
        shown.expect(told)
        shown.expect(pexpect.EOF)
        shown.close()
        assert shown.exitstatus == (Exit.INTERRUPTED if answer == "n" else Exit.DONE)


# ------------------------------------------------------------ work


def test_work_until_empty_does_what_waits_and_ends_with_0(place: Place) -> None:
    place.documents(6)
    place.call("submit", "invoice", str(place.inputs), "--batch", "june")
    ended = spawn(
        *("work", "--until-empty", "--processes", "2", "--json"),
        home=place.home,
        env=place.env,
    )
    assert ended.code == Exit.DONE, ended.err
    assert (ended.json()["processes"], ended.json()["restarts"]) == (2, 0)
    assert (place.status()["done"], calls_seen(place)) == (6, 6)


def test_two_workers_told_to_stop_drain_and_end_with_0(place: Place) -> None:
    place.documents(30)
    place.provider.control(latency_ms=500)
    place.call("submit", "invoice", str(place.inputs), "--batch", "june")
    process = subprocess.Popen(
        [*RUNNER, "work", "--processes", "2", "--concurrency", "3"],
        env=clean_env(RUNNER_HOME=str(place.home), **place.env),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: calls_seen(place) >= 4)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == Exit.DONE, told
    stopped = place.status()
    assert stopped["done"] == stopped["calls"] == calls_seen(place) < 30
    assert place.call("status", "--json").json()["workers"] == []


def test_workers_that_refuse_their_settings_end_with_2(place: Place) -> None:
    ended = spawn(
        "work", "--processes", "2", home=place.home, env={"RUNNER_CONFIG": "nowhere.toml"}
    )
    assert ended.code == Exit.USAGE
    assert "nowhere.toml does not exist" in ended.err
