"""Every rate of quality by day, of each job, prompt and model, and whether it drifts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection

from runner.evals.cusum import DayCount
from runner.evals.drift import Drift, drift_of
from runner.ledger.tallies import TallyFilter, TallyRow, read_tallies
from runner.rates import measures_of, rate_of

HISTORY_DAYS = 60  # what is older is neither usual nor watched any more


@dataclass(frozen=True, slots=True, kw_only=True)
class RateDrift:
    """One rate of one job, prompt and model."""

    job: str
    prompt_id: str
    model: str
    measure: str
    drift: Drift


_Asked = tuple[str, str, str]  # job, prompt id, model


def find_drifts(
    connection: Connection, *, today: date, job: str | None = None
) -> tuple[RateDrift, ...]:
    """Judge every rate of the last days, those that have risen first."""
    since = today - timedelta(days=HISTORY_DAYS - 1)
    wanted = TallyFilter(job=job, since=f"{since}", until=f"{today}", with_spans=False)
    return judge_rates(read_tallies(connection, wanted), today=today)


def judge_rates(rows: Iterable[TallyRow], *, today: date) -> tuple[RateDrift, ...]:
    """The same of tallies that were read; touches nothing."""
    by_asked: defaultdict[_Asked, defaultdict[str, Counter[str]]] = defaultdict(
        lambda: defaultdict(Counter)
    )
    for row in rows:
        if row.key.prompt_id:
            asked = row.job, row.key.prompt_id, row.key.model
            by_asked[asked][row.key.day].update(row.tally.counts)
    found = [one for asked, days in by_asked.items() for one in _of_asked(asked, days, today=today)]
    return tuple(
        sorted(
            found,
            key=lambda one: (not one.drift.has_risen, one.job, one.prompt_id, one.model),
        )
    )


def _of_asked(
    asked: _Asked, days: Mapping[str, Counter[str]], *, today: date
) -> Iterator[RateDrift]:
    job, prompt_id, model = asked
    total: Counter[str] = sum(days.values(), Counter())
    measures = [one for one in measures_of(total) if rate_of(total, one).whole]
    for measure in measures:
        counts = [_day_count(day, counted, measure) for day, counted in days.items()]
        yield RateDrift(
            job=job,
            prompt_id=prompt_id,
            model=model,
            measure=measure,
            drift=drift_of(counts, today=today, rates=len(measures)),
        )


def _day_count(day: str, counts: Mapping[str, int], measure: str) -> DayCount:
    rate = rate_of(counts, measure)
    return DayCount(day=date.fromisoformat(day), documents=rate.whole, counted=rate.part)
