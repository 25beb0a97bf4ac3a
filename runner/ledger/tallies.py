"""Tallies: what the calls of a day came to, by batch, prompt and model, kept while they end.

A tally is written in the transaction that writes the outcomes, so it is never behind, and the audit
holds it against the attempts. Reports read tallies: however many calls there were, a day of a batch
is one row for each prompt and model.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, literal, select, update

from runner.ledger.dialect import insert_new
from runner.ledger.money import DAY, DAY_US, day_scope
from runner.ledger.tables import batch, tally
from runner.model import Fault, Purpose
from runner.spans import Step, class_of

# Of a day's records so many are looked at for fields that are null: the first ones, and then every
# twentieth, so that the rest of the day is seen too.
NULLS_OF_FIRST = 200
NULLS_OF_EVERY = 20
NULLS_MAX = 1_000

FAULT = "fault:"
NULL = "null:"

# what is wrong with an answer that a model gave
FAULTS_OF_ANSWERS = frozenset(
    {
        Fault.TRUNCATED,
        Fault.REFUSED,
        Fault.FILTERED,
        Fault.INVALID_JSON,
        Fault.SCHEMA_INVALID,
        Fault.NOT_GROUNDED,
        Fault.CHECK_FAILED,
        Fault.SECOND_READ_DIFFERS,
    }
)


class Count(StrEnum):
    """What a tally counts, beside faults (`fault:NAME`) and null fields (`null:NAME`)."""

    CALLS = "calls"  # that were, or may have been, sent
    ANSWERS = "answers"  # of them, those that brought an answer of the model, good or not
    RETRIES = "retries"  # of them, those that were not their document's first
    REASKED = "reasked"  # answers that were sent back with their errors
    REPAIRED = "repaired"  # records whose answer was mended without a call
    DONE = "done"
    REVIEW = "review"
    DEAD = "dead"
    CANCELLED = "cancelled"
    COST_NUSD = "cost_nusd"
    AMBIGUOUS_NUSD = "ambiguous_nusd"
    UNKNOWN_COSTS = "unknown_costs"
    INPUT_TOKENS = "input_tokens"
    CACHED_TOKENS = "cached_tokens"
    CACHE_WRITE_TOKENS = "cache_write_tokens"
    OUTPUT_TOKENS = "output_tokens"
    REASONING_TOKENS = "reasoning_tokens"
    SAMPLED = "sampled"  # records looked at for null fields


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyKey:
    """Whose calls: those of a UTC day, in one batch, with one prompt, to one model."""

    day: str
    batch_id: str
    prompt_id: str
    model: str

    @classmethod
    def at(cls, at_us: int, *, batch_id: str, prompt_id: str, model: str) -> "TallyKey":
        """The key of what happens at this time."""
        return cls(day=_day(at_us // DAY_US), batch_id=batch_id, prompt_id=prompt_id, model=model)


@lru_cache(maxsize=8)
def _day(number: int) -> str:
    return day_scope(number * DAY_US).removeprefix(DAY)


@dataclass(slots=True)
class Tally:
    """Counts by name, and by step how many spans there are of each class."""

    counts: Counter[str] = field(default_factory=Counter)
    spans: dict[Step, Counter[int]] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Count in what another one counted."""
        self.counts.update(other.counts)
        for step, classes in other.spans.items():
            self.spans.setdefault(step, Counter()).update(classes)

    def add_span(self, step: Step, span_us: int | None) -> None:
        """Count a span, where there is one."""
        if span_us is not None:
            self.spans.setdefault(step, Counter())[class_of(span_us)] += 1

    def look_at_nulls(self, data_json: str | None) -> None:
        """Count a record that was just counted as done, and its null fields if it is looked at."""
        number, sampled = self.counts[Count.DONE], self.counts[Count.SAMPLED]
        wanted = number <= NULLS_OF_FIRST or number % NULLS_OF_EVERY == 0
        if data_json is None or sampled >= NULLS_MAX or not wanted:
            return
        data = json.loads(data_json)
        self.counts[Count.SAMPLED] += 1
        if isinstance(data, dict):
            for name, value in data.items():
                self.counts[NULL + name] += value in (None, "", [], {})


@dataclass(slots=True)
class More:
    """What is to be counted in one tally: sums and spans, and the records among it."""

    tally: Tally = field(default_factory=Tally)
    records: list[str | None] = field(default_factory=list)


