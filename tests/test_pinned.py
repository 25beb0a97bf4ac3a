"""Pins: a batch is worked on with exactly the prompt, ladder and schema of its submission."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from runner.canary import Canary
from runner.config import BudgetSettings, Settings
from runner.deployment import promote
from runner.errors import JobError
from runner.model import Policy
from runner.pinned import Pinned, PinnedJobs
from runner.promptlock import Evidence
from tests.jobfolders import PROMPT, lock, make_job


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return make_job(tmp_path)


def jobs_of(job: Path) -> PinnedJobs:
    return PinnedJobs([job.parent])


def test_a_new_batch_pins_the_live_version_and_the_jobs_own_ladder(job: Path) -> None:
    pinned = jobs_of(job).live("tiny", version=None, models=())
    assert (pinned.name, pinned.prompt.version, pinned.models) == ("tiny", "v1", ("small", "large"))
    assert pinned.schema["properties"] == {"total": {"type": "integer"}}
    assert pinned.policy == Policy(ladder_length=2)


def test_another_ladder_is_another_prompt_id(job: Path) -> None:
    jobs = jobs_of(job)
    own = jobs.live("tiny", version=None, models=())
    other = jobs.live("tiny", version=None, models=("huge",))
    assert other.prompt_id != own.prompt_id
    assert other.policy.ladder_length == 1


def test_what_was_pinned_is_loaded_again_by_another_process(job: Path) -> None:
    pinned = jobs_of(job).live("tiny", version="v1", models=())
    again = jobs_of(job).of_batch(
        "tiny", version="v1", expected_id=pinned.prompt_id, models=pinned.models
    )
    assert again == pinned


def test_a_version_that_is_not_locked_is_refused_by_name(job: Path) -> None:
    (job / "prompts" / "v2.md").write_text(PROMPT.replace("Extract", "Find"))
    with pytest.raises(JobError, match=r"version v2 is not locked; locked are: v1; .*lock tiny v2"):
        jobs_of(job).live("tiny", version="v2", models=())
    lock(job, "v2")
    assert jobs_of(job).live("tiny", version="v2", models=()).prompt.version == "v2"


def test_a_locked_file_that_was_changed_is_refused_at_submission(job: Path) -> None:
    (job / "prompts" / "v1.md").write_text(PROMPT.replace("Extract", "Find"))
    with pytest.raises(JobError, match=r"prompts/v1\.md was changed after it was locked"):
        jobs_of(job).live("tiny", version=None, models=())


def test_an_evaluation_may_pin_a_version_that_is_not_locked_and_none_that_was_changed(
    job: Path,
) -> None:
    (job / "prompts" / "v2.md").write_text(PROMPT.replace("Extract", "Find"))
    draft = jobs_of(job).of_version("tiny", version="v2")
    assert (draft.prompt.version, draft.models) == ("v2", ("small", "large"))
    assert draft.prompt_id != jobs_of(job).of_version("tiny", version="v1").prompt_id
    lock(job, "v2")
    (job / "prompts" / "v2.md").write_text(PROMPT)
    with pytest.raises(JobError, match=r"prompts/v2\.md was changed after it was locked"):
        jobs_of(job).of_version("tiny", version="v2")


def promoted(job: Path, *, percent: int | None) -> Pinned:
    """Version v2, promoted with a ceiling of 3 cents."""
    (job / "prompts" / "v2.md").write_text(PROMPT.replace("Extract", "Find"))
    lock(job, "v2")
    pinned = jobs_of(job).of_version("tiny", version="v2")
    evidence = Evidence(
        run="e1",
        verdict="pass",
        gold_digest="sha256:ab",
        evaluated_on=date(2026, 11, 25),
        prompt_id=pinned.prompt_id,
        models=pinned.models,
    )
    promote(job, "v2", evidence=evidence, ceiling_usd=Decimal("0.03"), percent=percent)
    return pinned


def test_a_new_batch_pins_the_canary_beside_the_live_version_with_its_own_ladder(
    job: Path,
) -> None:
    assert jobs_of(job).canary("tiny", models=()) is None
    pinned = promoted(job, percent=5)
    assert jobs_of(job).live("tiny", version=None, models=()).prompt.version == "v1"
    found = jobs_of(job).canary("tiny", models=())
    assert found == Canary(version="v2", prompt_id=pinned.prompt_id, percent=5)
    other = jobs_of(job).canary("tiny", models=("huge",))
    assert other is not None
    assert other.prompt_id != pinned.prompt_id
    (job / "prompts" / "v2.md").write_text(PROMPT)
    with pytest.raises(JobError, match=r"prompts/v2\.md was changed after it was locked"):
        jobs_of(job).canary("tiny", models=())


def test_a_frozen_ceiling_holds_for_what_was_evaluated_where_nothing_else_sets_one(
    job: Path,
) -> None:
    promoted(job, percent=None)
    none = Settings(home=job)
    general = Settings(home=job, budget=BudgetSettings(document_usd=0.5))
    jobs = jobs_of(job)
    live = jobs.live("tiny", version=None, models=())
    assert (live.ceiling_nusd(none), live.ceiling_nusd(general)) == (30_000_000, 500_000_000)
    assert jobs.live("tiny", version="v1", models=()).ceiling_nusd(none) is None
    assert jobs.live("tiny", version=None, models=("huge",)).ceiling_nusd(none) is None

    def of_orphan(settings: Settings, version: str, job_name: str = "tiny") -> int | None:
        return jobs.ceiling_nusd(job_name, version=version, models=live.models, settings=settings)

    assert [of_orphan(none, version) for version in ("v2", "v1", "gone")] == [
        30_000_000,
        None,
        None,
    ]
    assert of_orphan(general, "gone") == of_orphan(general, "v2", "nowhere") == 500_000_000
    own = replace(live, job=replace(live.job, ceiling_usd=0.9))
    assert own.ceiling_nusd(general) == 900_000_000


def test_a_worker_with_another_prompt_than_the_batch_pinned_refuses_it(job: Path) -> None:
    pinned = jobs_of(job).live("tiny", version=None, models=())
    (job / "prompts" / "v1.md").write_text(PROMPT.replace("Extract", "Find"))
    with pytest.raises(JobError, match=f"but the batch pinned {pinned.prompt_id}"):
        jobs_of(job).of_batch(
            "tiny", version="v1", expected_id=pinned.prompt_id, models=pinned.models
        )


def test_a_worker_without_the_job_refuses_it_and_uses_general_limits(tmp_path: Path) -> None:
    jobs = PinnedJobs([tmp_path])
    with pytest.raises(JobError, match="tiny"):
        jobs.of_batch("tiny", version="v1", expected_id="p", models=("small",))
    assert jobs.policy("tiny", 3) == Policy(ladder_length=3)


def test_a_job_is_loaded_once_a_process_and_its_failure_is_not_remembered(tmp_path: Path) -> None:
    jobs = PinnedJobs([tmp_path])
    with pytest.raises(JobError):
        jobs.job("tiny")
    make_job(tmp_path)
    assert jobs.job("tiny") is jobs.job("tiny")
    assert jobs.policy("tiny", 1).max_attempts == 5
