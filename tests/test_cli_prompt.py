"""The life of a prompt on the command line: begun, compared, locked, promoted, and taken back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import insert, select

from runner.cli.exits import Exit
from runner.cli.shapes import prompts as shapes
from runner.gold import gold_digest, read_gold
from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.tables import document, eval_run
from runner.pinned import PinnedJobs
from runner.testing.control import ProviderProcess
from tests.command_lines import Ended, call
from tests.jobfolders import PROMPT, make_job
from tests.ledgers import POSTGRES_URL
from tests.roads import Road

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)

GOLD = {"id": "one", "text": "Total: 1", "expected": {"total": 1}}


@dataclass(frozen=True)
class Desk:
    """A home with the job `tiny`: v1 live, v2 written and not locked."""

    home: Path
    job: Path

    def call(self, *arguments: str) -> Ended:
        """Call a command."""
        return call(*arguments, home=self.home, env={"RUNNER_JOBS": str(self.job.parent)})

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json; it must end well."""
        ended = self.call(*arguments, "--json")
        assert ended.code == 0, ended.err
        return ended.json()

    def prompt_id(self, version: str) -> str:
        """What this version asks now."""
        return PinnedJobs([self.job.parent]).of_version("tiny", version=version).prompt_id

    def submit(self, count: int, *, batch: str) -> Any:
        """Queue so many documents."""
        inputs = self.home.parent / f"{batch}.jsonl"
        texts = (json.dumps({"text": f"Total: {number}"}) for number in range(count))
        inputs.write_text("\n".join(texts))
        return self.json("submit", "tiny", str(inputs), "--batch", batch)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger of this home."""
        opened = Ledger(sqlite_url(self.home / "ledger.db"))
        try:
            yield opened
        finally:
            opened.close()

    def pins(self) -> list[str | None]:
        """The documents' own versions, in their order."""
        with self.ledger() as ledger, ledger.snapshot() as connection:
            query = select(document.c.prompt_version)
            return list(connection.execute(query.order_by(document.c.position)).scalars())

    def evaluate(self, version: str, verdict: str = "PASS", **changes: Any) -> None:
        """What `runner eval` leaves in the ledger."""
        values = {
            "id": "e1",
            "job": "tiny",
            "prompt_version": version,
            "prompt_id": self.prompt_id(version),
            "models_json": json.dumps(["small", "large"]),
            "gold_digest": gold_digest(read_gold(self.job)),
            "verdict": verdict,
            "summary_json": "{}",
            "created_us": 1_790_000_000_000_000,
        }
        with self.ledger() as ledger, ledger.transaction() as connection:
            connection.execute(insert(eval_run).values(**(values | changes)))


def make_desk(folder: Path, home: Path) -> Desk:
    job = make_job(folder)
    (job / "gold.jsonl").write_text(json.dumps(GOLD) + "\n")
    (job / "prompts" / "v2.md").write_text(PROMPT.replace("Extract", "Find"))
    return Desk(home, job)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path / "jobs", tmp_path / "home")


@pytest.fixture
def locked(desk: Desk) -> Desk:
    """With v2 locked."""
    desk.json("prompt", "lock", "tiny", "v2")
    return desk


@pytest.fixture
def passed(locked: Desk) -> Desk:
    """With an evaluation that speaks for v2."""
    locked.evaluate("v2", dearest_document_nusd=1_000, dearest_call_nusd=100)
    return locked


def assert_closed(shape: type[BaseModel], printed: Any) -> None:
    """What was printed has exactly the fields of the model, in their order."""
    assert list(printed) == list(shape.model_fields)


# ------------------------------------------------------------ new, diff, lock


def test_a_new_version_is_a_copy_of_the_live_one_under_the_next_number(locked: Desk) -> None:
    begun = locked.json("prompt", "new", "tiny")
    assert_closed(shapes.NewPromptShape, begun)
    assert (begun["version"], begun["copied_from"]) == ("v3", "v1")
    assert Path(begun["file"]).read_text() == PROMPT
    other = locked.json("prompt", "new", "tiny", "terse", "--from", "v2")
    assert Path(other["file"]).read_text() == PROMPT.replace("Extract", "Find")
    again = locked.call("prompt", "new", "tiny", "v3")
    assert (again.code, "v3 exists already" in again.err) == (Exit.USAGE, True)
    assert locked.call("prompt", "new", "tiny", "../v9").code == Exit.USAGE
    (locked.job / "prompts" / "v2.md").unlink()
    once = locked.call("prompt", "new", "tiny", "v2")
    assert (once.code, "v2 exists already" in once.err) == (Exit.USAGE, True), "it is in the lock"


