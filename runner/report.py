"""What the runner did over some days: documents, money, tokens, times, errors, and quality.

Made from tallies, so it counts calls that have ended, and is quick however many there were. Days
are those of UTC on which calls were begun; percentiles are within 2 % of the true ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from sqlalchemy import Connection

from runner.drifts import RateDrift, find_drifts
from runner.ledger.promptnames import prompt_versions
from runner.ledger.submission import Batch
from runner.ledger.tallies import (
    FAULT,
    Count,
    Tally,
    TallyFilter,
    TallyRow,
    count_simulated,
    read_tallies,
)
from runner.rates import Rate, ended, measures_of, rate_of
from runner.spans import Step, percentile_us

DAYS = 7
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
NO_CALL = "no call"


class By(StrEnum):
    """What a report is divided by."""

    DAY = "day"
    JOB = "job"
    PROMPT = "prompt"
    MODEL = "model"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be reported: of a batch all its days, else the last ones; days are inclusive."""

    by: By = By.DAY
    batch: Batch | None = None
    job: str | None = None
    since: date | None = None
    until: date | None = None
    today: date

    @property
    def first(self) -> date | None:
        """The first day; None: the batch's first."""
        if self.since is not None or self.batch is not None:
            return self.since
        return (self.until or self.today) - timedelta(days=DAYS - 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """A tally as it is reported."""

    tally: Tally

    def __getitem__(self, name: Count) -> int:
        """One of its counts."""
        return self.tally.counts[name]

    @property
    def documents(self) -> int:
        """Those that ended done, in review or dead."""
        return ended(self.tally.counts)

    @property
    def cost_nusd(self) -> int | None:
        """What its calls cost; None when the price of one is unknown."""
        return None if self[Count.UNKNOWN_COSTS] else self[Count.COST_NUSD]

    @property
    def errors(self) -> dict[str, int]:
        """Calls by fault, the most frequent first."""
        found = {
            name.removeprefix(FAULT): count
            for name, count in self.tally.counts.items()
            if name.startswith(FAULT)
        }
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def rates(self) -> dict[str, Rate]:
        """Every rate of quality."""
        return {one: rate_of(self.tally.counts, one) for one in measures_of(self.tally.counts)}

    def times_us(self, step: Step) -> dict[str, float | None]:
        """The percentiles of a step."""
        spans: Mapping[int, int] = self.tally.spans.get(step, {})
        return {name: percentile_us(spans, share) for name, share in SHARES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One day, job, prompt, model or batch."""

    name: str
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was asked for, and what it came to."""

    asked: Asked
    since: date
    until: date
    total: Figures
    groups: tuple[Group, ...]
    drifts: tuple[RateDrift, ...]  # of the last days of its job or of all; none for a batch
    versions: Mapping[str, str]  # of prompts, by id
    simulated: int  # batches with made-up answers that are left out


def make_report(connection: Connection, asked: Asked) -> Report:
    """Read what is asked for from one snapshot."""
    first, last = asked.first, asked.until or asked.today
    wanted = TallyFilter(
        batch_id=None if asked.batch is None else asked.batch.id,
        job=asked.job,
        since=None if first is None else f"{first}",
        until=f"{last}",
    )
    rows = read_tallies(connection, wanted)
    versions = prompt_versions(connection)
    days = [date.fromisoformat(row.key.day) for row in rows]
    return Report(
        asked=asked,
        since=first or min(days, default=last),
        until=last,
        total=Figures(_sum(rows)),
        groups=tuple(_groups(rows, asked.by, versions)),
        drifts=() if asked.batch else find_drifts(connection, today=last, job=asked.job),
        versions=versions,
        simulated=0 if asked.batch else count_simulated(connection, wanted),
    )


def _sum(rows: Iterable[TallyRow]) -> Tally:
    total = Tally()
    for row in rows:
        total.add(row.tally)
    return total


def _groups(rows: Sequence[TallyRow], by: By, versions: Mapping[str, str]) -> list[Group]:
    """Days in their order, all else by the documents and calls in it."""
    sorted_rows: defaultdict[str, list[TallyRow]] = defaultdict(list)
    for row in rows:
        sorted_rows[_name(row, by, versions)].append(row)
    groups = [Group(name=name, figures=Figures(_sum(some))) for name, some in sorted_rows.items()]
    if by is By.DAY:
        return sorted(groups, key=lambda one: one.name)
    return sorted(
        groups, key=lambda one: (-one.figures.documents, -one.figures[Count.CALLS], one.name)
    )


def _name(row: TallyRow, by: By, versions: Mapping[str, str]) -> str:
    match by:
        case By.DAY:
            return row.key.day
        case By.JOB:
            return row.job
        case By.PROMPT:
            return prompt_name(row.job, row.key.prompt_id, versions)
        case By.MODEL:
            return row.key.model or NO_CALL
        case By.BATCH:
            return row.batch_name


def prompt_name(job: str, prompt_id: str, versions: Mapping[str, str]) -> str:
    """A prompt as a person knows it: job, version, and the beginning of its id."""
    if not prompt_id:
        return f"{job} {NO_CALL}"
    return f"{job} {versions.get(prompt_id, '')} {prompt_id[:9]}".replace("  ", " ")
