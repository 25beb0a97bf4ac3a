"""Prompt versions: which is live or a canary, on what evidence, what each says and what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runner.errors import JobError
from runner.jsonschema import strict_schema
from runner.ledger.deployments import batches_of
from runner.promptlock import Lock, LockedVersion, find_lock, verify_lock
from runner.prompts import PromptVersion, load_prompt, prompt_path, read_text, versions_in
from runner.registry import job_names, load_job
from runner.web.batches import batch_lines
from runner.web.desk import desk_of, look, page, work

BATCHES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """A job with what is live; or why it cannot be loaded."""

    name: str
    description: str = ""
    lock: Lock | None = None
    trouble: str = ""


async def list_(request: Request) -> Response:
    """Every job."""
    folders = desk_of(request).settings.job_folders

    def read() -> list[JobLine]:
        return [_job_line(name, folders) for name in job_names(folders=folders)]

    return page(request, "jobs.html", jobs=await work(read))


def _job_line(name: str, folders: Sequence[Path]) -> JobLine:
    try:
        loaded = load_job(name, folders=folders)
        lock = find_lock(loaded.folder)
    except JobError as error:
        return JobLine(name=name, trouble=str(error))
    return JobLine(name=name, description=loaded.job.description, lock=lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """A version of a job's prompt; `locked` is none for one that may still change."""

    name: str
    role: str  # live, canary 10 %, or nothing
    has_file: bool
    locked: LockedVersion | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """A job's prompt: its versions, and what does not match the lock."""

    name: str
    description: str
    models: tuple[str, ...]
    lock: Lock | None
    versions: Sequence[VersionLine]
    problems: Sequence[str]


async def show(request: Request) -> Response:
    """One job's prompt."""
    desk, name = desk_of(request), request.path_params["job"]
    found = await work(lambda: _job_page(name, desk.settings.job_folders))
    now_us = desk.ledger.clock.us()
    lines = await look(
        request,
        lambda connection: batch_lines(
            connection, batches_of(connection, name, limit=BATCHES_MAX), now_us=now_us
        ),
    )
    return page(request, "job.html", found=found, lines=lines)


def _job_page(name: str, folders: Sequence[Path]) -> JobPage:
    loaded = load_job(name, folders=folders)
    lock = find_lock(loaded.folder)
    files = set(versions_in(loaded.folder))
    problems: Sequence[str] = ()
    if lock is not None:
        schema = strict_schema(loaded.job.schema)
        problems = verify_lock(loaded.folder, models=loaded.job.models, schema=schema)
    return JobPage(
        name=name,
        description=loaded.job.description,
        models=loaded.job.models,
        lock=lock,
        versions=[
            VersionLine(
                name=one,
                role=_role(lock, one),
                has_file=one in files,
                locked=lock.versions.get(one) if lock else None,
            )
            for one in sorted(files | set(lock.versions if lock else ()))
        ],
        problems=problems,
    )


def _role(lock: Lock | None, version: str) -> str:
    if lock is not None and lock.live == version:
        return "live"
    if lock is not None and lock.canary is not None and lock.canary.version == version:
        return f"canary {lock.canary.percent} %"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPage:
    """What one version says, and how it differs from the live one."""

    prompt: PromptVersion
    parameters: Mapping[str, Any]
    role: str
    live: str | None
    changes: Sequence[str]  # lines of a unified diff from the live version


async def show_version(request: Request) -> Response:
    """One version."""
    name, version = request.path_params["job"], request.path_params["version"]
    folders = desk_of(request).settings.job_folders
    found = await work(lambda: _version_page(name, version, folders))
    return page(request, "prompt.html", found=found, job=name)


def _version_page(name: str, version: str, folders: Sequence[Path]) -> VersionPage:
    folder = load_job(name, folders=folders).folder
    prompt, lock = load_prompt(folder, version), find_lock(folder)
    live = lock.live if lock is not None else None
    changes: list[str] = []
    if live is not None and live != version:
        old, new = (read_text(prompt_path(folder, one)).splitlines() for one in (live, version))
        changes = list(unified_diff(old, new, live, version, lineterm=""))
    return VersionPage(
        prompt=prompt,
        parameters=prompt.parameters.model_dump(exclude_none=True),
        role=_role(lock, version),
        live=live,
        changes=changes,
    )
