"""Limits on the real road: worker processes, a strict provider, its book as the judge."""

import json
from typing import Any

from runner.model import DocumentState
from runner.testing.control import ProviderProcess
from tests.roads import Road, assert_three_histories_agree, wait_until

WINDOW_S = 3.0
PER_WINDOW = 60


def limited(road: Road, *, per_window: int = PER_WINDOW) -> None:
    """Say to the runner what its provider lets through in a window."""
    rpm = round(per_window * 60 / WINDOW_S)
    path = road.folder / "runner.toml"
    text = path.read_text(encoding="utf-8").replace(
        '[models."gpt-5-mini"]\n', f'[models."gpt-5-mini"]\nrpm = {rpm}\nwindow_s = {WINDOW_S}\n'
    )
    path.write_text(text, encoding="utf-8")


def test_two_workers_share_a_limit_without_being_refused_and_status_tells_its_use(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(rpm=PER_WINDOW, window_s=WINDOW_S, latency_ms=100)
    limited(road)
    inputs = road.write_documents(180)
    assert road.ask("submit", "invoice", str(inputs)).code == 0
    workers = [road.start("work", "--until-empty", "--concurrency", "50") for _ in range(2)]
    told: list[Any] = []

    def is_told() -> bool:
        told[:] = [
            one for one in road.json("status")["limits"] if one["use"] and one["use"]["requests"]
        ]
        return bool(told)

    wait_until(is_told, what="the leader's look at calls")
    (limit,) = told
    assert limit["model"] == "gpt-5-mini"
    assert limit["key"] == "OPENAI_API_KEY"
    assert limit["use"]["requests_limit"] == PER_WINDOW
    assert 0 < limit["use"]["requests"] <= PER_WINDOW
    assert "gpt-5-mini at 127.0.0.1" in road.ask("status").out
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    refused = sum(entry.over_limit for entry in provider.book())
    assert refused <= 3, "1 % of the calls"
    assert road.counts()[DocumentState.DONE] == 180
    assert_three_histories_agree(road, provider, submitted=180)
    assert road.json("status")["limits"][0]["use"]["refused"] == refused


def test_a_limit_that_is_lower_than_configured_is_found_and_costs_no_document(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(
        rpm=round(0.7 * PER_WINDOW), window_s=WINDOW_S, latency_ms=100, limit_headers=False
    )
    limited(road)
    inputs = road.write_documents(180)
    done = road.call("run", "invoice", str(inputs), "--json", timeout_s=150)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 180
    book = provider.book()
    began_s = book[0].received_s
    late = [entry for entry in book if entry.received_s - began_s > 2 * WINDOW_S]
    assert sum(entry.over_limit for entry in late) <= 0.05 * len(late)
    assert_three_histories_agree(road, provider, submitted=180)


def test_a_provider_that_fails_for_a_while_makes_no_dead_letter(
    road: Road, provider: ProviderProcess
) -> None:
    provider.control(faults={"rules": [{"fault": "server_error_500", "from_request": 20}]})
    inputs = road.write_documents(60)
    run = road.start("run", "invoice", str(inputs), "--json")
    wait_until(
        lambda: any(limit["use"]["breaker_open"] for limit in road.json("status")["limits"]),
        timeout_s=60,
        what="an open breaker in status",
    )
    assert "its calls fail" in road.ask("status").out
    assert road.counts()[DocumentState.DEAD] == 0
    provider.control(heal=True)
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert "fails again and again" in err
    assert json.loads(out)["done"] == 60
    assert_three_histories_agree(road, provider, submitted=60)
