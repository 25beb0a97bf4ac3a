"""`runner prompt rollback`: one command back to what was asked before, whatever waits."""

import shlex

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, pass_session
from runner.cli.shapes.prompts import ProducedShape, RolledBackShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several
from runner.deployment import Withdrawal, roll_back, withdrawal
from runner.ledger import Ledger
from runner.ledger.deployments import Repin, Repinned, batches_of, produced, repin
from runner.pinned import PinnedJobs
from runner.promptlock import read_lock


@click.command("rollback", cls=Command, example=("runner prompt rollback invoice",))
@click.argument("job")
@json_option
@pass_session
def rollback(session: Session, /, *, job: str, as_json: bool) -> None:
    """Withdraw JOB's canary, or, where it has none, put back the version that was live before.

    Whatever waits in any batch for the withdrawn version is asked with the live one instead; calls
    in flight finish as what they are. What the withdrawn version has left is listed.
    """
    jobs = PinnedJobs(session.settings.job_folders)
    loaded = jobs.job(job)
    planned = withdrawal(loaded.folder)
    withdrawn = read_lock(loaded.folder).versions[planned.bad]
    done = Repinned(prompt_ids={withdrawn.prompt_id})
    listed: tuple[ProducedShape, ...] = ()
    if session.has_ledger:
        with session.ledger() as ledger:
            # before, so that this can be repeated wherever it is cut off; after, for batches that
            # were begun in between
            _repin(ledger, jobs, job, planned, done)
            roll_back(loaded.folder, planned)
            _repin(ledger, jobs, job, planned, done)
            listed = _list_produced(ledger, jobs, job, planned, done)
    else:
        roll_back(loaded.folder, planned)
    live = jobs.live(job, version=planned.good, models=())
    locked = read_lock(loaded.folder).versions[planned.good]
    shape = RolledBackShape(
        job=job,
        withdrawn=planned.bad,
        live=planned.good,
        was_canary=planned.of_canary,
        in_step=live.prompt_id == locked.prompt_id,
        batches=tuple(dict.fromkeys(done.batches)),
        waiting=done.waiting,
        running=done.running,
        dead=done.dead,
        review=done.review,
        withdrawn_ids=tuple(sorted(done.prompt_ids)),
        produced=listed,
    )
    _tell_rolled_back(shape, as_json=as_json)


def _repin(ledger: Ledger, jobs: PinnedJobs, job: str, planned: Withdrawal, done: Repinned) -> None:
    wish = Repin(
        job=job,
        bad=planned.bad,
        good=planned.good,
        id_of=lambda models: jobs.live(job, version=planned.good, models=models).prompt_id,
    )
    with ledger.transaction() as connection:
        done.merge(repin(connection, wish, now_us=ledger.clock.us()))


def _list_produced(
    ledger: Ledger, jobs: PinnedJobs, job: str, planned: Withdrawal, done: Repinned
) -> tuple[ProducedShape, ...]:
    with ledger.snapshot() as connection:
        batches = batches_of(connection, job)
        ladders = {one.models for one in batches}
        done.prompt_ids |= jobs.prompt_ids(job, version=planned.bad, ladders=ladders)
        return tuple(
            ProducedShape.of(
                one,
                command=f"runner results {shlex.quote(one.batch_name)} "
                f"--out {shlex.quote(one.batch_name + '.jsonl')}",
            )
            for one in produced(connection, batches, done.prompt_ids)
        )


def _tell_rolled_back(shape: RolledBackShape, *, as_json: bool) -> None:
    if as_json:
        say_json(shape)
    else:
        say(
            f"{shape.job}: canary {shape.withdrawn} is withdrawn, {shape.live} stays live"
            if shape.was_canary
            else f"{shape.job} {shape.live} is live again instead of {shape.withdrawn}"
        )
        _say_repinned(shape)
        _say_produced(shape)
    if not shape.in_step:
        talk(
            f"warning: schema, models or repair prompt changed since {shape.live} was locked: it "
            f"asks something else than it did then; `runner prompt status {shape.job}` says more"
        )


def _say_repinned(shape: RolledBackShape) -> None:
    waiting = several(shape.waiting, "waiting document")
    say(f"{waiting} of {several(len(shape.batches), 'batch', 'batches')} pinned to {shape.live}")
    if shape.running:
        talk(f"{several(shape.running, 'call')} in flight with {shape.withdrawn} will finish")
    if shape.dead or shape.review:
        talk(
            f"{several(shape.dead, 'dead letter')} and {several(shape.review, 'review')} of it "
            f"would be tried again with {shape.live}"
        )


def _say_produced(shape: RolledBackShape) -> None:
    if not shape.produced:
        say(f"{shape.withdrawn} has left no record")
        return
    say(f"\n{shape.withdrawn} has left, under prompt {', '.join(shape.withdrawn_ids)}:")
    say_table(
        [
            Column("batch"),
            Column("done", right=True),
            Column("review", right=True),
            Column("shown by"),
        ],
        [(one.batch, one.done, one.review, one.command) for one in shape.produced],
    )
