"""`runner report`: documents, money, tokens, times, errors and quality of some days."""

from datetime import UTC, date, datetime
from pathlib import Path

import click

from runner.cli.commands import Command, json_option
from runner.cli.reported import say_report
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.reports import ReportShape
from runner.cli.terminal import plain, say_json, talk
from runner.cli.wording import since_us
from runner.errors import UsageError
from runner.files import write_text
from runner.ledger import Ledger
from runner.report import Asked, By, make_report


@click.command(
    cls=Command,
    example=(
        "runner report",
        "runner report --since 30d --by model --html report.html",
        "runner report june --by prompt --json",
    ),
)
@click.argument("batch", required=False)
@click.option(
    "--since", help="First day (UTC): 2026-11-01, or an age such as 30d. A week by default."
)
@click.option("--until", help="Last day (UTC), today by default.")
@click.option("--job", help="Of this job alone.")
@click.option(
    "--by",
    type=click.Choice([one.value for one in By]),
    default=By.DAY.value,
    show_default=True,
    help="What to divide it by.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it as a page with plots, one file that stands alone.",
)
@json_option
@pass_session
def report(
    session: Session,
    /,
    *,
    batch: str | None,
    since: str | None,
    until: str | None,
    job: str | None,
    by: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Report documents, cost, tokens, times of each step, errors, quality rates and their drift.

    Without BATCH, of the last seven days. Calls count once they have ended, on the UTC day they
    were begun. Evaluations, tries and simulated batches are left out unless BATCH names one.
    Percentiles are within 2 % of the true ones.
    """
    with session.ledger() as ledger:
        asked = _asked(ledger, batch, since=since, until=until, job=job, by=By(by))
        with ledger.snapshot() as connection:
            made = make_report(connection, asked)
    if html is not None:
        # jinja2 takes 60 ms to load, and only this asks for it
        from runner.pages.report import report_page  # noqa: PLC0415

        write_text(html, report_page(made))
        talk(f"{plain(str(html))} has it with plots")
    if as_json:
        say_json(ReportShape.of(made))
    else:
        say_report(made)


def _asked(
    ledger: Ledger,
    batch: str | None,
    *,
    since: str | None,
    until: str | None,
    job: str | None,
    by: By,
) -> Asked:
    if batch is not None and job is not None:
        raise UsageError("a batch has one job: give BATCH or --job, not both")
    now_us = ledger.clock.us()
    first = None if since is None else _day(since_us(since, now_us=now_us))
    last = None if until is None else _day(since_us(until, now_us=now_us, option="--until"))
    if first is not None and first > (last or _day(now_us)):
        raise UsageError(f"--since {since} is after the last day, {last or 'today'}")
    return Asked(
        by=by,
        batch=None if batch is None else find_batch(ledger, batch),
        job=job,
        since=first,
        until=last,
        today=_day(now_us),
    )


def _day(at_us: int) -> date:
    return datetime.fromtimestamp(at_us / 1e6, UTC).date()
