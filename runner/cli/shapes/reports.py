"""What `runner report` prints with `--json`."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, in_s, in_usd
from runner.drifts import RateDrift
from runner.evals.drift import Pooled
from runner.ledger.tallies import Count
from runner.rates import Rate
from runner.report import Figures, Group, Report
from runner.spans import Step


class RateShape(Shape):
    """A rate: so many of so many; the share of nothing is null."""

    part: int
    whole: int
    share: float | None

    @classmethod
    def of(cls, found: Rate) -> Self:
        """The rate as it was counted."""
        return cls(part=found.part, whole=found.whole, share=found.share)

    @classmethod
    def of_days(cls, found: Pooled) -> Self:
        """The rate of days together."""
        return cls(part=found.counted, whole=found.documents, share=found.rate)


class TimesShape(Shape):
    """How long a step took, in seconds; null where nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, found: Mapping[str, float | None]) -> Self:
        """Percentiles in microseconds."""
        return cls(**{name: in_s(us if us is None else round(us)) for name, us in found.items()})


class FiguresShape(Shape):
    """What some calls came to, and the documents that ended with them."""

    documents: int  # that ended done, in review or dead
    done: int
    review: int
    dead: int
    cancelled: int
    calls: int
    answers: int  # calls that brought an answer of the model, good or not
    retries: int  # calls that were not their document's first
    reasked: int  # answers that were sent back with their errors
    repaired: int  # records whose answer was mended without a call
    cost_usd: Decimal | None  # settled; null when a call's price is unknown
    ambiguous_usd: Decimal
    input_tokens: int
    cached_tokens: int  # of the input
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int  # of the output
    errors: Mapping[str, int]  # calls by fault
    times_s: Mapping[str, TimesShape]  # by step
    rates: Mapping[str, RateShape]

    @classmethod
    def of(cls, found: Figures) -> Self:
        """Figures as they were counted."""
        counted = {one.value: found[one] for one in Count if one.value in cls.model_fields}
        return cls(
            **counted,
            documents=found.documents,
            cost_usd=in_usd(found.cost_nusd),
            ambiguous_usd=nusd_to_usd(found[Count.AMBIGUOUS_NUSD]),
            errors=found.errors,
            times_s={step.value: TimesShape.of(found.times_us(step)) for step in Step},
            rates={name: RateShape.of(rate) for name, rate in found.rates.items()},
        )


class GroupShape(Shape):
    """One day, job, prompt, model or batch of a report."""

    name: str
    figures: FiguresShape

    @classmethod
    def of(cls, found: Group) -> Self:
        """A group as it was counted."""
        return cls(name=found.name, figures=FiguresShape.of(found.figures))


class DriftShape(Shape):
    """A rate of one job, prompt and model: in its first days, and now."""

    job: str
    prompt: str | None
    prompt_id: str
    model: str
    measure: str
    then: RateShape
    now: RateShape  # since the alarm; without one, of the last days
    watched: bool  # there were enough first days to say what is usual
    alarm_since: str | None  # the day

    @classmethod
    def of(cls, found: RateDrift, versions: Mapping[str, str]) -> Self:
        """A rate as it was judged."""
        since = found.drift.alarm_since
        return cls(
            job=found.job,
            prompt=versions.get(found.prompt_id),
            prompt_id=found.prompt_id,
            model=found.model,
            measure=found.measure,
            then=RateShape.of_days(found.drift.then),
            now=RateShape.of_days(found.drift.now),
            watched=found.drift.is_watched,
            alarm_since=None if since is None else f"{since}",
        )


class ReportShape(Shape):
    """`report`: figures of some days, together and divided, and rates that drift."""

    since: str
    until: str
    by: str
    batch: str | None
    job: str | None
    total: FiguresShape
    groups: tuple[GroupShape, ...]
    drift: tuple[DriftShape, ...]
    simulated_left_out: int  # batches

    @classmethod
    def of(cls, report: Report) -> Self:
        """A report as it was made."""
        asked = report.asked
        return cls(
            since=f"{report.since}",
            until=f"{report.until}",
            by=asked.by.value,
            batch=None if asked.batch is None else asked.batch.name,
            job=asked.job,
            total=FiguresShape.of(report.total),
            groups=tuple(map(GroupShape.of, report.groups)),
            drift=tuple(DriftShape.of(one, report.versions) for one in report.drifts),
            simulated_left_out=report.simulated,
        )