def test_the_first_lock_says_that_nothing_speaks_for_the_version_that_it_makes_live(
    desk: Desk,
) -> None:
    (desk.job / "prompts.lock").unlink()
    first = desk.call("prompt", "lock", "tiny", "v1")
    assert (first.code, "no evaluation speaks for it" in first.err) == (0, True)
    second = desk.call("prompt", "lock", "tiny", "v2")
    assert "once an evaluation speaks for it" in second.err
    listed = desk.json("prompt", "list", "tiny")["prompts"]
    assert [(row["version"], row["live"], row["evaluated"]) for row in listed] == [
        ("v1", True, False),
        ("v2", False, False),
    ]


def test_a_diff_shows_the_lines_and_which_part_of_what_is_asked_changed(locked: Desk) -> None:
    found = locked.json("prompt", "diff", "tiny", "v1", "v2")
    assert_closed(shapes.PromptDiffShape, found)
    assert (found["changed"], found["unknown"]) == (["system"], [])
    assert "-Extract the total.\n+Find the total.\n" in found["diff"]
    assert (found["before_id"], found["after_id"]) == (
        locked.prompt_id("v1"),
        locked.prompt_id("v2"),
    )
    same = locked.json("prompt", "diff", "tiny", "v1", "v1")
    assert (same["changed"], same["diff"]) == ([], "")


def test_a_diff_knows_what_was_locked_with_a_version(locked: Desk) -> None:
    lock = locked.job / "prompts.lock"
    before, header, entry = lock.read_text().partition("[versions.v2]\n")
    entry, parts_header, parts = entry.partition("\n[versions.v2.parts]\n")
    entry = entry.replace(locked.prompt_id("v2"), "pthen")
    schema = next(line for line in parts.splitlines() if line.startswith("schema"))
    other_parts = parts.replace(schema, 'schema = "0"')
    lock.write_text(before + header + entry + parts_header + other_parts)
    found = locked.json("prompt", "diff", "tiny", "v1", "v2")
    assert (found["changed"], found["after_id"]) == (["system", "schema"], "pthen")
    _, deployments, history = parts.partition("\n[[deployments]]")
    lock.write_text(before + header + entry + deployments + history)  # as an older runner wrote it
    old = locked.json("prompt", "diff", "tiny", "v1", "v2")
    assert (old["changed"], old["unknown"]) == (["system"], ["models", "schema", "repair"])


# ------------------------------------------------------------ promote


def refusal(desk: Desk, *options: str) -> str:
    before = (desk.job / "prompts.lock").read_bytes()
    ended = desk.call("prompt", "promote", "tiny", "v2", *options)
    assert ended.code == Exit.USAGE, ended.out
    assert (desk.job / "prompts.lock").read_bytes() == before
    return ended.err


def test_a_promotion_without_an_evaluation_is_refused_with_the_command_that_makes_one(
    locked: Desk,
) -> None:
    assert not (locked.home / "ledger.db").exists()
    words = refusal(locked)
    assert f"nothing has evaluated exactly this prompt, {locked.prompt_id('v2')}" in words
    assert "`runner eval tiny --prompt v2` evaluates it" in words
    assert not (locked.home / "ledger.db").exists()


def test_only_the_newest_evaluation_of_this_prompt_on_the_present_gold_lets_it_through(
    passed: Desk,
) -> None:
    gold = passed.job / "gold.jsonl"
    written = gold.read_text()
    gold.write_text(written + json.dumps(GOLD | {"id": "two"}) + "\n")
    assert "on other gold documents" in refusal(passed)
    gold.write_text(written)
    passed.evaluate("v2", "BLOCK", id="e2", created_us=1_790_000_000_000_001)
    assert "its newest evaluation, e2, ended BLOCK" in refusal(passed, "--canary", "5")
    passed.evaluate("v1", id="e3", created_us=1_790_000_000_000_002)
    refusal(passed)
    passed.evaluate("v2", id="e4", created_us=1_790_000_000_000_003)
    assert passed.json("prompt", "promote", "tiny", "v2")["evaluation"]["run"] == "e4"


def test_a_version_that_is_not_locked_or_was_changed_is_not_promoted(desk: Desk) -> None:
    desk.submit(1, batch="a")
    desk.evaluate("v2")
    assert "version v2 is not locked" in refusal(desk)
    desk.json("prompt", "lock", "tiny", "v2")
    code = desk.job / "__init__.py"
    prompt = desk.job / "prompts" / "v2.md"
    written = prompt.read_text()
    prompt.write_text(written + "\n")
    assert "v2.md was changed after it was locked" in refusal(desk)
    prompt.write_text(written)
    lock = (desk.job / "prompts.lock").read_text()
    (desk.job / "prompts.lock").write_text(lock.replace(desk.prompt_id("v2"), "pthen"))
    assert "v2 is locked and its schema, models or repair prompt changed" in refusal(desk)
    assert code.is_file()


