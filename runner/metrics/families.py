"""The metrics and their words: what a look at the ledger saw, as Prometheus families.

Every family is there in every answer, with or without a sample, so that a rule or a panel that
names it names something. Labels are names of models, faults, states, batches and lanes; never text
of a document, and never a key.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from runner.laneuse import LaneUse
from runner.ledger.keypauses import KeyPause
from runner.ledger.lanes import LaneRow
from runner.ledger.metering import OpenBatch
from runner.ledger.money import Day
from runner.ledger.standing import QueueStanding
from runner.ledger.workers import WorkerRow
from runner.metrics.tally import BUCKETS_S, Tally, Times

NUSD_PER_USD = 1_000_000_000
LOST_AFTER_S = 10.0
WORKING, DRAINING, LOST = "working", "draining", "lost"

Labels = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One consistent view of the ledger at `at_us`."""

    at_us: int
    queue: QueueStanding
    running_since_us: int | None
    day: Day
    day_limit_nusd: int | None
    held_nusd: int
    batches: Sequence[OpenBatch]
    lanes: Sequence[tuple[LaneRow, LaneUse]]
    key_pauses: Sequence[KeyPause]
    workers_died: int


def families(look: Look, tally: Tally) -> Iterator[Metric]:
    """All of them."""
    yield from _of_queue(look)
    yield from _of_workers(look)
    yield from _of_calls(tally)
    yield from _of_money(look, tally)
    yield from _of_batches(look.batches)
    yield from _of_lanes(look)
    yield from _of_keys(look.key_pauses)


