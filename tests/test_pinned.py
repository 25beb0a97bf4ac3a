"""Pins: a batch is worked on with exactly the prompt, ladder and schema of its submission."""

from pathlib import Path

import pytest

from runner.errors import JobError
from runner.model import Policy
from runner.pinned import PinnedJobs
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
