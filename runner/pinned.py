"""Loads what a batch pins (job, prompt version, models, schema) and checks it is the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.budget import ceiling_nusd
from runner.config import Settings
from runner.errors import JobError
from runner.job import Job
from runner.jsonschema import strict_schema
from runner.model import Policy
from runner.prompts import PromptVersion, load_prompt, prompt_id, read_lock
from runner.registry import LoadedJob, load_job


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A job at one prompt version and ladder, ready to ask with."""

    name: str
    job: Job
    prompt: PromptVersion
    prompt_id: str
    models: tuple[str, ...]
    schema: dict[str, Any]

    @property
    def policy(self) -> Policy:
        """The limits that `decide` applies."""
        return self.job.policy(ladder_length=len(self.models))


class PinnedJobs:
    """Finds jobs by name and keeps what was loaded; a changed file is seen by the next process."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._loaded: dict[str, LoadedJob] = {}
        self._pinned: dict[tuple[str, str, tuple[str, ...]], Pinned] = {}

    def job(self, name: str) -> LoadedJob:
        """The job of this name. Raises JobError when there is none or its code fails."""
        if name not in self._loaded:
            self._loaded[name] = load_job(name, folders=self._folders)
        return self._loaded[name]

    def live(self, name: str, *, version: str | None, models: tuple[str, ...]) -> Pinned:
        """What a new batch pins: `version` or the live one, `models` or the job's own ladder.

        Raises JobError when the version is not locked: what was not locked cannot be traced.
        """
        loaded = self.job(name)
        lock = read_lock(loaded.folder)
        chosen = version or lock.live
        if chosen not in lock.versions:
            raise JobError(
                f"job {name}: prompt version {chosen} is not locked; locked are: "
                f"{', '.join(sorted(lock.versions))}; `runner prompt lock {name} {chosen}` locks it"
            )
        pinned = self._pin(name, version=chosen, models=models or loaded.job.models)
        if pinned.prompt.content_hash != lock.versions[chosen].content_hash:
            raise JobError(
                f"job {name}: prompts/{chosen}.md was changed after it was locked; restore it, "
                "or write the change as a new version and lock that"
            )
        return pinned

    def of_batch(
        self, name: str, *, version: str, expected_id: str, models: tuple[str, ...]
    ) -> Pinned:
        """What a batch pinned. Raises JobError when this process would ask something else."""
        pinned = self._pin(name, version=version, models=models)
        if pinned.prompt_id != expected_id:
            raise JobError(
                f"job {name}: this worker's {version} is {pinned.prompt_id}, but the batch pinned "
                f"{expected_id}; run a worker with the prompts and schema of the submission"
            )
        return pinned

    def policy(self, name: str, ladder_length: int) -> Policy:
        """A job's limits; the general ones for a job that this process cannot load."""
        try:
            return self.job(name).job.policy(ladder_length=ladder_length)
        except JobError:
            return Policy(ladder_length=ladder_length)

    def ceiling_nusd(self, name: str, settings: Settings) -> int | None:
        """The most that a document of this job may cost; a job that cannot be loaded has no own."""
        try:
            own_usd = self.job(name).job.ceiling_usd
        except JobError:
            own_usd = None
        return ceiling_nusd(own_usd, settings)

    def _pin(self, name: str, *, version: str, models: tuple[str, ...]) -> Pinned:
        key = (name, version, models)
        if key not in self._pinned:
            loaded = self.job(name)
            prompt = load_prompt(loaded.folder, version)
            schema = strict_schema(loaded.job.schema)
            self._pinned[key] = Pinned(
                name=name,
                job=loaded.job,
                prompt=prompt,
                prompt_id=prompt_id(prompt, models=models, schema=schema),
                models=models,
                schema=schema,
            )
        return self._pinned[key]
