"""`runner prompt promote`: makes an evaluated version live, or a canary, and keeps why."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from runner import deployment
from runner.budget import nusd_to_usd
from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.prompts import EvidenceShape, PromotedShape
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import usd
from runner.errors import UsageError
from runner.gold import gold_digest, read_gold
from runner.ledger.deployments import Evaluation, evaluations
from runner.pinned import Pinned, PinnedJobs
from runner.promptlock import PERCENT_MAX, Evidence, Lock, changes_of, freeze, read_lock
from runner.registry import LoadedJob


@click.command(
    "promote",
    cls=Command,
    example=("runner prompt promote invoice v2 --canary 10", "runner prompt promote invoice v2"),
)
@click.argument("job")
@click.argument("version")
@click.option(
    "--canary",
    "percent",
    type=click.IntRange(1, PERCENT_MAX),
    metavar="PERCENT",
    help="Ask only this share of each new batch's documents with it, beside the live version.",
)
@json_option
@pass_session
def promote(
    session: Session, /, *, job: str, version: str, percent: int | None, as_json: bool
) -> None:
    """Make VERSION of JOB's prompt the live one, or its canary; batches begun from now on pin it.

    Refused unless the newest evaluation of exactly this prompt (its text, parameters, models and
    schema) on the present gold documents has passed. What it showed, and the ceiling of a
    document's cost that follows from it, are kept in prompts.lock.
    """
    jobs = PinnedJobs(session.settings.job_folders)
    loaded, pinned = jobs.job(job), jobs.live(job, version=version, models=())
    before = read_lock(loaded.folder)
    now = freeze(pinned.prompt, models=pinned.models, schema=pinned.schema)
    if changes := changes_of(before.versions[version], now):
        raise UsageError(
            f"prompt {job}/{version} is locked and its {changes}: undo that, or lock it as a new "
            "version"
        )
    evaluation = _passed(session, loaded, pinned)
    after = deployment.promote(
        loaded.folder,
        version,
        evidence=_evidence(evaluation),
        ceiling_usd=None
        if evaluation.ceiling_nusd is None
        else nusd_to_usd(evaluation.ceiling_nusd),
        percent=percent,
    )
    _tell_promoted(_promoted(job, version, before, after), as_json=as_json)
    if evaluation.against_prompt_id not in (None, before.versions[before.live].prompt_id):
        talk(
            f"it was compared with {evaluation.against_prompt_id}, which is not {before.live}, "
            "the version that was live until now"
        )


def _passed(session: Session, loaded: LoadedJob, pinned: Pinned) -> Evaluation:
    """The evaluation that speaks for a promotion. Raises UsageError when there is none."""
    gold = gold_digest(read_gold(loaded.folder))
    found: Sequence[Evaluation] = ()
    if session.has_ledger:
        with session.ledger() as ledger, ledger.snapshot() as connection:
            found = evaluations(connection, loaded.name, pinned.prompt_id)
    newest = next((one for one in found if one.gold_digest == gold), None)
    if newest is not None and newest.passed:
        return newest
    version = pinned.prompt.version
    if newest is not None:
        why = f"its newest evaluation, {newest.id}, ended {newest.verdict}"
    elif found:
        why = f"it was evaluated on other gold documents than {gold[:15]}… of now"
    else:
        why = f"nothing has evaluated exactly this prompt, {pinned.prompt_id}"
    raise UsageError(
        f"prompt {loaded.name}/{version} may not be promoted: {why}; "
        f"`runner eval {loaded.name} --prompt {version}` evaluates it"
    )


def _evidence(found: Evaluation) -> Evidence:
    return Evidence(
        run=found.id,
        verdict=found.verdict,
        gold_digest=found.gold_digest,
        evaluated_on=datetime.fromtimestamp(found.created_us / 1e6, UTC).date(),
        prompt_id=found.prompt_id,
        models=found.models,
    )


def _promoted(job: str, version: str, before: Lock, after: Lock) -> PromotedShape:
    entry = after.versions[version]
    evaluation = EvidenceShape.of(entry.evaluation)
    assert evaluation is not None, "the promotion has just written it"
    return PromotedShape(
        job=job,
        version=version,
        prompt_id=entry.prompt_id,
        live=after.live,
        canary_percent=None if after.canary is None else after.canary.percent,
        instead_of=None if after.live == before.live else before.live,
        evaluation=evaluation,
        ceiling_usd=entry.ceiling_usd,
    )


def _tell_promoted(shape: PromotedShape, *, as_json: bool) -> None:
    if as_json:
        say_json(shape)
        return
    if shape.canary_percent is not None:
        say(
            f"{shape.job} {shape.version} is the canary: {shape.canary_percent} % of the documents "
            f"of new batches, beside {shape.live}"
        )
    else:
        instead = "" if shape.instead_of is None else f" instead of {shape.instead_of}"
        say(f"{shape.job} {shape.version} is live{instead}")
    if shape.ceiling_usd is not None:
        talk(f"ceiling of a document, where nothing else sets one: {usd(shape.ceiling_usd)}")
    talk(f"batches begun before keep their prompt; `runner prompt rollback {shape.job}` undoes it")
