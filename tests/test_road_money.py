"""Money and keys on the whole road: what stops, what goes on, and what a person is told."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from runner.model import DocumentState
from runner.testing.book import Entry
from runner.testing.control import ProviderProcess
from tests.roads import KEY, Road, assert_three_histories_agree, wait_until

pytestmark = pytest.mark.slow
SLOTS = 12
OTHER = """
[models.other]
api_key_env = "OTHER_KEY"
input_usd_per_mtok = 0.25
cached_usd_per_mtok = 0.025
output_usd_per_mtok = 2.0
"""
DAY = """
[budget]
day_usd = 0.06
"""


def batch_of(road: Road, name: str) -> Any:
    """One batch as `status` has it."""
    return road.json("status", name)["batches"][0]


def submit(road: Road, name: str, count: int, *, seed: int, model: str | None = None) -> None:
    """A batch of so many invoices."""
    inputs = road.write_documents(count, seed=seed)
    asked = [] if model is None else ["--model", model]
    done = road.ask("submit", "invoice", str(inputs), "--batch", name, *asked)
    assert done.code == 0, done.err


def refused(provider: ProviderProcess) -> list[Entry]:
    """The calls that came after a key was out of money or revoked."""
    return [entry for entry in provider.book() if entry.status in {401, 429}]


@pytest.mark.parametrize("trouble", ["quota_out_keys", "revoked_keys"])
def test_a_key_that_fails_is_followed_by_at_most_the_calls_in_flight_and_others_go_on(
    road: Road, provider: ProviderProcess, trouble: str
) -> None:
    road.configure(OTHER)
    road.more_env["OTHER_KEY"] = "another-key-of-no-worth"
    provider.control(latency_ms=150)
    submit(road, "a", 120, seed=1)
    submit(road, "b", 120, seed=2)
    submit(road, "c", 60, seed=3, model="other")
    road.start("work", "--concurrency", str(SLOTS))
    wait_until(lambda: len(provider.book()) > 3 * SLOTS, what="calls of all batches")
    provider.control(**{trouble: [KEY]})
    wait_until(lambda: batch_of(road, "c")["done"] == 60, what="the other key's batch")
    paused = [batch_of(road, name) for name in ("a", "b")]
    assert [batch["state"] for batch in paused] == ["paused", "paused"]
    assert paused[0]["pause_scope"] == paused[1]["pause_scope"]
    assert 0 < len(refused(provider)) <= SLOTS
    assert all(0 < batch["done"] < 120 and not batch["running"] for batch in paused), "void"
    (key,) = road.json("status")["paused_keys"]
    assert (key["name"].split(" at ")[0], key["batches"]) == ("OPENAI_API_KEY", ["a", "b"])
    assert (key["probe"] is not None) == (trouble == "quota_out_keys")
    counts = road.counts()
    assert counts[DocumentState.DEAD] == 0
    provider.control(**{trouble: []})
    assert road.json("batch", "resume", "b")["resumed"] == ["a"]
    wait_until(lambda: road.counts()[DocumentState.DONE] == 300, what="the rest")
    assert len(provider.book()) == 300 + len(refused(provider)), "nothing was paid twice"
    assert_three_histories_agree(road, provider, submitted=300)


def test_a_key_that_has_money_again_goes_on_by_itself(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(quota_out_keys=["*"])
    submit(road, "a", 30, seed=1)
    road.start("work", "--concurrency", "5")
    wait_until(lambda: batch_of(road, "a")["state"] == "paused", what="the pause")
    wait_until(lambda: not batch_of(road, "a")["running"], what="the calls' ends")
    seen = len(refused(provider))
    assert seen <= 5
    _let_five_minutes_pass(road)
    wait_until(lambda: len(refused(provider)) > seen, what="a try")
    time.sleep(1.5)
    assert len(refused(provider)) == seen + 1, "one document tries, and no other follows"
    provider.control(heal=True)
    _let_five_minutes_pass(road)
    wait_until(lambda: road.counts()[DocumentState.DONE] == 30, what="all documents")
    assert road.json("status")["paused_keys"] == []
    assert_three_histories_agree(road, provider, submitted=30)


def _let_five_minutes_pass(road: Road) -> None:
    with road.ledger() as ledger, ledger.transaction() as connection:
        connection.execute(text("UPDATE key_pause SET probe_us = 1"))


def test_a_spent_day_pauses_and_a_raised_one_goes_on(road: Road, provider: ProviderProcess) -> None:
    told = _configure_alerts(road, DAY)
    inputs = road.write_documents(90)
    arguments = ("run", "invoice", str(inputs), "--batch", "june", "--concurrency", "10")
    paused = road.call(*arguments)
    assert paused.returncode == 5, (paused.stdout, paused.stderr)
    assert "budget of the day " in paused.stderr
    assert "`runner batch resume june --day-budget-usd USD`" in paused.stderr
    assert 0 < sum(entry.cost_nusd for entry in provider.book()) <= 60_000_000
    assert road.ask("audit").code == 0
    assert road.call(*arguments).returncode == 5, "the day is still spent"
    alerts = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert sorted((one["kind"], one["batch"]) for one in alerts) == [
        ("batch_paused", "june"),
        ("budget_alert", None),
    ]
    assert {one["scope"][:4] for one in alerts} == {"day:"}
    assert {one["limit_usd"] for one in alerts} == {0.06}
    assert road.json("batch", "resume", "june", "--day-budget-usd", "5")["day_budget_usd"] == 5
    assert road.call(*arguments).returncode == 0
    assert road.ask("audit").code == 0
    assert_three_histories_agree(road, provider, submitted=90)


def test_a_spent_budget_is_told_by_the_alert_command_once(
    road: Road, provider: ProviderProcess
) -> None:
    told = _configure_alerts(road)
    inputs = road.write_documents(90)
    arguments = ("run", "invoice", str(inputs), "--batch", "june", "--concurrency", "10")
    assert road.call(*arguments, "--budget-usd", "0.06").returncode == 5
    alerts = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert sorted(one["kind"] for one in alerts) == ["batch_paused", "budget_alert"]
    assert {one["batch"] for one in alerts} == {"june"}
    assert max(one["spent_usd"] for one in alerts) <= 0.06
    assert road.call(*arguments).returncode == 5
    assert len(told.read_text(encoding="utf-8").splitlines()) == 2, "and never again"


def _configure_alerts(road: Road, more: str = "") -> Path:
    """Write the settings with a command that appends each alert to the returned file."""
    told = road.folder / "told.jsonl"
    script = road.folder / "append.py"
    script.write_text(f"import sys\nopen({str(told)!r}, 'a').write(sys.stdin.read())\n", "utf-8")
    road.configure(f'{more}\n[alerts]\ncommand = "{sys.executable} {script}"\n')
    return told
