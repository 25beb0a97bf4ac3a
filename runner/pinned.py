"""Loads what a batch pins (job, prompt version, models, schema) and checks it is the same."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from runner.budget import ceiling_nusd
from runner.canary import Canary
from runner.config import Settings
from runner.errors import JobError
from runner.job import Job
from runner.jsonschema import strict_schema
from runner.model import Policy
from runner.promptlock import Lock, find_lock, read_lock, refuse_changed
from runner.prompts import PromptVersion, load_prompt, prompt_id
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
    frozen_ceiling_usd: Decimal | None = None  # by the promotion of exactly this prompt id

    @property
    def policy(self) -> Policy:
        """The limits that `decide` applies."""
        return self.job.policy(ladder_length=len(self.models))

    def ceiling_nusd(self, settings: Settings) -> int | None:
        """The most that a document may cost: by its job, else by runner.toml, else as frozen."""
        return ceiling_nusd(self.job.ceiling_usd, settings, frozen_usd=self.frozen_ceiling_usd)


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
        return self._unchanged(name, chosen, models=models, lock=lock)

    def live_version(self, name: str) -> str | None:
        """The version that new batches pin; None before the first lock. Raises JobError."""
        lock = find_lock(self.job(name).folder)
        return None if lock is None else lock.live

    def canary(self, name: str, *, models: tuple[str, ...]) -> Canary | None:
        """What a new batch pins beside the live version, if the lock has a canary.

        Raises JobError when its file is not what was locked.
        """
        lock = read_lock(self.job(name).folder)
        if lock.canary is None:
            return None
        pinned = self._unchanged(name, lock.canary.version, models=models, lock=lock)
        return Canary(
            version=pinned.prompt.version,
            prompt_id=pinned.prompt_id,
            percent=lock.canary.percent,
        )

    def of_version(self, name: str, *, version: str, models: tuple[str, ...] = ()) -> Pinned:
        """What an evaluation pins: this version, live or not, locked or not yet.

        What is asked is traced by the prompt id alone, so only batches that nobody takes for the
        job's work may pin a version that is not locked. Raises JobError when there is no such
        version, its file is malformed, or it was changed after it was locked.
        """
        lock = find_lock(self.job(name).folder)
        return self._unchanged(name, version, models=models, lock=lock)

    def prompt_ids(
        self, name: str, *, version: str, ladders: Iterable[tuple[str, ...]]
    ) -> set[str]:
        """The ids that a version has with these ladders; none when it cannot be loaded any more."""
        try:
            return {
                self.of_version(name, version=version, models=models).prompt_id
                for models in ladders
            }
        except JobError:
            return set()

    def _unchanged(
        self, name: str, version: str, *, models: tuple[str, ...], lock: Lock | None
    ) -> Pinned:
        loaded = self.job(name)
        pinned = self._pin(name, version=version, models=models or loaded.job.models)
        refuse_changed(loaded.folder, lock, pinned.prompt)
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

    def ceiling_nusd(
        self, name: str, *, version: str, models: tuple[str, ...], settings: Settings
    ) -> int | None:
        """The most that a document may cost that is asked like this.

        A job or a version that cannot be loaded has no ceiling of its own.
        """
        try:
            return self._pin(name, version=version, models=models).ceiling_nusd(settings)
        except JobError:
            return ceiling_nusd(self._own_ceiling_usd(name), settings)

    def _own_ceiling_usd(self, name: str) -> float | None:
        try:
            return self.job(name).job.ceiling_usd
        except JobError:
            return None

    def _pin(self, name: str, *, version: str, models: tuple[str, ...]) -> Pinned:
        key = (name, version, models)
        if key not in self._pinned:
            loaded = self.job(name)
            prompt = load_prompt(loaded.folder, version)
            schema = strict_schema(loaded.job.schema)
            asked_as = prompt_id(prompt, models=models, schema=schema)
            self._pinned[key] = Pinned(
                name=name,
                job=loaded.job,
                prompt=prompt,
                prompt_id=asked_as,
                models=models,
                schema=schema,
                frozen_ceiling_usd=_frozen_ceiling_usd(loaded.folder, version, asked_as),
            )
        return self._pinned[key]


def _frozen_ceiling_usd(folder: Path, version: str, asked_as: str) -> Decimal | None:
    """The ceiling that a promotion froze, for what was evaluated then and nothing else."""
    lock = find_lock(folder)
    locked = lock.versions.get(version) if lock is not None else None
    if locked is None or locked.evaluation is None or locked.evaluation.prompt_id != asked_as:
        return None
    return locked.ceiling_usd
