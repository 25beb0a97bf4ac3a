"""The whole road with real processes: faults, kill -9, resume, dead letters, several workers."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from runner.model import DocumentState
from runner.testing.chat_request import document_key
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents
from runner.testing.faults import FaultPlan
from tests.jobfolders import make_job
from tests.roads import Road, assert_three_histories_agree, calls_of_documents, kill, wait_until

pytestmark = pytest.mark.slow
FAULTS = {
    "seed": 7,
    "rules": [
        {"fault": "server_error_500", "rate": 0.02, "first": 1},
        {"fault": "drop_before_answer", "rate": 0.01, "first": 1},
        {"fault": "invalid_json", "rate": 0.02, "first": 1},
        {"fault": "cut_json", "rate": 0.01, "first": None},
    ],
}


@pytest.mark.timeout(400)
def test_faults_end_in_exactly_one_state_each_and_only_hopeless_documents_die(
    road: Road, provider: ProviderProcess, documents: int
) -> None:
    provider.control(faults=FAULTS)
    inputs = road.write_documents(documents)
    out = road.folder / "out.jsonl"
    done = road.call("run", "invoice", str(inputs), "--out", str(out), "--json", timeout_s=350)
    assert done.returncode == 3, done.stderr
    assert "dead retry" in done.stderr
    hopeless = _hopeless(documents)
    assert hopeless, "void: no document was to fail for ever"
    summary = json.loads(done.stdout)
    assert (summary["done"], summary["dead"]) == (documents - hopeless, hopeless)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == documents
    assert {line["status"] for line in lines} == {"done", "dead"}
    assert sum(line["attempts"] for line in lines) == summary["attempts"] == len(provider.book())
    assert road.ask("audit").code == 0
    assert_three_histories_agree(road, provider, submitted=documents)
    provider.control(heal=True)
    before = len(provider.book())
    assert road.ask("dead", "retry", "--yes").code == 0
    assert road.call("run", "invoice", str(inputs)).returncode == 0
    assert len(provider.book()) == before + hopeless
    assert road.counts()[DocumentState.DONE] == documents
    assert_three_histories_agree(road, provider, submitted=documents)


def _hopeless(count: int) -> int:
    plan = FaultPlan.model_validate(FAULTS)
    rules = [plan.common_rule(document_key(text)) for _, text in _made(count)]
    return sum(rule is not None and rule.fault == "cut_json" for rule in rules)


def _made(count: int) -> list[tuple[str, str]]:
    return list(generate_documents(count, seed=1, size="small"))


def test_a_run_killed_half_way_and_started_again_repeats_at_most_the_calls_in_flight(
    road: Road, provider: ProviderProcess, documents: int
) -> None:
    provider.control(latency_ms=60)
    inputs = road.write_documents(documents)
    run = road.start("run", "invoice", str(inputs), "--concurrency", "20")
    wait_until(lambda: len(provider.book()) >= documents // 2, what="half way")
    provider.control(latency_ms=60_000)  # however long it takes to find out whom to kill
    for pid in [*road.workers(), run.pid]:
        kill(pid)
    run.wait()
    in_flight = 20
    assert len(provider.book()) < documents, "void: the run was over before it was killed"
    provider.control(latency_ms=60)
    again = road.call("run", "invoice", str(inputs), timeout_s=200)
    assert again.returncode == 0, again.stderr
    entries = provider.book()
    assert len(entries) <= documents + in_flight
    assert max(calls_of_documents(entries).values()) <= 2
    assert_three_histories_agree(road, provider, submitted=documents)
    third = road.call("run", "invoice", str(inputs))
    assert third.returncode == 0
    assert len(provider.book()) == len(entries), "a finished batch makes no call"


def test_documents_of_a_killed_worker_run_again_within_15_seconds(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=3_000)
    inputs = road.write_documents(200)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    first = road.start("work", "--concurrency", "10")
    wait_until(lambda: len(provider.book()) >= 10, what="calls of the first worker")
    road.start("work", "--concurrency", "10")
    wait_until(lambda: len(road.workers()) == 2, what="a second worker")
    victims = {attempt.document_id for attempt in road.attempts() if attempt.state == "intent"}
    in_flight = {attempt.document_id for attempt in road.attempts() if attempt.state == "intent"}
    kill(first.pid)
    killed_s = time.monotonic()
    orphaned = {attempt.document_id for attempt in road.attempts() if attempt.state == "ambiguous"}
    assert victims
    assert in_flight

    def all_again() -> bool:
        nonlocal orphaned
        rows = road.attempts()
        orphaned = {row.document_id for row in rows if row.state == "ambiguous"}
        retried = {row.document_id for row in rows if row.number == 2}
        return bool(orphaned) and orphaned <= retried

    wait_until(all_again, timeout_s=25, what="every orphan called again")
    assert time.monotonic() - killed_s < 20


def test_two_operators_who_retry_at_once_retry_once(road: Road, provider: ProviderProcess) -> None:
    provider.control(faults={"rules": [{"fault": "bad_request_400", "rate": 0.2}]})
    inputs = road.write_documents(20)
    assert road.call("run", "invoice", str(inputs)).returncode in (3, 5)
    provider.control(heal=True)
    dead = road.counts()[DocumentState.DEAD]
    assert dead
    both = [road.start("dead", "retry", "--yes", "--json") for _ in range(2)]
    retried = [json.loads(one.communicate(timeout=100)[0])["retried"] for one in both]
    assert sum(retried) == dead


def test_sigterm_drains_a_worker_and_nothing_is_paid_twice(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=500)
    inputs = road.write_documents(60)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    worker = road.start("work", "--concurrency", "8")
    wait_until(lambda: len(provider.book()) >= 12, what="some calls")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=100) == 0
    counts = road.counts()
    assert counts[DocumentState.RUNNING] == counts[DocumentState.READY] == 0
    assert counts[DocumentState.DONE] == len(provider.book())
    assert road.call("work", "--until-empty").returncode == 0
    assert len(provider.book()) == 60
    assert_three_histories_agree(road, provider, submitted=60)


def test_a_worker_survives_a_restart_of_redis(road: Road, provider: ProviderProcess) -> None:
    provider.control(latency_ms=200)
    inputs = road.write_documents(120)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    worker = road.start("work", "--until-empty", "--concurrency", "10")
    wait_until(lambda: len(provider.book()) >= 20, what="some calls")
    server = json.loads((road.home / "redis" / "server.pid").read_text(encoding="utf-8"))
    os.kill(server["pid"], signal.SIGKILL)
    assert worker.wait(timeout=100) == 0, worker.stderr
    assert len(provider.book()) == 120
    assert_three_histories_agree(road, provider, submitted=120)


def test_a_budget_is_never_exceeded_and_resume_goes_on(
    road: Road, provider: ProviderProcess
) -> None:
    inputs = road.write_documents(40)
    arguments = ("run", "invoice", str(inputs), "--concurrency", "10")
    paused = road.call(*arguments, "--budget-usd", "0.03")
    assert paused.returncode == 5, (paused.stdout, paused.stderr)
    assert "budget spent" in paused.stderr
    spent = sum(entry.cost_nusd for entry in provider.book())
    assert 0 < spent <= 30_000_000
    assert road.ask("audit").code == 0
    batch = road.json("batch", "list")
    name = batch["batches"][0]["batch"]
    assert road.ask("batch", "resume", name, "--budget-usd", "5").code == 0
    assert road.call(*arguments).returncode == 0
    assert road.ask("audit").code == 0
    assert_three_histories_agree(road, provider, submitted=40)


def test_a_wrong_key_pauses_the_batch_and_kills_no_document(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(revoked_keys=["*"])
    inputs = road.write_documents(30)
    paused = road.call("run", "invoice", str(inputs))
    assert paused.returncode == 5
    assert road.counts()[DocumentState.DEAD] == 0
    provider.control(revoked_keys=[])
    name = road.json("batch", "list")["batches"][0]["batch"]
    assert road.ask("batch", "resume", name).code == 0
    assert road.call("run", "invoice", str(inputs)).returncode == 0
    assert_three_histories_agree(road, provider, submitted=30)


def test_hostile_neighbours_do_not_hide_good_documents(
    road: Road, provider: ProviderProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, text in _made(10):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing follows")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.txt").write_bytes(bytes(range(256)))
    done = road.call("run", "invoice", str(folder), "--json")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert (summary["done"], summary["dead"]) == (10, 3)
    groups = road.json("dead", "list")
    assert {group["reason"] for group in groups["groups"]} == {"unparsable"}
    assert_three_histories_agree(road, provider, submitted=13)


def test_a_document_that_kills_its_worker_is_quarantined_and_its_neighbours_end_well(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=300)
    make_job(road.jobs)
    inputs = road.folder / "totals.jsonl"
    texts = [f"Total: {number}" for number in range(1, 30)] + ["Total: 77 POISON"]
    inputs.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    done = road.call("run", "tiny", str(inputs), "--concurrency", "4", "--json")
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["done"], summary["dead"]) == (29, 1)
    groups = road.json("dead", "list")["groups"]
    assert [(group["reason"], group["documents"]) for group in groups] == [("poison", 1)]
    assert road.ask("audit").code == 0


def _has_seen(provider: ProviderProcess, calls: int) -> bool:
    return len(provider.book()) >= calls


def test_two_deaths_of_a_worker_make_no_dead_letter_of_a_healthy_document(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(latency_ms=3_000)
    inputs = road.write_documents(8)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    for seen in (8, 16):
        worker = road.start("work", "--concurrency", "8")
        wait_until(partial(_has_seen, provider, seen), what="calls")
        kill(worker.pid)
        worker.wait()
    provider.control(latency_ms=20)
    assert road.call("work", "--until-empty").returncode == 0
    assert road.counts()[DocumentState.DONE] == 8
    assert_three_histories_agree(road, provider, submitted=8)
