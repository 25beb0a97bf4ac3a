"""How a report is told to a person: what was done, how long it took, what went wrong, what drifts.

A group with more of them than `GROUPS_MAX` is cut; `--json` has them all.
"""

from collections.abc import Sequence

from runner.budget import nusd_to_usd
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, talk
from runner.cli.wording import duration, several, usd
from runner.drifts import RateDrift
from runner.evals.drift import Pooled
from runner.ledger.tallies import Count
from runner.rates import Measure
from runner.report import By, Figures, Group, Report, prompt_name
from runner.spans import Step

GROUPS_MAX = 60
DRIFTS_MAX = 30


def say_report(report: Report) -> None:
    """Write a report as tables."""
    say(_title(report))
    if not report.groups:
        talk("no call ended in these days")
    else:
        shown = report.groups[-GROUPS_MAX:] if _by_day(report) else report.groups[:GROUPS_MAX]
        lines = [*shown, *([Group(name="all", figures=report.total)] if len(shown) > 1 else [])]
        _say_done(report, lines)
        _say_quality(report, lines)
        _say_times(report.total)
        _say_errors(report.total)
        if left := len(report.groups) - len(shown):
            talk(f"{left:,} more are not shown: --json has them all")
    if report.asked.batch is None:
        _say_drifts(report)
    if report.simulated:
        talk(
            f"{several(report.simulated, 'simulated batch', 'simulated batches')} left out: "
            "`runner report BATCH` shows one"
        )


def _by_day(report: Report) -> bool:
    return report.asked.by is By.DAY


def _title(report: Report) -> str:
    asked = report.asked
    of = asked.batch.name if asked.batch is not None else asked.job or "all jobs"
    return f"{of}, {report.since} to {report.until} (UTC), by {asked.by}"


def _say_done(report: Report, groups: Sequence[Group]) -> None:
    say("")
    numbers = ("documents", "done", "review", "dead", "calls", "retries", "re-asked", "repaired")
    columns = (
        Column(report.asked.by.value),
        *(Column(name, right=True) for name in (*numbers, "cost", "may be billed")),
        *(Column(name, right=True) for name in ("tokens in", "cached", "out", "reasoning")),
        *(Column(name, right=True) for name in ("p50", "p95", "p99")),
    )
    say_table(columns, [_done_row(one) for one in groups])


def _done_row(one: Group) -> tuple[object, ...]:
    found = one.figures
    cost, unsure = found.cost_nusd, found[Count.AMBIGUOUS_NUSD]
    return (
        one.name,
        found.documents,
        found[Count.DONE],
        found[Count.REVIEW] or None,
        found[Count.DEAD] or None,
        found[Count.CALLS],
        found[Count.RETRIES] or None,
        found[Count.REASKED] or None,
        found[Count.REPAIRED] or None,
        usd(None if cost is None else nusd_to_usd(cost)),
        usd(nusd_to_usd(unsure)) if unsure else None,
        found[Count.INPUT_TOKENS],
        found[Count.CACHED_TOKENS] or None,
        found[Count.OUTPUT_TOKENS],
        found[Count.REASONING_TOKENS] or None,
        *(_time(us) for us in found.times_us(Step.TOTAL).values()),
    )


def _say_quality(report: Report, groups: Sequence[Group]) -> None:
    say("")
    columns = (
        Column(report.asked.by.value),
        *(Column(_words(measure), right=True) for measure in Measure),
    )
    rows = [
        (one.name, *(_share(one.figures.rates[measure].share) for measure in Measure))
        for one in groups
    ]
    say_table(columns, rows)


def _say_times(total: Figures) -> None:
    say("")
    columns = (Column("step"), *(Column(name, right=True) for name in ("p50", "p95", "p99")))
    say_table(
        columns,
        [
            (_words(step), *(_time(us) for us in total.times_us(step).values()))
            for step in Step
            if total.tally.spans.get(step)
        ],
    )


def _say_errors(total: Figures) -> None:
    if not total.errors:
        return
    say("")
    columns = (Column("error"), Column("calls", right=True), Column("of all calls", right=True))
    calls = max(1, total[Count.CALLS])
    say_table(columns, [(name, n, _share(n / calls)) for name, n in total.errors.items()])


def _say_drifts(report: Report) -> None:
    risen = [one for one in report.drifts if one.drift.has_risen]
    watched = sum(one.drift.is_watched for one in report.drifts)
    if not risen:
        if watched:
            talk(f"drift: none of {several(watched, 'rate')} has risen")
        return
    say("")
    columns = (
        Column("drift"),
        Column("prompt"),
        Column("model"),
        *(Column(name, right=True) for name in ("then", "now")),
        Column("alarm since"),
    )
    say_table(columns, [_drift_row(one, report) for one in risen[:DRIFTS_MAX]])
    if (left := len(risen) - DRIFTS_MAX) > 0:
        talk(f"{left:,} more have risen: --json has them all")


def _drift_row(one: RateDrift, report: Report) -> tuple[object, ...]:
    return (
        _words(one.measure),
        prompt_name(one.job, one.prompt_id, report.versions),
        one.model,
        _pooled(one.drift.then),
        _pooled(one.drift.now),
        f"{one.drift.alarm_since}",
    )


def _pooled(found: Pooled) -> str:
    return f"{_share(found.rate)} of {found.documents:,}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("null:", "null: ")


def _share(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _time(us: float | None) -> str | None:
    return None if us is None else duration(us / 1e6)
