"""`runner review estimate`: how many records are wrong, as far as the reviews can tell."""

import shlex

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.review import EstimateShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several
from runner.errorrates import REVIEWS_MIN, ErrorRate, StratumRate, error_rates
from runner.errors import NotFoundError, UsageError
from runner.evals.statistics import Interval
from runner.ledger import Ledger
from runner.ledger.strata import Scope, count_strata

batch_argument = click.argument("batch", required=False)
job_option = click.option(
    "--job", help="All batches of this job, simulated ones and evaluations aside."
)


def scope_of(ledger: Ledger, batch: str | None, job: str | None) -> tuple[Scope, str]:
    """What is meant, and how a person calls it.

    Raises UsageError unless either is given, NotFoundError when there is no such batch.
    """
    if (batch is None) == (job is None):
        raise UsageError("name a batch, or with --job NAME all batches of a job")
    if batch is None:
        return Scope(job=job), f"job {job}"
    found = find_batch(ledger, batch)
    return Scope(batch_id=found.id), found.name


@click.command(
    "estimate",
    cls=Command,
    example=("runner review estimate june", "runner review estimate --job invoice"),
)
@batch_argument
@job_option
@json_option
@pass_session
def estimate(session: Session, /, *, batch: str | None, job: str | None, as_json: bool) -> None:
    """Tell from the reviews how many records are wrong, with an interval of 95 %.

    A record is wrong when a person corrected or rejected it. Flagged records and the others are
    counted apart, and together by how many there are of each: the whole looks no worse because
    flagged ones are reviewed more often. Nothing is told from too few reviews.
    """
    with session.ledger() as ledger:
        scope, name = scope_of(ledger, batch, job)
        with ledger.snapshot() as connection:
            batches = count_strata(connection, scope)
    if not batches:
        raise NotFoundError(f"{name} has no batch that was run in earnest; `runner batch list`")
    found = error_rates(batches)
    if as_json:
        say_json(EstimateShape.of(found, batch=None if batch is None else name, job=job))
    else:
        _say_estimate(found, name, where=f" {shlex.quote(name)}" if job is None else "")


def _say_estimate(found: ErrorRate, name: str, *, where: str) -> None:
    if not found.records:
        talk(f"{name} has no records yet")
        return
    columns = (
        *(Column("records"), Column("how many", right=True), Column("reviewed", right=True)),
        *(Column("wrong", right=True), Column("error rate"), Column("95 % interval")),
    )
    rows = [("flagged", found.flagged), ("not flagged", found.sampled)]
    say_table(
        columns,
        [
            (kind, one.records, one.reviewed, one.wrong, *_figures(one.rate))
            for kind, one in rows
            if one.records
        ],
    )
    say("")
    for sentence in _sentences(found, where):
        say(sentence)
    if found.left_out:
        talk(f"left out, because nothing of them was drawn: {', '.join(found.left_out)}")


def _figures(rate: Interval | None) -> tuple[str, str]:
    if rate is None or rate.estimate is None:
        return "", ""
    return f"{percent(rate.estimate)} %", f"{percent(rate.low)} to {percent(rate.high)} %"


def percent(share: float) -> str:
    """A share of 1 in per cent, with as many digits as say something."""
    value = 100 * share
    if 0 < value < 0.01:  # noqa: PLR2004 - what two decimals can say
        return "less than 0.01"
    digits = 0 if value in (0, 100) or value >= 10 else 1 if value >= 1 else 2  # noqa: PLR2004
    return f"{value:.{digits}f}"


def _sentences(found: ErrorRate, where: str) -> list[str]:
    """What the figures mean; and where they mean nothing yet, what is missing."""
    told = []
    if found.sampled.records:
        told.append(_of_sampled(found, where))
    if found.flagged.missing:
        told.append(
            f"no estimate of the flagged ones: {_so_far(found.flagged)} are reviewed; "
            f"`runner review list{where}` shows what waits"
        )
    if found.overall is not None and found.flagged.records and found.sampled.records:
        told.append(
            f"Of all {several(found.records, 'record')}, as they were before anybody looked, "
            f"{_range(found.overall)}."
        )
    return told


def _of_sampled(found: ErrorRate, where: str) -> str:
    one = found.sampled
    if one.rate is None:
        advice = (
            f"`runner review list{where} --sampled` shows {found.waiting:,} that wait"
            if found.waiting
            else f"`runner review sample{where or ' BATCH'} --percent P` draws some for an audit"
        )
        return f"no estimate of those that were not flagged: {_so_far(one)} are audited; {advice}"
    if one.reviewed == one.records:
        return (
            f"All {several(one.records, 'record')} that were not flagged were audited: "
            f"{one.wrong:,} had something wrong."
        )
    return (
        f"Of the {several(one.records, 'record')} that were not flagged, {_range(one.rate)}: "
        f"{one.wrong:,} of {one.reviewed:,} drawn at random had."
    )


def _so_far(one: StratumRate) -> str:
    return f"{one.reviewed:,} of at least {min(REVIEWS_MIN, one.records):,}"


def _range(rate: Interval) -> str:
    assert rate.estimate is not None, "an estimate is given where something was reviewed"
    if rate.low == rate.high:
        return f"{percent(rate.estimate)} % have something wrong"
    return (
        f"about {percent(rate.estimate)} % have something wrong, and with a certainty of 95 % "
        f"between {percent(rate.low)} % and {percent(rate.high)} %"
    )
