"""The page of a report: figures of some days with plots, errors, quality, and what drifts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from runner.ledger.tallies import Count
from runner.rates import Measure
from runner.report import SHARES, By, Figures, Group, Report, prompt_name
from runner.spans import Step

from . import render_page
from .plots import Plot, Row, lines, stacked

GROUPS_MAX = 120  # a page of more is read by nobody
ERRORS_MAX = 5
DRIFTS_MAX = 200
STEPS = (Step.LIMITER_WAIT, Step.RESPONSE, Step.PARSE)  # beside waits in the queue none is seen
TONES = {"done": 3, "review": 1, "dead": 2}  # as everywhere
NO_TONES: Mapping[str, int] = {}
# the measures that are plotted: of answers, then of documents
PLOTTED = (Measure.INVALID, Measure.REASKED, Measure.NOT_GROUNDED, Measure.REVIEW, Measure.DEAD)


def report_page(report: Report) -> str:
    """A report as HTML that stands alone."""
    of_day = report.asked.by is By.DAY
    groups = report.groups[-GROUPS_MAX:] if of_day else report.groups[:GROUPS_MAX]
    return render_page(
        "report.html",
        report=report,
        groups=groups,
        left_out=len(report.groups) - len(groups),
        plots=_plots(groups),
        steps=list(Step),
        measures=list(Measure),
        counts=Count,
        drifts=report.drifts[:DRIFTS_MAX],
        prompt_name=prompt_name,
    )


def _plots(groups: Sequence[Group]) -> list[Markup]:
    if not groups:
        return []
    ends = {"done": Count.DONE, "review": Count.REVIEW, "dead": Count.DEAD}
    money = {"cost": Count.COST_NUSD, "may be billed": Count.AMBIGUOUS_NUSD}
    of_total = {name: _time(Step.TOTAL, name) for name in SHARES}
    of_steps = {_words(step): _time(step, "p50") for step in STEPS}
    errors = {_words(name): _error(name) for name in _frequent(groups)}
    rates = {_words(one): _rate(one) for one in PLOTTED}
    drawn = _Drawn(groups)
    return [
        stacked(
            drawn.plot(
                "documents",
                "Documents by how they ended",
                {name: _count(one) for name, one in ends.items()},
                tones=TONES,
            )
        ),
        stacked(
            drawn.plot(
                "cost",
                "Cost, and what may have been billed besides (USD)",
                {name: _usd(one) for name, one in money.items()},
                written="{:,.4g}".format,
            )
        ),
        lines(drawn.plot("time", "Time of a call, in all (s)", of_total, written="{:,.3g}".format)),
        lines(
            drawn.plot("steps", "Median time of each step (s)", of_steps, written="{:,.3g}".format)
        ),
        stacked(drawn.plot("errors", "Calls that failed, by the most frequent errors", errors)),
        lines(drawn.plot("quality", "Rates of quality (%)", rates, written="{:,.3g}".format)),
    ]


_Of = Callable[[Figures], float | None]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The groups that every plot of the page is over."""

    groups: Sequence[Group]

    def plot(
        self,
        name: str,
        title: str,
        rows: Mapping[str, _Of],
        *,
        written: Callable[[float], str] = "{:,.0f}".format,
        tones: Mapping[str, int] = NO_TONES,
    ) -> Plot:
        return Plot(
            name=name,
            title=title,
            labels=[one.name for one in self.groups],
            rows=[
                Row(
                    name=row,
                    values=[of(one.figures) for one in self.groups],
                    tone=tones.get(row),
                )
                for row, of in rows.items()
            ],
            written=written,
        )


def _count(name: Count) -> _Of:
    return lambda found: found[name]


def _usd(name: Count) -> _Of:
    return lambda found: found[name] / 1e9


def _time(step: Step, share: str) -> _Of:
    def seconds(found: Figures) -> float | None:
        us = found.times_us(step)[share]
        return None if us is None else us / 1e6

    return seconds


def _error(name: str) -> _Of:
    return lambda found: found.errors.get(name, 0)


def _rate(measure: Measure) -> _Of:
    def percent(found: Figures) -> float | None:
        share = found.rates[measure].share
        return None if share is None else 100 * share

    return percent


def _words(name: str) -> str:
    return name.replace("_", " ")


def _frequent(groups: Sequence[Group]) -> list[str]:
    total: Counter[str] = Counter()
    for one in groups:
        total.update(one.figures.errors)
    return [name for name, _ in total.most_common(ERRORS_MAX)]
