"""Locks: what is frozen stays, what is live and why is written down, one step back is one step."""

import sys
import threading
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.deployment import Withdrawal, lock_version, promote, roll_back, withdrawal
from runner.errors import JobError, RunnerError
from runner.promptlock import LOCK_FILE, Evidence, Lock, read_lock, verify_lock
from runner.prompts import load_prompt, prompt_id
from scripts import prompts as script
from tests.jobfolders import make_job

TEXT = """\
+++
temperature = 0.5
seed = 7
+++
# system

You extract. It is data.

# user

<document>
{{ document }}
</document>

Do not forget the date of the document.
"""
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
MODELS = ("small", "large")
NOON = 1_790_000_000.0  # 2026-09-21 UTC
OF_TODAY = """\
# Written by `runner prompt lock`; locked versions never change.
live = "v1"

[versions.v1]
content_hash = "{hash}"
prompt_id = "{id}"
locked_at = 2026-09-20
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "v1.md").write_text(TEXT)
    return tmp_path


def lock(folder: Path, version: str = "v1", **changes: Any) -> None:
    given = {"models": MODELS, "schema": SCHEMA, "clock_s": lambda: NOON, **changes}
    lock_version(folder, version, **given)


def add(folder: Path, version: str) -> None:
    """A version of its own wording, locked."""
    text = TEXT.replace("forget", f"forget, as {version} says,")
    (folder / "prompts" / f"{version}.md").write_text(text)
    lock(folder, version)


def evidence(run: str = "e1") -> Evidence:
    return Evidence(
        run=run,
        verdict="pass",
        gold_digest="sha256:ab",
        evaluated_on=date(2026, 9, 21),
        prompt_id="p2",
        models=MODELS,
    )


def deploy(folder: Path, version: str, percent: int | None = None, **changes: Any) -> Lock:
    """Promote with some evidence and a ceiling."""
    given = {"evidence": evidence(), "ceiling_usd": Decimal("0.000012"), **changes}
    return promote(folder, version, percent=percent, clock_s=lambda: NOON, **given)


def step_back(folder: Path) -> Withdrawal:
    """Roll back once."""
    planned = withdrawal(folder)
    roll_back(folder, planned, clock_s=lambda: NOON)
    return planned


def test_the_first_locked_version_is_live_and_locking_again_changes_nothing(folder: Path) -> None:
    lock(folder)
    written = (folder / LOCK_FILE).read_bytes()
    lock(folder, clock_s=lambda: NOON + 86_400)
    assert (folder / LOCK_FILE).read_bytes() == written
    locked = read_lock(folder)
    assert locked.live == "v1"
    assert str(locked.versions["v1"].locked_at) == "2026-09-21"
    assert locked.versions["v1"].prompt_id == prompt_id(
        load_prompt(folder, "v1"), models=MODELS, schema=SCHEMA
    )


def test_a_second_version_is_added_beside_the_first_which_stays_live(folder: Path) -> None:
    lock(folder)
    path = folder / LOCK_FILE
    path.write_text("# kept by hand\n" + path.read_text())
    (folder / "prompts" / "v2.0.md").write_text(TEXT.replace("forget", "miss"))
    lock(folder, "v2.0")
    assert path.read_text().startswith("# kept by hand\n")
    assert read_lock(folder).live == "v1"
    assert set(read_lock(folder).versions) == {"v1", "v2.0"}
    assert sorted(found.name for found in folder.iterdir()) == ["prompts", LOCK_FILE]


def test_a_locked_version_never_changes(folder: Path) -> None:
    lock(folder)
    before = (folder / LOCK_FILE).read_bytes()
    with pytest.raises(JobError, match=r"is locked and its models changed \(id p"):
        lock(folder, models=("other",))
    (folder / "prompts" / "v1.md").write_text(TEXT + "\n")
    with pytest.raises(JobError, match=r"is locked and its text changed.*v<next>\.md"):
        lock(folder)
    assert (folder / LOCK_FILE).read_bytes() == before


def test_verify_names_every_way_a_lock_can_be_wrong(folder: Path) -> None:
    def verify(**changes: Any) -> str:
        given = {"models": MODELS, "schema": SCHEMA, **changes}
        return "\n".join(verify_lock(folder, **given))

    assert "does not exist" in verify()
    lock(folder)
    assert verify() == ""
    assert "its schema changed" in verify(schema={"type": "object"})
    (folder / "prompts" / "v2.md").write_text(TEXT.replace("forget", "miss"))
    lock(folder, "v2", models=("other",))
    assert verify() == "", "a version that is not live was locked with what held then"
    (folder / "prompts" / "v2.md").write_text(TEXT)
    assert "/v2 was locked on 2026-09-21 and its text changed" in verify()
    (folder / "prompts" / "v2.md").unlink()
    assert "v2.md does not exist" in verify()


def test_line_ends_of_another_system_do_not_break_a_lock(folder: Path) -> None:
    lock(folder)
    (folder / "prompts" / "v1.md").write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert verify_lock(folder, models=MODELS, schema=SCHEMA) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("live = ", "not valid TOML"),
        ('live = "v1"', "versions: Field required"),
        ('live = "v1"\n[versions]', "live version 'v1' is not locked"),
        ('live = "v1"\nlife = 1\n[versions]', "life: Extra inputs"),
        (f'{OF_TODAY}\n[canary]\nversion = "v2"\npercent = 5', "canary 'v2' is not locked"),
        (f'{OF_TODAY}\n[canary]\nversion = "v1"\npercent = 100', "canary.percent: Input should be"),
    ],
)
def test_a_malformed_lock_is_refused_by_name(folder: Path, text: str, message: str) -> None:
    (folder / LOCK_FILE).write_text(text)
    with pytest.raises(JobError, match=message) as caught:
        read_lock(folder)
    assert str(folder / LOCK_FILE) in str(caught.value)


# ------------------------------------------------------------ live, canary, back


def test_a_lock_of_an_older_runner_reads_goes_on_and_can_be_rolled_back(folder: Path) -> None:
    prompt = load_prompt(folder, "v1")
    id_ = prompt_id(prompt, models=MODELS, schema=SCHEMA)
    (folder / LOCK_FILE).write_text(OF_TODAY.format(hash=prompt.content_hash, id=id_))
    assert verify_lock(folder, models=MODELS, schema=SCHEMA) == []
    assert "schema, models or repair prompt changed" in "".join(
        verify_lock(folder, models=("other",), schema=SCHEMA)
    )
    add(folder, "v2")
    assert deploy(folder, "v2").previous_live == "v1"
    assert step_back(folder) == Withdrawal(bad="v2", good="v1", of_canary=False)
    assert read_lock(folder).live == "v1"


def test_a_promotion_keeps_evidence_ceiling_and_history_and_what_a_person_wrote(
    folder: Path,
) -> None:
    lock(folder)
    add(folder, "v2")
    path = folder / LOCK_FILE
    path.write_text(path.read_text().replace("[versions.v2]", "[versions.v2] # by hand"))
    assert deploy(folder, "v2") == read_lock(folder)
    written = path.read_text()
    assert "[versions.v2] # by hand" in written
    assert "ceiling_usd = 0.000012\n" in written
    found = read_lock(folder)
    assert (found.live, found.versions["v2"].evaluation) == ("v2", evidence())
    assert found.versions["v2"].ceiling_usd == Decimal("0.000012")
    assert found.versions["v1"].evaluation is None
    history = [(one.what, one.version, one.instead_of) for one in found.deployments]
    assert history == [("lock", "v1", None), ("promote", "v2", "v1")]
    deploy(folder, "v2")
    assert path.read_text() == written, "a second time changes nothing"
    add(folder, "v3")
    assert verify_lock(folder, models=MODELS, schema=SCHEMA) == []
    assert read_lock(folder).versions["v2"] == found.versions["v2"]


def test_a_canary_stands_beside_the_live_version_until_it_is_promoted_or_withdrawn(
    folder: Path,
) -> None:
    lock(folder)
    add(folder, "v2")
    deploy(folder, "v2", 10)
    found = deploy(folder, "v2", 25)
    assert found.canary is not None
    assert (found.live, found.canary.version, found.canary.percent) == ("v1", "v2", 25)
    assert step_back(folder) == Withdrawal(bad="v2", good="v1", of_canary=True)
    assert (read_lock(folder).live, read_lock(folder).canary) == ("v1", None)
    deploy(folder, "v2", 25)
    assert (deploy(folder, "v2").live, read_lock(folder).canary) == ("v2", None)
    with pytest.raises(JobError, match="is live already"):
        deploy(folder, "v2", 5)


def test_nothing_is_promoted_or_put_back_that_is_not_as_it_was_locked(folder: Path) -> None:
    lock(folder)
    add(folder, "v2")
    with pytest.raises(JobError, match=r"v3 is not locked; `runner prompt lock"):
        deploy(folder, "v3")
    deploy(folder, "v2")
    before = (folder / LOCK_FILE).read_bytes()
    (folder / "prompts" / "v1.md").write_text(TEXT + "Be quick.")
    for forbidden in (lambda: deploy(folder, "v1"), lambda: withdrawal(folder)):
        with pytest.raises(JobError, match=r"v1\.md was changed after it was locked"):
            forbidden()
    assert (folder / LOCK_FILE).read_bytes() == before


def test_there_is_no_step_back_before_the_first_version(folder: Path) -> None:
    lock(folder)
    with pytest.raises(JobError, match="no version was live before v1"):
        withdrawal(folder)


def test_two_people_who_roll_back_at_once_go_one_step_back(folder: Path) -> None:
    lock(folder)
    for version in ("v2", "v3"):
        add(folder, version)
        deploy(folder, version)
    one, other = withdrawal(folder), withdrawal(folder)
    assert roll_back(folder, one).live == "v2"
    with pytest.raises(JobError, match="somebody changed its lock meanwhile"):
        roll_back(folder, other)
    assert read_lock(folder).live == "v2"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.sampled_from(["v1", "v2", "v3", "back"]), max_size=12))
def test_rollbacks_walk_the_promotions_backwards(folder: Path, steps: list[str]) -> None:
    (folder / LOCK_FILE).unlink(missing_ok=True)
    lives = ["v1"]
    lock(folder)
    for version in ("v2", "v3"):
        add(folder, version)
    for step in steps:
        if step != "back":
            deploy(folder, step)
            lives += [step] if step != lives[-1] else []
        elif len(lives) > 1:
            assert step_back(folder).bad == lives.pop()
        found = read_lock(folder)
        assert found.live == lives[-1]
        assert found.previous_live == (lives[-2] if len(lives) > 1 else None)


def test_many_who_lock_at_once_lose_nothing(folder: Path) -> None:
    lock(folder)
    versions = [f"v{number}" for number in range(2, 12)]
    for version in versions:
        (folder / "prompts" / f"{version}.md").write_text(TEXT.replace("forget", version))
    together = threading.Barrier(len(versions))

    def lock_one(version: str) -> None:
        together.wait()
        lock(folder, version)

    threads = [threading.Thread(target=lock_one, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_lock(folder).versions) == {"v1", *versions}
    assert sorted(found.name for found in folder.iterdir()) == ["prompts", LOCK_FILE]


def test_a_lock_that_cannot_be_written_is_left_as_it_was(folder: Path) -> None:
    lock(folder)
    before = (folder / LOCK_FILE).read_bytes()
    (folder / "prompts.lock.new").mkdir()  # in the way of the draft
    (folder / "prompts" / "v2.md").write_text(TEXT.replace("forget", "miss"))
    with pytest.raises(RunnerError, match=r"prompts\.lock: cannot be written: Is a directory"):
        lock(folder, "v2")
    assert (folder / LOCK_FILE).read_bytes() == before


def test_the_check_of_the_repository_fails_on_a_locked_file_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    assert list(script.problems((tmp_path,))) == []
    prompt = job / "prompts" / "v1.md"
    prompt.write_text(prompt.read_text() + "\n")
    found = list(script.problems((tmp_path,)))
    assert len(found) == 1
    assert "tiny/v1 was locked" in found[0]
    monkeypatch.setattr(script, "problems", lambda: iter(found))
    monkeypatch.setattr(sys, "argv", ["prompts", "--check"])
    with pytest.raises(SystemExit):
        script.main()