def test_a_promotion_keeps_its_evidence_and_a_ceiling_and_new_batches_pin_it(passed: Desk) -> None:
    passed.submit(2, batch="before")
    found = passed.json("prompt", "promote", "tiny", "v2")
    assert_closed(shapes.PromotedShape, found)
    assert_closed(shapes.EvidenceShape, found["evaluation"])
    assert (found["live"], found["instead_of"], found["canary_percent"]) == ("v2", "v1", None)
    assert found["evaluation"] == {
        "run": "e1",
        "verdict": "PASS",
        "gold_digest": gold_digest(read_gold(passed.job)),
        "evaluated_on": "2026-09-21",
        "prompt_id": passed.prompt_id("v2"),
        "models": ["small", "large"],
    }
    assert found["ceiling_usd"] == 0.0000012
    assert "ceiling_usd = 0.0000012\n" in (passed.job / "prompts.lock").read_text()
    again = passed.json("prompt", "promote", "tiny", "v2")
    assert (again["live"], again["instead_of"]) == ("v2", None)
    shown = passed.json("prompt", "show", "tiny")
    assert (shown["version"], shown["evaluated"]) == ("v2", True)
    refused = passed.call("submit", "tiny", str(passed.home.parent / "before.jsonl"))
    assert (refused.code, "ceiling_usd of v2 in prompts.lock" in refused.err) == (2, True)


# ------------------------------------------------------------ canary, rollback, status


def test_a_canary_takes_its_share_of_new_batches_and_never_one_that_names_its_prompt(
    passed: Desk,
) -> None:
    passed.evaluate("v2", id="e2", created_us=1_790_000_000_000_001)  # without a known price
    passed.json("prompt", "promote", "tiny", "v2", "--canary", "30")
    submitted = passed.call(
        "submit", "tiny", str(_rows(passed, 100)), "--batch", "shared", "--json"
    )
    assert "30 % of the documents are asked with prompt v2" in submitted.err
    taken = passed.pins().count("v2")
    assert 15 < taken < 45
    status = passed.json("prompt", "status", "tiny")
    (batch,) = status["batches"]
    shares = {one["version"]: (one["documents"], one["percent"]) for one in batch["versions"]}
    assert shares == {"v1": (100 - taken, 100.0 - taken), "v2": (taken, taken)}
    assert (status["live"]["percent"], status["canary"]["percent"]) == (70, 30)
    alone = passed.call(
        "submit", "tiny", str(_rows(passed, 100)), "--batch", "alone", "--prompt", "v1"
    )
    assert (alone.code, "canary" in alone.err) == (0, False)
    assert passed.pins().count("v2") == taken
    listed = passed.call("prompt", "list", "tiny")
    assert "canary 30 %" in listed.out


def _rows(desk: Desk, count: int) -> Path:
    path = desk.home.parent / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"Total: {n}"}) + "\n" for n in range(count)))
    return path


def test_an_unlocked_version_is_for_evaluations_and_for_no_run(desk: Desk) -> None:
    pinned = PinnedJobs([desk.job.parent]).of_version("tiny", version="v2")
    assert (pinned.prompt.version, pinned.models) == ("v2", ("small", "large"))
    refused = desk.call("submit", "tiny", str(_rows(desk, 1)), "--prompt", "v2")
    assert (refused.code, "version v2 is not locked" in refused.err) == (Exit.USAGE, True)


def test_a_rollback_of_a_canary_leaves_the_live_version_and_takes_back_what_waits(
    passed: Desk,
) -> None:
    passed.evaluate("v2", id="e2", created_us=1_790_000_000_000_001)
    passed.json("prompt", "promote", "tiny", "v2", "--canary", "50")
    passed.submit(40, batch="june")
    taken = passed.pins().count("v2")
    found = passed.json("prompt", "rollback", "tiny")
    assert_closed(shapes.RolledBackShape, found)
    assert (found["withdrawn"], found["live"], found["was_canary"]) == ("v2", "v1", True)
    assert (found["waiting"], found["batches"], found["produced"]) == (taken, ["june"], [])
    assert set(passed.pins()) == {None, "v1"}
    nothing = passed.call("prompt", "rollback", "tiny")
    assert (nothing.code, "no version was live before v1" in nothing.err) == (Exit.USAGE, True)


