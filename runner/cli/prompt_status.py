"""`runner prompt status`: what is live, on what evidence, and what batches were asked with."""

from collections.abc import Mapping, Sequence

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.prompts import (
    BatchVersionsShape,
    DeployedShape,
    DeploymentShape,
    EvidenceShape,
    PromptStatusShape,
    VersionShareShape,
)
from runner.cli.tables import Column, say_table
from runner.cli.terminal import lines_of, say, say_json
from runner.cli.wording import short_time, usd
from runner.jsonschema import strict_schema
from runner.ledger.deployments import Share, batches_of, shares
from runner.ledger.submission import Batch
from runner.model import DocumentState
from runner.pinned import PinnedJobs
from runner.promptlock import Lock, read_lock, verify_lock

BATCHES_SHOWN = 5


@click.command("status", cls=Command, example=("runner prompt status invoice",))
@click.argument("job")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=BATCHES_SHOWN,
    show_default=True,
    help="Look at this many of the newest batches.",
)
@json_option
@pass_session
def status(session: Session, /, *, job: str, limit: int, as_json: bool) -> None:
    """Show what of JOB's prompt is live or a canary, on what evidence, and in which batches."""
    jobs = PinnedJobs(session.settings.job_folders)
    loaded = jobs.job(job)
    lock = read_lock(loaded.folder)
    problems = verify_lock(
        loaded.folder, models=loaded.job.models, schema=strict_schema(loaded.job.schema)
    )
    canary = lock.canary
    shape = PromptStatusShape(
        job=job,
        live=_deployed(lock, lock.live, percent=100 - (canary.percent if canary else 0)),
        canary=None if canary is None else _deployed(lock, canary.version, percent=canary.percent),
        previous=lock.previous_live,
        in_step=not problems,
        problems=tuple(problems),
        deployments=tuple(DeploymentShape.of(one) for one in lock.deployments),
        batches=_batches(session, jobs, job, lock, limit=limit),
    )
    if as_json:
        say_json(shape)
    else:
        _say_status(shape)


def _deployed(lock: Lock, version: str, *, percent: int) -> DeployedShape:
    entry = lock.versions[version]
    return DeployedShape(
        version=version,
        prompt_id=entry.prompt_id,
        percent=percent,
        ceiling_usd=entry.ceiling_usd,
        evaluation=EvidenceShape.of(entry.evaluation),
    )


def _batches(
    session: Session, jobs: PinnedJobs, job: str, lock: Lock, *, limit: int
) -> tuple[BatchVersionsShape, ...]:
    if not session.has_ledger:
        return ()
    with session.ledger() as ledger, ledger.snapshot() as connection:
        batches = batches_of(connection, job, limit=limit)
        names = _version_names(jobs, job, lock, batches)
        return tuple(
            BatchVersionsShape(
                batch=one.name,
                batch_id=one.id,
                versions=_version_shares(shares(connection, one.id), names),
            )
            for one in batches
        )


def _version_names(
    jobs: PinnedJobs, job: str, lock: Lock, batches: Sequence[Batch]
) -> dict[str, str]:
    """The version behind each prompt id that these batches may have used."""
    ladders = {one.models for one in batches}
    names = {
        id_: version
        for version in lock.versions
        for id_ in jobs.prompt_ids(job, version=version, ladders=ladders)
    }
    names |= {locked.prompt_id: version for version, locked in lock.versions.items()}
    for one in batches:
        names[one.prompt_id] = one.prompt_version
        if one.canary is not None:
            names[one.canary.prompt_id] = one.canary.version
    return names


def _version_shares(
    found: Sequence[Share], names: Mapping[str, str]
) -> tuple[VersionShareShape, ...]:
    total = sum(one.documents for one in found)
    made = []
    for prompt_id in dict.fromkeys(one.prompt_id for one in found):
        mine = {one.state: one.documents for one in found if one.prompt_id == prompt_id}
        made.append(
            VersionShareShape(
                version=names.get(prompt_id),
                prompt_id=prompt_id,
                documents=sum(mine.values()),
                done=mine.get(DocumentState.DONE, 0),
                review=mine.get(DocumentState.REVIEW, 0),
                dead=mine.get(DocumentState.DEAD, 0),
                percent=round(100 * sum(mine.values()) / total, 1),
            )
        )
    return tuple(made)


def _say_status(shape: PromptStatusShape) -> None:
    say(
        lines_of(
            [
                ("live", _deployed_words(shape.live)),
                ("canary", None if shape.canary is None else _canary_words(shape.canary)),
                ("before", shape.previous),
                ("lock", "in step" if shape.in_step else "; ".join(shape.problems)),
            ]
        )
    )
    if shape.deployments:
        say("")
        say_table(
            [Column(title) for title in ("when", "what", "version", "instead of")],
            [
                (short_time(one.at), _what(one), one.version, one.instead_of)
                for one in shape.deployments
            ],
        )
    rows = [
        (
            batch.batch,
            one.version or one.prompt_id,
            one.documents,
            f"{one.percent} %",
            one.done,
            one.review,
            one.dead,
        )
        for batch in shape.batches
        for one in batch.versions
    ]
    if rows:
        say("")
        counts = ("documents", "share", "done", "review", "dead")
        say_table(
            [Column("batch"), Column("version"), *(Column(one, right=True) for one in counts)],
            rows,
        )


def _what(one: DeploymentShape) -> str:
    return one.what if one.percent is None else f"{one.what} {one.percent} %"


def _canary_words(canary: DeployedShape) -> str:
    return f"{canary.percent} % {_deployed_words(canary)}"


def _deployed_words(found: DeployedShape) -> str:
    evaluation = found.evaluation
    judged = (
        "never evaluated"
        if evaluation is None
        else f"{evaluation.verdict} in {evaluation.run} on {evaluation.evaluated_on}"
    )
    ceiling = "" if found.ceiling_usd is None else f", ceiling {usd(found.ceiling_usd)}"
    return f"{found.version} ({found.prompt_id}), {judged}{ceiling}"
