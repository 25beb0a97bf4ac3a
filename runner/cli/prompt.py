"""`runner prompt`: the versions of a job's prompt: look at them, begin one, compare, lock."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import click

from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.prompts import (
    NewPromptShape,
    PromptDiffShape,
    PromptListShape,
    PromptRowShape,
    PromptShape,
)
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json, talk
from runner.deployment import lock_version
from runner.drafts import begin_version, compare_versions
from runner.errors import JobError
from runner.jsonschema import strict_schema
from runner.promptlock import Lock, find_lock, read_lock
from runner.prompts import load_prompt, prompt_id, versions_in
from runner.registry import LoadedJob, job_names, load_job

_HERE = "runner.cli.prompt"
State = Literal["locked", "unlocked", "changed", "missing"]


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "Every job's versions: live, locked, unlocked, changed."),
        "show": (_HERE, "show", "One version: parameters and both templates."),
        "new": (_HERE, "new", "Begin a version as a copy of the live one."),
        "diff": (_HERE, "diff", "How two versions differ, in text and in what is asked."),
        "lock": (_HERE, "lock", "Freeze a version, so that batches can pin it."),
        "promote": (
            "runner.cli.promotion",
            "promote",
            "Make an evaluated version live, or a canary.",
        ),
        "rollback": (
            "runner.cli.rollback",
            "rollback",
            "Put back what was live before; end a canary.",
        ),
        "status": (
            "runner.cli.prompt_status",
            "status",
            "What is live, why, and what batches were asked with.",
        ),
    },
)
def prompt() -> None:
    """Look at a job's prompt versions, lock and deploy them; a batch runs locked versions only."""


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
            (row.job, row.version, _role(row), row.state, row.prompt_id, row.locked_at)
            for row in rows
        ],
    )


def _role(row: PromptRowShape) -> str:
    if row.live:
        return "live"
    return "" if row.canary_percent is None else f"canary {row.canary_percent} %"


def _rows(loaded: LoadedJob) -> Iterator[PromptRowShape]:
    lock = find_lock(loaded.folder)
    files = set(versions_in(loaded.folder))
    for version in sorted(files | set(lock.versions if lock else ())):
        yield PromptRowShape(**_row(loaded, version, lock, has_file=version in files))


def _row(loaded: LoadedJob, version: str, lock: Lock | None, *, has_file: bool) -> dict[str, Any]:
    locked = lock.versions.get(version) if lock else None
    canary = lock.canary if lock else None
    return {
        "job": loaded.name,
        "version": version,
        "live": lock is not None and lock.live == version,
        "canary_percent": canary.percent if canary and canary.version == version else None,
        "state": _state(loaded, version, lock, has_file=has_file),
        "prompt_id": None if locked is None else locked.prompt_id,
        "locked_at": None if locked is None else locked.locked_at.isoformat(),
        "evaluated": locked is not None and locked.evaluation is not None,
    }


def _state(loaded: LoadedJob, version: str, lock: Lock | None, *, has_file: bool) -> State:
    locked = lock.versions.get(version) if lock else None
    if not has_file:
        return "missing"
    if locked is None:
        return "unlocked"
    try:
        same = load_prompt(loaded.folder, version).content_hash == locked.content_hash
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
    row = _row(loaded, chosen, find_lock(loaded.folder), has_file=True)
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
                ("state", ", ".join(filter(None, (shape.state, _role(shape))))),
                ("locked id", shape.prompt_id),
                ("id now", None if now_id == shape.prompt_id else now_id),
                ("locked at", shape.locked_at),
                *parameters.items(),
            ]
        )
    )
    say(f"\n# system\n\n{shape.system}\n\n# user\n\n{shape.user}")


@click.command(
    "new",
    cls=Command,
    example=("runner prompt new invoice", "runner prompt new invoice v3 --from v1"),
)
@click.argument("job")
@click.argument("version", required=False)
@click.option("--from", "source", metavar="VERSION", help="Copy this one instead of the live one.")
@json_option
@pass_session
def new(
    session: Session, /, *, job: str, version: str | None, source: str | None, as_json: bool
) -> None:
    """Begin VERSION of JOB's prompt (the next number by default) as a copy of the live one."""
    loaded = load_job(job, folders=session.settings.job_folders)
    begun = begin_version(loaded.folder, version, source=source)
    shape = NewPromptShape(
        job=job, version=begun.version, copied_from=begun.copied_from, file=str(begun.path)
    )
    if as_json:
        say_json(shape)
        return
    say(shape.file)
    talk(
        f"a copy of {begun.copied_from}: edit it, then `runner prompt diff {job} "
        f"{begun.copied_from} {begun.version}` shows what changed, and "
        f"`runner prompt lock {job} {begun.version}` freezes it"
    )


@click.command("diff", cls=Command, example=("runner prompt diff invoice v1 v2",))
@click.argument("job")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@json_option
@pass_session
def diff(session: Session, /, *, job: str, before: str, after: str, as_json: bool) -> None:
    """Show how version B of JOB's prompt differs from A: the files, and what is asked.

    Of a locked version counts what was locked with it: models, schema and repair prompt of then.
    """
    loaded = load_job(job, folders=session.settings.job_folders)
    found = compare_versions(
        loaded.folder,
        before,
        after,
        models=loaded.job.models,
        schema=strict_schema(loaded.job.schema),
    )
    if as_json:
        say_json(
            PromptDiffShape(
                job=job,
                before=before,
                after=after,
                before_id=found.before_id,
                after_id=found.after_id,
                changed=found.changed,
                unknown=found.unknown,
                diff=found.diff,
            )
        )
        return
    if found.diff:
        say(found.diff.removesuffix("\n"))
    asked = ", ".join(found.changed) or "nothing"
    talk(f"of what is asked, {asked} changed: {found.before_id} became {found.after_id}")
    if found.unknown:
        talk(f"not known of a version that was locked long ago: {', '.join(found.unknown)}")


@click.command("lock", cls=Command, example=("runner prompt lock invoice v2",))
@click.argument("job")
@click.argument("version")
@json_option
@pass_session
def lock(session: Session, /, *, job: str, version: str, as_json: bool) -> None:
    """Freeze VERSION of JOB's prompt in its prompts.lock; doing it again changes nothing.

    The first version ever locked becomes the live one, without an evaluation.
    """
    loaded = load_job(job, folders=session.settings.job_folders)
    is_first = find_lock(loaded.folder) is None
    locked = lock_version(
        loaded.folder,
        version,
        models=loaded.job.models,
        schema=strict_schema(loaded.job.schema),
    )
    row = PromptRowShape(**_row(loaded, version, locked, has_file=True))
    if as_json:
        say_json(row)
        return
    say(f"{job} {version} is locked as {row.prompt_id}{' and live' if row.live else ''}")
    if is_first:
        talk("live as the first version that was ever locked: no evaluation speaks for it")
    elif not row.live:
        talk(
            f"`runner run {job} … --prompt {version}` runs it; once an evaluation speaks for it, "
            f"`runner prompt promote {job} {version}` makes it live"
        )
