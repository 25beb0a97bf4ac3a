"""The lock of a job's prompts: what each frozen version is, which is live, and since when.

`prompts.lock` is TOML that `runner prompt` writes (see `deployment.py`):

    live = "v1"                   # the version that a new batch pins

    [canary]                      # at most one: asked beside the live one
    version = "v2"
    percent = 10                  # of the documents of a new batch

    [versions.v2]
    content_hash = "sha256:..."   # of the text of prompts/v2.md
    prompt_id = "p..."            # of all that shapes the request, see `prompts.prompt_id`
    locked_at = 2026-11-23        # UTC
    ceiling_usd = 0.0042          # of a document; frozen by the promotion, from its evaluation

    [versions.v2.parts]           # a digest of each part of the id, to tell which one changed
    [versions.v2.evaluation]      # the evidence that it was promoted on

    [[deployments]]               # what became live or a canary, and when; the newest last

A locked version never changes: a new wording is a new version. A promotion adds to its entry what
was measured, and nothing else ever touches it.
"""

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, assert_never

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from runner.errors import JobError
from runner.prompts import (
    PromptVersion,
    load_prompt,
    part_digests,
    problems_of,
    prompt_id,
    read_text,
)

LOCK_FILE = "prompts.lock"
PERCENT_MAX = 99  # all of them is a promotion


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Frozen):
    """The evaluation that a version was promoted on."""

    run: str
    verdict: str
    gold_digest: str
    evaluated_on: date  # UTC
    prompt_id: str
    models: tuple[str, ...]


class LockedVersion(_Frozen):
    """What was frozen when a version was locked, and what a promotion added."""

    content_hash: str
    prompt_id: str
    locked_at: date
    ceiling_usd: Decimal | None = Field(default=None, gt=0)
    parts: dict[str, str] | None = None  # none: locked by a runner that did not write them
    evaluation: Evidence | None = None


class CanaryShare(_Frozen):
    """The version that a part of the documents is asked with beside the live one."""

    version: str
    percent: int = Field(ge=1, le=PERCENT_MAX)


class Deployment(_Frozen):
    """One change of what is live or a canary."""

    at: AwareDatetime
    what: Literal["lock", "promote", "canary", "rollback"]
    version: str  # that is live, or a canary, from then on
    percent: int | None = None  # of a canary
    instead_of: str | None = None  # that was live before, or that a rollback withdrew


class Lock(_Frozen):
    """A job's prompts.lock."""

    live: str
    versions: dict[str, LockedVersion]
    deployments: tuple[Deployment, ...] = ()
    canary: CanaryShare | None = None

    @property
    def previous_live(self) -> str | None:
        """The version that was live before the present one and was not rolled back since."""
        lives = _lives(self)
        return lives[-2] if len(lives) > 1 else None


def _lives(lock: Lock) -> list[str]:
    """The live versions one after the other, the present one last; what was rolled back is out."""
    lives: list[str] = []
    for one in lock.deployments:
        match one.what:
            case "lock":
                lives = [one.version]
            case "promote":
                # the first one names a live version that an older runner wrote no history of
                for live in (one.instead_of, one.version):
                    if live is not None and lives[-1:] != [live]:
                        lives.append(live)
            case "rollback":
                while lives and lives[-1] != one.version:
                    lives.pop()
                lives = lives or [one.version]
            case "canary":
                pass
            case _:
                assert_never(one.what)
    return lives if lives[-1:] == [lock.live] else [*lives, lock.live]


def read_lock(folder: Path) -> Lock:
    """Read the prompts.lock of the job in `folder`; raises JobError when missing or malformed."""
    lock = find_lock(folder)
    if lock is None:
        path = folder / LOCK_FILE
        raise JobError(f"{path} does not exist: `runner prompt lock {folder.name} v1` writes it")
    return lock


def find_lock(folder: Path) -> Lock | None:
    """The lock of the job in `folder`, or None before its first one; raises JobError."""
    path = folder / LOCK_FILE
    return parse_lock(read_text(path), path) if path.is_file() else None


def parse_lock(text: str, path: Path) -> Lock:
    """The lock that a file says; `path` names it in messages. Raises JobError."""
    try:
        lock = Lock.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise JobError(f"{path}: {problems_of(error)}") from error
    if lock.live not in lock.versions:
        raise JobError(f"{path}: live version {lock.live!r} is not locked; lock it first")
    if lock.canary is not None and lock.canary.version not in lock.versions:
        raise JobError(f"{path}: canary {lock.canary.version!r} is not locked; lock it first")
    return lock


def refuse_changed(folder: Path, lock: Lock | None, prompt: PromptVersion) -> None:
    """Raise JobError when this version is locked and its file is not what was locked."""
    locked = lock.versions.get(prompt.version) if lock is not None else None
    if locked is not None and locked.content_hash != prompt.content_hash:
        raise JobError(
            f"job {folder.name}: prompts/{prompt.version}.md was changed after it was locked; "
            "restore it, or write the change as a new version and lock that"
        )


def verify_lock(folder: Path, *, models: tuple[str, ...], schema: Mapping[str, Any]) -> list[str]:
    """Return what does not match the lock, one sentence each; an empty list when all is well.

    Every locked version's text must be unchanged; of the live one and the canary also schema,
    models and repair prompt (older ones were locked with what held then).
    """
    try:
        lock = read_lock(folder)
    except JobError as error:
        return [str(error)]
    asked = {lock.live, lock.canary.version if lock.canary is not None else lock.live}
    problems = []
    for version, locked in lock.versions.items():
        try:
            now = freeze(load_prompt(folder, version), models=models, schema=schema)
        except JobError as error:
            problems.append(str(error))
            continue
        if changes := changes_of(locked, now, of_text_only=version not in asked):
            problems.append(
                f"prompt {folder.name}/{version} was locked on {locked.locked_at} and its {changes}"
                " since: undo that, or make it a new version"
            )
    return problems


def freeze(
    prompt: PromptVersion,
    *,
    models: tuple[str, ...],
    schema: Mapping[str, Any],
    locked_at: date = date.min,
) -> LockedVersion:
    """What a lock keeps of a version as it is now."""
    return LockedVersion(
        content_hash=prompt.content_hash,
        prompt_id=prompt_id(prompt, models=models, schema=schema),
        locked_at=locked_at,
        parts=part_digests(prompt, models=models, schema=schema),
    )


def changes_of(locked: LockedVersion, now: LockedVersion, *, of_text_only: bool = False) -> str:
    """What of a locked version is not so now, in words; empty when it is as it was locked."""
    if locked.content_hash != now.content_hash:
        return "text changed"
    if locked.prompt_id == now.prompt_id or of_text_only:
        return ""
    changed = ", ".join(changed_parts(locked, now)) or "schema, models or repair prompt"
    return f"{changed} changed (id {locked.prompt_id} became {now.prompt_id})"


def changed_parts(one: LockedVersion, other: LockedVersion) -> tuple[str, ...]:
    """Which parts of the prompt id differ, of those that both are known to have."""
    theirs = other.parts or {}
    return tuple(
        name for name, part in (one.parts or {}).items() if name in theirs and theirs[name] != part
    )