def _gauge(
    name: str, help_: str, labels: Labels = (), samples: Iterable[tuple[Labels, float]] = ()
) -> Metric:
    family = GaugeMetricFamily(f"runner_{name}", help_, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(
    name: str, help_: str, labels: Labels = (), samples: Iterable[tuple[Labels, float]] = ()
) -> Metric:
    family = CounterMetricFamily(f"runner_{name}", help_, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


# ---------------------------------------------------------------- queue and workers


def _of_queue(look: Look) -> Iterator[Metric]:
    queue = look.queue
    yield _gauge(
        "documents",
        "Documents by state.",
        ["state"],
        (([state.value], count) for state, count in queue.states.items()),
    )
    yield _gauge(
        "documents_delayed",
        "Queued documents that wait until they may be tried again.",
        samples=[([], queue.delayed)],
    )
    ages_s = {
        "waiting": queue.oldest_age_s or 0.0,
        "running": _age_s(look.running_since_us, look.at_us),
    }
    yield _gauge(
        "oldest_age_seconds",
        "Since when the oldest document waits (queued or ready) or, running, has waited; 0: none.",
        ["state"],
        (([state], age_s) for state, age_s in ages_s.items()),
    )


def _age_s(since_us: int | None, at_us: int) -> float:
    return 0.0 if since_us is None else max(0, at_us - since_us) / 1e6


def _of_workers(look: Look) -> Iterator[Metric]:
    workers = look.queue.workers
    counts = dict.fromkeys((WORKING, DRAINING, LOST), 0)
    for one in workers:
        counts[_state(one, look.at_us)] += 1
    yield _gauge(
        "workers",
        "Worker processes; lost ones have given no sign of life for 10 s.",
        ["state"],
        (([state], count) for state, count in counts.items()),
    )
    yield _gauge(
        "worker_slots",
        "Documents that all workers take at once.",
        samples=[([], sum(one.slots for one in workers))],
    )
    yield _gauge(
        "in_flight",
        "Documents that workers have in hand.",
        samples=[([], sum(one.in_flight for one in workers))],
    )
    yield _counter(
        "workers_died",
        "Workers that were taken for dead.",
        samples=[([], look.workers_died)],
    )


def _state(one: WorkerRow, at_us: int) -> str:
    if _age_s(one.beat_us, at_us) > LOST_AFTER_S:
        return LOST
    return WORKING if one.state == WORKING else DRAINING


# ---------------------------------------------------------------- calls


def _of_calls(tally: Tally) -> Iterator[Metric]:
    yield _counter(
        "calls",
        "Provider calls that have ended, by outcome: good, or the fault.",
        ["model", "outcome", "simulated"],
        (([model, what, _word(made_up)], n) for (model, what, made_up), n in tally.calls.items()),
    )
    yield _counter(
        "calls_not_sent",
        "Calls that were admitted and surely never left.",
        ["model", "simulated"],
        (([model, _word(made_up)], n) for (model, made_up), n in tally.unsent.items()),
    )
    yield _counter(
        "tokens",
        "Tokens as the provider reported them; cached are part of input, reasoning of output.",
        ["model", "kind", "simulated"],
        (([model, kind, _word(made_up)], n) for (model, kind, made_up), n in tally.tokens.items()),
    )
    family = HistogramMetricFamily(
        "runner_step_seconds",
        "How long each step of a call took: queue_wait, limiter_wait, response, parse, total.",
        labels=["step"],
    )
    for step, times in tally.times.items():
        family.add_metric([step], _buckets(times), times.sum_us / 1e6)
    yield family


def _word(simulated: bool) -> str:  # noqa: FBT001 - a value that becomes a word
    return "true" if simulated else "false"


def _buckets(times: Times) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
    return list(zip(bounds, accumulate(times.counts), strict=True))


# ---------------------------------------------------------------- money


def _of_money(look: Look, tally: Tally) -> Iterator[Metric]:
    kinds = {"settled": tally.settled_nusd, "ambiguous": tally.ambiguous_nusd}
    yield _counter(
        "cost_usd",
        "What calls have cost; ambiguous ones may have, at their worst case.",
        ["model", "kind", "simulated"],
        (
            ([model, kind, _word(made_up)], _usd(nusd))
            for kind, sums in kinds.items()
            for (model, made_up), nusd in sums.items()
        ),
    )
    yield _gauge(
        "held_usd",
        "What calls under way may cost at most.",
        samples=[([], _usd(look.held_nusd))],
    )
    day = look.day
    today = _amounts(day.settled_nusd, day.ambiguous_nusd, day.held_nusd)
    yield _gauge(
        "day_usd",
        "What today (UTC) has cost, made-up money apart.",
        ["kind"],
        (([kind], amount) for kind, amount in today.items()),
    )
    yield _gauge(
        "day_budget_usd",
        "What today may cost; no sample without a limit.",
        samples=_limit([], look.day_limit_nusd),
    )


def _usd(nusd: int) -> float:
    return nusd / NUSD_PER_USD


def _amounts(settled_nusd: int, ambiguous_nusd: int, held_nusd: int) -> Mapping[str, float]:
    return {
        "settled": _usd(settled_nusd),
        "ambiguous": _usd(ambiguous_nusd),
        "held": _usd(held_nusd),
    }


def _limit(values: Labels, limit_nusd: int | None) -> Iterator[tuple[Labels, float]]:
    if limit_nusd is not None:
        yield values, _usd(limit_nusd)


def _of_batches(batches: Sequence[OpenBatch]) -> Iterator[Metric]:
    yield _gauge(
        "batch_documents",
        "Documents of batches that have not ended, by state.",
        ["batch", "job", "state"],
        (
            ([one.name, one.job, state.value], count)
            for one in batches
            for state, count in one.states.items()
        ),
    )
    yield _gauge(
        "batch_paused",
        "Whether an unended batch is paused.",
        ["batch", "job"],
        (([one.name, one.job], one.paused) for one in batches),
    )
    yield _gauge(
        "batch_usd",
        "What an unended batch has cost.",
        ["batch", "job", "kind"],
        (
            ([one.name, one.job, kind], amount)
            for one in batches
            for kind, amount in _amounts(
                one.settled_nusd, one.ambiguous_nusd, one.held_nusd
            ).items()
        ),
    )
    yield _gauge(
        "batch_budget_usd",
        "What an unended batch may cost; no sample without a limit.",
        ["batch", "job"],
        (sample for one in batches for sample in _limit([one.name, one.job], one.limit_nusd)),
    )


# ---------------------------------------------------------------- lanes and keys

_OF_LANE = ("model", "server", "key", "lane")


def _of_lanes(look: Look) -> Iterator[Metric]:
    lanes = [
        ([row.model, row.server, row.key_name or "", row.lane_id], row, use)
        for row, use in look.lanes
    ]
    kinds = {
        "requests": "Requests started within the window",
        "tokens": "Tokens of requests started within the window",
        "calls": "Calls under way",
    }
    for kind, help_ in kinds.items():
        used = [(names, getattr(use, kind)) for names, _, use in lanes]
        limits = [(names, getattr(use, f"{kind}_limit")) for names, _, use in lanes]
        yield _gauge(f"lane_{kind}", f"{help_}, of one model with one key.", _OF_LANE, used)
        yield _gauge(
            f"lane_{kind}_limit",
            f"The limit of runner_lane_{kind} as it stands now; no sample without one.",
            _OF_LANE,
            [(names, limit) for names, limit in limits if limit is not None],
        )
    figures: dict[str, tuple[str, list[float]]] = {
        "waiting": ("Documents that wait for a start.", [use.waiting for _, _, use in lanes]),
        "cut": (
            "The part of the configured limits that is used; below 1 after refusals.",
            [use.cut for _, _, use in lanes],
        ),
        "paused_seconds": (
            "Nothing starts for so long, after a refusal.",
            [use.paused_s for _, _, use in lanes],
        ),
        "breaker_open": (
            "Whether its calls fail again and again; one every 10 s tries.",
            [use.breaker_open for _, _, use in lanes],
        ),
        "seen_seconds": (
            "How old the figures of a lane are.",
            [_age_s(row.updated_us, look.at_us) for _, row, _ in lanes],
        ),
    }
    for name, (help_, values) in figures.items():
        names = [names for names, _, _ in lanes]
        yield _gauge(f"lane_{name}", help_, _OF_LANE, zip(names, values, strict=True))
    yield _counter(
        "lane_refusals",
        "Refusals (429) of a lane since it was first called.",
        _OF_LANE,
        ((names, use.refused) for names, _, use in lanes),
    )


def _of_keys(pauses: Sequence[KeyPause]) -> Iterator[Metric]:
    yield _gauge(
        "key_paused",
        "Keys that a provider refuses: nothing is called with them.",
        ["scope", "name", "fault"],
        (([one.scope, one.name, one.fault], 1) for one in pauses),
    )
