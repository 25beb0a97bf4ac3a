"""`runner eval`: real commands, workers and provider; what it says, costs, and lets through."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.cli.exits import Exit
from runner.cli.shapes.evals import EvalShape
from runner.promptlock import read_lock
from scripts.benchmarks.goldjobs import make_gold_job
from tests.roads import Road

pytestmark = pytest.mark.slow
DOCUMENTS = 30


@pytest.fixture
def job(road: Road) -> Path:
    return make_gold_job(road.jobs, documents=DOCUMENTS)


def spoil(road: Road, provider: Any, **rates: float) -> None:
    """Let the provider err silently, as often as given for each prompt's own word."""
    rules = [
        {"fault": "wrong_field", "instructions": word, "rate": rate} for word, rate in rates.items()
    ]
    provider.control(clear=True, faults={"rules": rules, "seed": 3})


def test_a_version_by_itself_is_scored_written_down_and_never_paid_twice(
    road: Road, job: Path, provider: Any, tmp_path: Path
) -> None:
    provider.control(clear=True)
    page = tmp_path / "eval.html"
    told = road.call("eval", "bill", "--html", str(page), "--json")  # as a process, once
    assert told.returncode == Exit.DONE, told.stderr
    found = json.loads(told.stdout)
    EvalShape.model_validate(found)
    assert (found["verdict"], found["baseline"]) == ("pass", None)
    assert found["candidate"]["exact"]["estimate"] == 1.0
    assert found["candidate"]["states"] == {"done": DOCUMENTS}
    assert found["candidate"]["calls"] == DOCUMENTS == len(provider.book())
    assert float(found["dearest_call_usd"]) > 0
    assert "PASS" in page.read_text()
    again = road.json("eval", "bill")
    assert len(provider.book()) == DOCUMENTS, "what was answered is kept"
    assert again["run"] != found["run"]
    road.json("eval", "bill", "--fresh")
    assert len(provider.book()) == 2 * DOCUMENTS
    assert road.ask("audit").code == Exit.DONE


def test_a_worse_prompt_is_blocked_and_cannot_be_promoted_and_a_good_one_can_be(
    road: Road, job: Path, provider: Any
) -> None:
    spoil(road, provider, neatly=0.6)
    refused = road.ask("prompt", "lock", "bill", "v2")
    assert refused.code == Exit.DONE, refused.err
    unknown = road.ask("prompt", "promote", "bill", "v2")
    assert unknown.code == Exit.USAGE
    assert "runner eval bill --prompt v2" in unknown.err
    worse = road.json("eval", "bill", "--prompt", "v2", codes=(Exit.FAILED,))
    assert worse["verdict"] == "block"
    assert worse["baseline"]["prompt"] == "v1"
    # what is wrong and not in the document is in no record that is done
    assert worse["candidate"]["wrong_in_done"]["not_in_document"] == 0
    assert worse["candidate"]["wrong_in_done"]["elsewhere"] > 0
    blocked = road.ask("prompt", "promote", "bill", "v2")
    assert blocked.code == Exit.USAGE
    assert "ended block" in blocked.err
    provider.control(faults={"rules": []})
    better = road.json("eval", "bill", "--prompt", "v2", "--fresh")
    assert better["verdict"] == "pass"
    road.json("prompt", "promote", "bill", "v2")
    lock = read_lock(job)
    assert (lock.live, lock.previous_live) == ("v2", "v1")
    assert lock.versions["v2"].evaluation is not None
    assert lock.versions["v2"].evaluation.run == better["run"]
    assert lock.versions["v2"].ceiling_usd is not None
    road.json("prompt", "rollback", "bill")
    assert read_lock(job).live == "v1"


def test_a_prompt_that_changes_nothing_is_not_blocked(road: Road, job: Path, provider: Any) -> None:
    spoil(road, provider, carefully=0.2, neatly=0.2)
    found = road.json("eval", "bill", "--prompt", "v2", codes=(Exit.DONE, Exit.UNFINISHED))
    assert found["verdict"] in ("pass", "inconclusive")
    assert found["differences"]


def test_a_simulated_evaluation_lets_nothing_through(road: Road, job: Path) -> None:
    road.json("prompt", "lock", "bill", "v2")
    found = road.json("eval", "bill", "--prompt", "v2", "--simulate")
    assert (found["verdict"], found["simulated"]) == ("pass", True)
    refused = road.ask("prompt", "promote", "bill", "v2")
    assert refused.code == Exit.USAGE
    assert "runner eval bill --prompt v2" in refused.err


def test_evaluations_stay_out_of_the_way_of_work(road: Road, job: Path) -> None:
    found = road.json("eval", "bill", "--simulate")
    (name,) = found["candidate"]["batches"]
    assert road.json("status")["batches"] == []
    assert road.json("status", name)["batches"][0]["done"] == DOCUMENTS


def test_what_cannot_be_evaluated_is_refused_by_name(road: Road, job: Path) -> None:
    for arguments, why in (
        (("bill", "--prompt", "v9"), "v9"),
        (("nothing",), "no job named 'nothing'"),
        (("bill", "--prompt", "v1", "--against", "v1"), "nothing to compare"),
        (("bill", "--model", "unpriced-1", "--budget-usd", "1"), "no price is known"),
    ):
        done = road.ask("eval", *arguments)
        assert done.code == Exit.USAGE, done.err
        assert why in done.err
    gold = job / "gold.jsonl"
    gold.write_text(json.dumps({"id": "x", "text": "t"}) + "\n")
    done = road.ask("eval", "bill")
    assert done.code == Exit.USAGE
    assert "gold.jsonl, line 1" in done.err


def test_a_budget_too_small_pauses_and_the_same_command_goes_on(
    road: Road, job: Path, provider: Any
) -> None:
    provider.control(clear=True)
    short = road.ask("eval", "bill", "--budget-usd", "0.01")
    assert short.code == Exit.PAUSED, short.err
    assert provider.summary().cost_nusd <= 10_000_000
    found = road.json("eval", "bill", "--budget-usd", "5")
    assert found["candidate"]["states"] == {"done": DOCUMENTS}
    assert len(provider.book()) == DOCUMENTS