def test_a_rollback_that_was_cut_off_is_repeated_as_a_whole_and_goes_one_step_back(
    passed: Desk,
) -> None:
    passed.evaluate("v2", id="e2", created_us=1_790_000_000_000_001)
    passed.json("prompt", "promote", "tiny", "v2")
    passed.submit(3, batch="june")
    in_the_way = passed.job / "prompts.lock.new"
    in_the_way.mkdir()
    failed = passed.call("prompt", "rollback", "tiny")
    assert (failed.code, "repeat the command" in failed.err) == (Exit.FAILED, True)
    assert passed.json("prompt", "status", "tiny")["live"]["version"] == "v2"
    passed.submit(2, batch="begun meanwhile")
    in_the_way.rmdir()
    found = passed.json("prompt", "rollback", "tiny")
    assert (found["live"], found["waiting"], found["batches"]) == ("v1", 2, ["begun meanwhile"])
    shares = [one["versions"] for one in passed.json("prompt", "status", "tiny")["batches"]]
    assert [[one["version"] for one in batch] for batch in shares] == [["v1"], ["v1"]]


def test_a_rollback_without_a_ledger_changes_the_lock(passed: Desk) -> None:
    passed.json("prompt", "promote", "tiny", "v2")
    for file in passed.home.iterdir():
        file.unlink()
    ended = passed.call("prompt", "rollback", "tiny")
    assert (ended.code, "v1 is live again instead of v2" in ended.out) == (0, True)
    assert not list(passed.home.iterdir())


def test_a_rollback_to_what_no_longer_asks_the_same_is_done_and_warned_of(passed: Desk) -> None:
    passed.json("prompt", "promote", "tiny", "v2")
    lock = passed.job / "prompts.lock"
    lock.write_text(lock.read_text().replace(passed.prompt_id("v1"), "pthen"))
    found = passed.call("prompt", "rollback", "tiny", "--json")
    assert (found.code, found.json()["in_step"]) == (0, False)
    assert "warning: schema, models or repair prompt changed since v1 was locked" in found.err


def test_status_tells_what_is_live_on_what_evidence_and_how_it_came(passed: Desk) -> None:
    before = passed.json("prompt", "status", "tiny")
    assert_closed(shapes.PromptStatusShape, before)
    assert (before["live"]["evaluation"], before["canary"], before["previous"]) == (None,) * 3
    passed.json("prompt", "promote", "tiny", "v2")
    found = passed.json("prompt", "status", "tiny")
    assert_closed(shapes.DeployedShape, found["live"])
    assert (found["live"]["evaluation"]["run"], found["previous"]) == ("e1", "v1")
    assert [one["what"] for one in found["deployments"]] == ["lock", "promote"]
    for one in found["deployments"]:
        assert_closed(shapes.DeploymentShape, one)
    assert (found["in_step"], found["problems"]) == (True, [])
    words = passed.call("prompt", "status", "tiny").out
    assert "PASS in e1 on 2026-09-21, ceiling 0.0000012 USD" in words
    prompt = passed.job / "prompts" / "v1.md"
    prompt.write_text(prompt.read_text() + "\n")
    changed = passed.json("prompt", "status", "tiny")
    assert (changed["in_step"], len(changed["problems"])) == (False, 1)
    back = passed.call("prompt", "rollback", "tiny")
    assert (back.code, "v1.md was changed after it was locked" in back.err) == (Exit.USAGE, True)


# ------------------------------------------------------------ on the road


def test_a_rollback_between_two_workers_leaves_records_of_both_versions_each_under_its_name(
    road: Road, provider: ProviderProcess
) -> None:
    desk = make_desk(road.jobs, road.home)
    rows = str(_rows(desk, 30))
    desk.json("prompt", "lock", "tiny", "v2")
    desk.json("submit", "tiny", rows, "--batch", "before")
    desk.evaluate("v2")
    desk.json("prompt", "promote", "tiny", "v2")
    desk.json("submit", "tiny", rows, "--limit", "10", "--batch", "june")
    assert road.call("work", "--until-empty").returncode == 0
    assert desk.json("submit", "tiny", rows, "--batch", "june")["accepted"] == 20
    good, bad = desk.prompt_id("v1"), desk.prompt_id("v2")
    found = desk.json("prompt", "rollback", "tiny")
    assert (found["waiting"], found["withdrawn_ids"]) == (20, [bad])
    (left,) = found["produced"]
    assert_closed(shapes.ProducedShape, left)
    assert (left["batch"], left["done"], left["review"]) == ("june", 10, 0)
    assert left["command"] == "runner results june --out june.jsonl"
    assert road.call("work", "--until-empty").returncode == 0
    lines = [json.loads(line) for line in desk.call("results", "june").out.splitlines()]
    assert [line["status"] for line in lines] == 30 * ["done"]
    assert [line["prompt"] for line in lines] == 10 * [bad] + 20 * [good]
    batch = desk.json("prompt", "status", "tiny")["batches"][0]
    shares = {one["version"]: one["done"] for one in batch["versions"]}
    assert shares == {"v1": 20, "v2": 10}
    assert len(provider.book()) == 60
    assert desk.call("audit").code == 0
