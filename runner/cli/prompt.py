"""`runner prompt`: the versions of a job's prompt, and locking one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes import PromptListShape, PromptRowShape, PromptShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.errors import JobError
from runner.jsonschema import strict_schema
from runner.prompts import (
    LOCK_FILE,
    PROMPTS_FOLDER,
    Lock,
    load_prompt,
    lock_version,
    prompt_id,
    read_lock,
)
from runner.registry import LoadedJob, job_names, load_job

_HERE = "runner.cli.prompt"
State = Literal["locked", "unlocked", "changed", "missing"]


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "Every job's versions: live, locked, unlocked, changed."),
        "show": (_HERE, "show", "One version: parameters and both templates."),
        "lock": (_HERE, "lock", "Freeze a version, so that batches can pin it."),
    },
)
def prompt() -> None:
    """Look at a job's prompt versions and lock them; a batch runs locked versions only."""


@click.command("list", cls=Command, example=("runner prompt list", "runner prompt list invoice"))
@click.argument("job", required=False)
@json_option
@pass_session
def list_(session: Session, /, *, job: str | None, as_json: bool) -> None:
    """List the versions of JOB's prompt, or of every job's."""
    folders = session.settings.job_folders
    names = job_names(folders=folders) if job is None else (job,)
    rows = [row for name in names for row in _rows(load_job(name, folders=folders))]
    if as_json:
        say_json(PromptListShape(prompts=tuple(rows)))
        return
    columns = [Column(title) for title in ("job", "version", "live", "state", "id", "locked")]
    say_table(
        columns,
        [
            (
                row.job,
                row.version,
                "live" if row.live else "",
                row.state,
                row.prompt_id,
                row.locked_at,
            )
            for row in rows
        ],
    )


def _rows(loaded: LoadedJob) -> Iterator[PromptRowShape]:
    lock = _lock(loaded.folder)
    files = {path.stem for path in (loaded.folder / PROMPTS_FOLDER).glob("*.md")}
    for version in sorted(files | set(lock.versions if lock else ())):
        yield PromptRowShape(**_row(loaded, version, lock, has_file=version in files))


def _lock(folder: Path) -> Lock | None:
    return read_lock(folder) if (folder / LOCK_FILE).exists() else None


def _row(loaded: LoadedJob, version: str, lock: Lock | None, *, has_file: bool) -> dict[str, Any]:
    locked = lock.versions.get(version) if lock else None
    return {
        "job": loaded.name,
        "version": version,
        "live": lock is not None and lock.live == version,
        "state": _state(loaded.folder, version, lock, has_file=has_file),
        "prompt_id": None if locked is None else locked.prompt_id,
        "locked_at": None if locked is None else locked.locked_at.isoformat(),
    }


def _state(folder: Path, version: str, lock: Lock | None, *, has_file: bool) -> State:
    locked = lock.versions.get(version) if lock else None
    if not has_file:
        return "missing"
    if locked is None:
        return "unlocked"
    try:
        same = load_prompt(folder, version).content_hash == locked.content_hash
    except JobError:
        same = False
    return "locked" if same else "changed"


@click.command("show", cls=Command, example=("runner prompt show invoice v1",))
@click.argument("job")
@click.argument("version", required=False)
@json_option
@pass_session
def show(session: Session, /, *, job: str, version: str | None, as_json: bool) -> None:
    """Show a version of JOB's prompt; the live one when VERSION is left out."""
    loaded = load_job(job, folders=session.settings.job_folders)
    chosen = version or read_lock(loaded.folder).live
    found = load_prompt(loaded.folder, chosen)
    parameters: Mapping[str, Any] = found.parameters.model_dump(exclude_none=True)
    row = _row(loaded, chosen, _lock(loaded.folder), has_file=True)
    now_id = prompt_id(found, models=loaded.job.models, schema=strict_schema(loaded.job.schema))
    shape = PromptShape(
        **row, parameters=parameters, system=found.system_template, user=found.user_template
    )
    if as_json:
        say_json(shape)
        return
    say(
        lines_of(
            [
                ("prompt", f"{job} {chosen}"),
                ("state", shape.state + (", live" if shape.live else "")),
                ("locked id", shape.prompt_id),
                ("id now", None if now_id == shape.prompt_id else now_id),
                ("locked at", shape.locked_at),
                *parameters.items(),
            ]
        )
    )
    say(f"\n# system\n\n{shape.system}\n\n# user\n\n{shape.user}")


@click.command("lock", cls=Command, example=("runner prompt lock invoice v2",))
@click.argument("job")
@click.argument("version")
@json_option
@pass_session
def lock(session: Session, /, *, job: str, version: str, as_json: bool) -> None:
    """Freeze VERSION of JOB's prompt in its prompts.lock; doing it again changes nothing.

    The first version ever locked becomes the live one.
    """
    loaded = load_job(job, folders=session.settings.job_folders)
    lock_version(
        loaded.folder,
        version,
        models=loaded.job.models,
        schema=strict_schema(loaded.job.schema),
    )
    row = PromptRowShape(**_row(loaded, version, _lock(loaded.folder), has_file=True))
    if as_json:
        say_json(row)
        return
    say(f"{job} {version} is locked as {row.prompt_id}{' and live' if row.live else ''}")
    if not row.live:
        talk(f"`runner run {job} … --prompt {version}` runs it")
