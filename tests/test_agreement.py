"""One figure, one value: all that shows it agrees, and with the provider's own book.

One run has everything in it: records, reviews, dead letters, repeats, repairs, a canary, calls of
unknown end, a spent budget. A dashboard watches it from the start; all is compared at its end.
"""

import json
import shutil
import time
import urllib.request
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

import jobs
from runner.cli.exits import Exit
from runner.deployment import promote
from runner.metrics import CONTENT_TYPE
from runner.promptlock import Evidence
from runner.testing.control import ProviderProcess
from tests import figures
from tests.dashboards import Dashboard, Visitor
from tests.jobfolders import lock
from tests.roads import Road

JUNE, JULY = 60, 40
JULY_USD = "0.03"
JUNE_FAULTS = {
    "rules": [
        {"fault": "server_error_500", "rate": 0.06, "first": 1},
        {"fault": "invalid_json", "rate": 0.1, "first": 1},
        {"fault": "bad_request_400", "rate": 0.08},
        {"fault": "refusal", "rate": 0.06, "first": 1},
        {"fault": "invented_value", "rate": 0.08},
        {"fault": "fenced_json", "rate": 0.1},
    ],
    "seed": 5,
}
JULY_FAULTS = {"rules": [{"fault": "drop_before_answer", "rate": 0.15, "first": 1}], "seed": 2}

MIX = {
    *("june done", "june review", "june dead", "july queued", "july ambiguous", "canary calls"),
    *("real retries", "real repaired", "real cached_tokens", "real reasoning_tokens"),
    *(f"real calls that ended {fault}" for fault in set(figures.CALLED.values())),
}


def make_billing(road: Road) -> str:
    """The job `billing`: invoices, half of them asked with a canary's longer prompt; its id."""
    (shipped,) = jobs.__path__
    folder = road.jobs / "billing"
    shutil.copytree(Path(shipped) / "invoice", folder)
    (folder / "prompts.lock").unlink()
    prompt = (folder / "prompts" / "v1.md").read_text(encoding="utf-8")
    # so long that the provider finds it in its cache
    longer = prompt.replace("# user", "Read every line with care.\n" * 250 + "\n# user")
    (folder / "prompts" / "v2.md").write_text(longer, encoding="utf-8")
    lock(folder, "v1")
    lock(folder, "v2")
    evidence = Evidence(
        run="e1",
        verdict="pass",
        gold_digest="sha256:1",
        evaluated_on=date(2026, 11, 1),
        prompt_id="p1",
        models=("gpt-5-mini",),
    )
    made = promote(folder, "v2", evidence=evidence, ceiling_usd=None, percent=50)
    return made.versions["v2"].prompt_id


@dataclass
class Watched:
    """A home whose commands run while a dashboard is asked for its figures."""

    road: Road
    board: Visitor

    def run(self, *arguments: str, code: int) -> None:
        """A command to its end."""
        process = self.road.start(*arguments)
        while process.poll() is None:
            assert self.board.get("/metrics").status == 200
            time.sleep(0.3)
        out, err = process.communicate()
        assert process.returncode == code, (out, err)

    def retry(self, *, some: int) -> int:
        """Retry some dead letters by the dashboard's form, and leave the others; how many."""
        letters = self.board.get("/dead/letters?reason=bad_request").values("document")
        assert len(letters) > some, "void: none would be left"
        chosen = [("document", one) for one in letters[:some]]
        assert self.board.post("/dead/retry", chosen).status == 303
        return some


@pytest.fixture
def watched(road: Road) -> Watched:
    process = road.start("web", "--port", "0", "--json")
    assert process.stdout is not None
    return Watched(road, Dashboard(process, json.loads(process.stdout.readline())).visitor())


def live_run(watched: Watched, provider: ProviderProcess) -> dict[str, int]:
    """The run; how many dead letters of each batch were retried."""
    road = watched.road
    provider.control(faults=JUNE_FAULTS, reasoning_tokens=7)
    june = ("run", "billing", str(road.write_documents(JUNE)), "--batch", "june")
    watched.run(*june, "--concurrency", "8", code=Exit.UNFINISHED)
    provider.control(faults=JULY_FAULTS)
    july = ("run", "billing", str(road.write_documents(JULY, seed=2)), "--batch", "july")
    budget = ("--budget-usd", JULY_USD, "--concurrency", "4")
    watched.run(*july, *budget, code=Exit.PAUSED)
    provider.control(faults={"rules": []})
    retried = watched.retry(some=2)
    watched.run("work", "--until-empty", code=Exit.DONE)
    return {"june": retried, "july": 0}


def told_by_all(
    watched: Watched, provider: ProviderProcess, *, canary: str, retried: dict[str, int]
) -> figures.Table:
    """What every source says."""
    road, board, table = watched.road, watched.board, figures.Table()
    batches = figures.say_status(table, road)
    figures.say_report(table, road, retried=retried)
    for batch in retried:
        figures.say_audit(table, road, batch)
    figures.say_results(table, road, "june")
    figures.say_calls(table, road, canary=canary)
    figures.say_book(table, provider.book())
    # one has counted all the while, the other looks now for the first time
    figures.say_metrics(table, "metrics of the dashboard", board.get("/metrics").text.encode())
    figures.say_metrics(table, "metrics", scraped(road))
    figures.say_overview(table, board)
    figures.say_batch_pages(table, board, batches)
    return table


def scraped(road: Road) -> bytes:
    """What `runner metrics` serves."""
    serving = road.start("metrics", "--port", "0")
    assert serving.stdout is not None
    with urllib.request.urlopen(serving.stdout.readline().strip(), timeout=100) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        found: bytes = answer.read()
    serving.terminate()
    assert serving.wait(100) == 0
    return found


@pytest.mark.slow
def test_every_figure_of_a_live_run_is_the_same_wherever_it_is_shown(
    watched: Watched, provider: ProviderProcess
) -> None:
    canary = make_billing(watched.road)
    retried = live_run(watched, provider)
    table = told_by_all(watched, provider, canary=canary, retried=retried)
    table.check()
    there = {name for name, row in table.rows.items() if 0 not in row.values()}
    assert there >= MIX, "void: the run had none of these"
