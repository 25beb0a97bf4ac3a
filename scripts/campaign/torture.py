"""`scripts/torture`: rounds of faults over real processes until the time is up, and one table."""

import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import click
from rich.console import Console
from rich.table import Table

from scripts.campaign.faults import KINDS, PROMISES
from scripts.campaign.rounds import Plan, Report, Round

DOCUMENTS = 600  # of a round
WORKERS = 3
VOID_SHARE = 0.9  # of the documents that must have ended for a campaign to count


@dataclass
class Campaign:
    """All rounds so far, added up."""

    reports: list[Report] = field(default_factory=list)

    @property
    def injected(self) -> Counter[str]:
        """Faults by kind."""
        return sum((one.injected for one in self.reports), Counter[str]())

    @property
    def documents(self) -> int:
        """Submitted."""
        return sum(one.plan.documents for one in self.reports)

    def total(self, figure: str) -> int:
        """A figure of the judgements, added up."""
        judged = [one.judgement for one in self.reports if one.judgement is not None]
        return sum(int(getattr(one, figure)) for one in judged)

    @property
    def problems(self) -> list[str]:
        """Every promise that was not kept, or why nothing was proven."""
        found = [
            f"round {one.plan.number}: {problem}"
            for one in self.reports
            for problem in one.problems
        ]
        judged = [one.judgement for one in self.reports if one.judgement is not None]
        ended = sum(sum(one.ended.values()) for one in judged)
        if not self.injected or ended < VOID_SHARE * self.documents:
            found.append("void: too few faults, or too few documents ended")
        return found

    def figures(self) -> dict[str, object]:
        """All of it, for the table and for --json."""
        recovered = [time_s for one in self.reports for time_s in one.recovered_s]
        back = [time_s for one in self.reports for time_s in one.road_back_s]
        return {
            "rounds": len(self.reports),
            "faults": self.injected.total(),
            "documents": self.documents,
            "done": sum(
                one.judgement.ended.get("done", 0)  # type: ignore[call-overload] # a StrEnum's member
                for one in self.reports
                if one.judgement
            ),
            "lost": self.total("lost"),
            "calls": self.total("calls"),
            "in flight at kills": sum(one.in_flight_at_kills for one in self.reports),
            "calls repeated": self.total("repeated"),
            "repeated after a stored answer": self.total("after_stored"),
            "unaccounted, nano-dollars": self.total("unaccounted_nusd"),
            "kills recovered from": len(recovered),
            "recovery from kill -9, median s": _rounded(median(recovered) if recovered else None),
            "recovery from kill -9, p99 s": _rounded(_p99(recovered)),
            "Redis losses recovered from": len(back),
            "back at work after Redis, median s": _rounded(median(back) if back else None),
            "back at work after Redis, p99 s": _rounded(_p99(back)),
            "promises broken": len(self.problems),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _p99(times_s: Sequence[float]) -> float | None:
    if len(times_s) < 2:  # noqa: PLR2004 - a quantile needs two
        return max(times_s, default=None)
    return quantiles(times_s, n=100, method="inclusive")[98]


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Which faults, in which order."
)
@click.option("--minutes", type=click.FloatRange(min=0), default=3.0, show_default=True)
@click.option("--only", type=click.Choice(PROMISES), help="Only faults that test this promise.")
@click.option("--round", "only_round", type=int, help="Only this round of the seed, once.")
@click.option("--documents", type=int, default=DOCUMENTS, show_default=True, help="Of a round.")
@click.option("--homes", type=int, default=2, show_default=True, help="Rounds at the same time.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON on stdout.")
def main(
    *,
    seed: int,
    minutes: float,
    only: str | None,
    only_round: int | None,
    documents: int,
    homes: int,
    as_json: bool,
) -> None:
    """Torment real workers, Redis, provider and disk, and compare three histories at the end.

    Each round submits documents to a new home, injects faults until all of them have ended, retries
    what died, and compares what was submitted, what the provider billed and what the ledger says.
    Exit code 0: every promise was kept. 1: one was broken, or too little happened to prove
    anything; the folder of the round is kept, and the command that repeats it is printed.
    """
    kinds = [kind for kind in KINDS if only in (None, kind.promise)]
    until_s = time.monotonic() + 60 * minutes
    campaign, lock, numbers = Campaign(), threading.Lock(), iter(range(1, 1_000_000))

    def say(line: str) -> None:
        click.echo(line, err=True)

    def run_rounds(_: int) -> None:
        while only_round is not None or time.monotonic() < until_s:
            with lock:
                number = only_round or next(numbers)
            plan = Plan(number=number, seed=seed, documents=documents, workers=WORKERS, kinds=kinds)
            report = run_round(plan, say)
            with lock:
                campaign.reports.append(report)
            if report.problems:
                flags = f" --only {only}" if only else ""
                say(f"to repeat it: scripts/torture --seed {seed} --round {number}{flags}")
            if only_round is not None:
                return

    at_once = 1 if only_round is not None else homes
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run_rounds, range(at_once)))
    show(campaign, as_json=as_json)
    sys.exit(1 if campaign.problems else 0)


def run_round(plan: Plan, say: Callable[[str], None]) -> Report:
    """One round in a folder of its own, which is kept when something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{plan.seed}-{plan.number}-"))
    report = Round(plan, folder, say).run()
    for problem in report.problems:
        say(f"round {plan.number}: BROKEN: {problem}")
    if report.problems:
        say(f"round {plan.number}: its folder is {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        say(
            f"round {plan.number}: all promises kept; {report.injected.total()} faults, "
            f"{plan.documents} documents, {report.seconds:.0f} s"
        )
    return report


def show(campaign: Campaign, *, as_json: bool) -> None:
    """The figures, the faults by kind, and every broken promise."""
    figures = campaign.figures()
    if as_json:
        whole = figures | {"injected": campaign.injected, "problems": campaign.problems}
        click.echo(json.dumps(whole))
        return
    table = Table("", "", show_header=False)
    for name, value in figures.items():
        table.add_row(name, "-" if value is None else f"{value:,}")
    kinds = Table("fault", "tests", "injected")
    for kind in KINDS:
        if campaign.injected[kind.name]:
            kinds.add_row(kind.name, kind.promise, str(campaign.injected[kind.name]))
    console = Console()
    console.print(kinds)
    console.print(table)
    for problem in campaign.problems:
        console.print(f"BROKEN: {problem}", markup=False)


if __name__ == "__main__":
    main()