def count_in(connection: Connection, more: Mapping[TallyKey, More]) -> None:
    """Add to the tallies of these keys."""
    # in one order everywhere: two transactions never wait crosswise
    for key in sorted(more, key=lambda key: (key.day, key.batch_id, key.prompt_id, key.model)):
        found = _locked(connection, key)
        _grow(found, more[key])
        connection.execute(_WRITE, _parameters(key) | _written(found))


def _locked(connection: Connection, key: TallyKey) -> Tally:
    """The tally of a key, begun when new, and nobody else's until this transaction ends."""
    row = connection.execute(_ROW, _parameters(key)).one_or_none()
    if row is None:
        insert_new(connection, tally, [asdict(key) | {"counts_json": "{}", "spans_json": "{}"}])
        row = connection.execute(_ROW, _parameters(key)).one()
    return _read(row)


def _grow(found: Tally, more: More) -> None:
    before = found.counts[Count.DONE]
    found.add(more.tally)
    after = found.counts[Count.DONE]
    for number, data_json in enumerate(more.records, start=before + 1):
        found.counts[Count.DONE] = number
        found.look_at_nulls(data_json)
    found.counts[Count.DONE] = after


_HERE = (
    tally.c.day == bindparam("of_day"),
    tally.c.batch_id == bindparam("of_batch"),
    tally.c.prompt_id == bindparam("of_prompt"),
    tally.c.model == bindparam("of_model"),
)
_ROW = select(tally.c.counts_json, tally.c.spans_json).where(*_HERE).with_for_update()
_WRITE = (
    update(tally)
    .where(*_HERE)
    .values(counts_json=bindparam("counts"), spans_json=bindparam("spans"))
)


def _parameters(key: TallyKey) -> dict[str, str]:
    return {
        "of_day": key.day,
        "of_batch": key.batch_id,
        "of_prompt": key.prompt_id,
        "of_model": key.model,
    }


def _written(found: Tally) -> dict[str, str]:
    counts = {name: count for name, count in found.counts.items() if count}
    return {
        "counts": json.dumps(counts, separators=(",", ":")),
        "spans": json.dumps(found.spans, separators=(",", ":")),
    }


def _read(row: Any) -> Tally:
    return Tally(
        counts=Counter(json.loads(row.counts_json)),
        spans={
            Step(step): Counter({int(place): count for place, count in classes.items()})
            for step, classes in json.loads(row.spans_json).items()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyFilter:
    """Which tallies are meant; without a batch those of runs that were meant seriously.

    Those are neither simulated nor made by an evaluation or a try. Days are inclusive.
    """

    batch_id: str | None = None
    job: str | None = None
    since: str | None = None
    until: str | None = None
    with_spans: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyRow:
    """One tally with what its batch tells."""

    key: TallyKey
    batch_name: str
    job: str
    tally: Tally


def read_tallies(connection: Connection, wanted: TallyFilter) -> list[TallyRow]:
    """The tallies that are meant, by day."""
    rows = connection.execute(_wanted(wanted).order_by(*tally.primary_key.columns))
    return [
        TallyRow(
            key=TallyKey(
                day=row.day, batch_id=row.batch_id, prompt_id=row.prompt_id, model=row.model
            ),
            batch_name=row.name,
            job=row.job,
            tally=_read(row),
        )
        for row in rows
    ]


def _wanted(wanted: TallyFilter) -> Select[Any]:
    spans = tally.c.spans_json if wanted.with_spans else literal("{}").label("spans_json")
    query = select(
        *tally.primary_key.columns, tally.c.counts_json, spans, batch.c.name, batch.c.job
    ).join(batch, batch.c.id == tally.c.batch_id)
    if wanted.batch_id is not None:
        query = query.where(tally.c.batch_id == wanted.batch_id)
    else:
        query = query.where(batch.c.purpose == Purpose.RUN, batch.c.simulated.is_(False))
    return _within(query, wanted)


def _within(query: Select[Any], wanted: TallyFilter) -> Select[Any]:
    """Of the job and the days that are meant."""
    if wanted.job is not None:
        query = query.where(batch.c.job == wanted.job)
    if wanted.since is not None:
        query = query.where(tally.c.day >= wanted.since)
    if wanted.until is not None:
        query = query.where(tally.c.day <= wanted.until)
    return query


def count_simulated(connection: Connection, wanted: TallyFilter) -> int:
    """How many runs with made-up answers these tallies leave out."""
    query = select(func.count(tally.c.batch_id.distinct())).join(batch)
    meant = _within(query, wanted).where(batch.c.purpose == Purpose.RUN, batch.c.simulated)
    return int(connection.execute(meant).scalar_one())
