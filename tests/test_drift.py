"""Drift: a rate that stays gives no alarm, one that rises gives one that is told once."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.alerts import Alerts
from runner.config import AlertSettings, Settings
from runner.drifts import HISTORY_DAYS, find_drifts
from runner.evals.cusum import DayCount
from runner.evals.drift import Drift, drift_of
from runner.ledger.alerts import Alert, take_alerts
from runner.ledger.calls import events
from runner.ledger.money import DAY_US
from runner.ledger.tallies import FAULT, Count, More, Tally, TallyKey, count_in
from runner.monitor import Monitor, too_many_dead, too_old
from tests.ledgers import World, open_world

FIRST = date(2026, 3, 1)


def judged(*counts: tuple[int, int], rates: int = 1, later: int = 0) -> Drift:
    """Days in succession, each by its documents and those counted, seen `later` days after."""
    days = [
        DayCount(day=FIRST + timedelta(days=number), documents=n, counted=k)
        for number, (n, k) in enumerate(counts)
    ]
    return drift_of(days, today=days[-1].day + timedelta(days=later), rates=rates)


USUAL = [(100, 2)] * 7


def test_a_rate_that_stays_as_it_was_gives_no_alarm() -> None:
    found = judged(*USUAL, *[(100, 2), (100, 3), (100, 1)] * 15)
    assert (found.is_watched, found.alarm_since) == (True, None)
    assert (found.then.documents, found.then.counted) == (700, 14)
    assert found.now.documents == 700
    assert found.now.rate == pytest.approx(0.02, abs=0.005)


def test_a_rate_that_rises_gives_an_alarm_since_the_day_the_evidence_was_enough() -> None:
    found = judged(*USUAL, *[(100, 2)] * 5, (100, 8), (100, 9), (100, 8))
    assert found.alarm_since == FIRST + timedelta(days=13)
    assert found.then.rate == 0.02
    assert found.now.rate == pytest.approx(0.085)


def test_one_rise_is_one_alarm_for_as_long_as_it_goes_on_and_a_week_after() -> None:
    rise = [(100, 10)] * 20
    first = judged(*USUAL, *rise[:3]).alarm_since
    assert first == judged(*USUAL, *rise).alarm_since
    assert judged(*USUAL, *rise, *[(100, 1)] * 6).alarm_since == first
    assert judged(*USUAL, *rise, *[(100, 1)] * 8).alarm_since is None
    again = judged(*USUAL, *rise, *[(100, 1)] * 8, *rise[:3]).alarm_since
    assert again is not None
    assert first is not None
    assert again > first + timedelta(days=27)


def test_a_day_without_work_changes_nothing_but_time_ends_an_alarm() -> None:
    assert judged(*USUAL, (100, 30), later=6).has_risen
    assert not judged(*USUAL, (100, 30), later=7).has_risen


@pytest.mark.parametrize("days", [[(1_000, 1)] * 6, [(60, 1)] * 8, [(0, 0)] * 3], ids=str)
def test_without_enough_first_days_nothing_is_said_to_be_usual(days: list[tuple[int, int]]) -> None:
    found = judged(*days)
    assert not found.is_watched
    assert not found.has_risen


def test_the_more_rates_are_watched_together_the_more_evidence_each_needs() -> None:
    days = [*USUAL, (100, 14)]
    assert judged(*days, rates=1).has_risen
    assert not judged(*days, rates=500).has_risen


@pytest.mark.parametrize("rate", [0, 100])
def test_a_rate_of_none_and_of_all_can_be_watched(rate: int) -> None:
    assert not judged(*[(100, rate)] * 30).has_risen


def test_rates_that_stay_alarm_as_rarely_as_is_said() -> None:
    rng = np.random.default_rng(4)
    alarmed = 0
    for _ in range(200):
        counts = [(50, int(k)) for k in rng.binomial(50, 0.02, size=100)]
        looks = range(10, 101, 6)  # an alarm stands for a week
        alarmed += any(judged(*counts[:length], rates=20).has_risen for length in looks)
    assert alarmed <= 200 * 0.04


# ------------------------------------------------------------ of the ledger


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world
        world.sql("DELETE FROM tally")  # they were made up


def fill(
    world: World,
    days: Sequence[dict[str, int]],
    *,
    name: str = "b",
    model: str = "small",
    **plan: Any,
) -> date:
    """A tally for each of these days before now; today's is the last one. The last day."""
    batch = world.batch(name, **plan)
    for back, counts in enumerate(reversed(days)):
        key = TallyKey.at(
            world.now_us - back * DAY_US, batch_id=batch.id, prompt_id="p1", model=model
        )
        with world.ledger.transaction() as connection:
            count_in(connection, {key: More(Tally())})
            for one, number in counts.items():
                more = More(Tally())
                more.tally.counts[one] = number
                count_in(connection, {key: more})
    return datetime.fromtimestamp(world.now_us / 1e6, UTC).date()


def day(*, invalid: int, null: int = 5, dead: int = 0) -> dict[str, int]:
    return {
        Count.CALLS: 100,
        Count.ANSWERS: 100,
        Count.DONE: 100 - dead,
        Count.DEAD: dead,
        Count.SAMPLED: 100,
        FAULT + "schema_invalid": invalid,
        "null:vat": null,
    }


RISE = [day(invalid=2)] * 10 + [day(invalid=25)] * 2


def test_the_rates_of_each_job_prompt_and_model_are_watched_by_themselves(world: World) -> None:
    today = fill(world, RISE)
    fill(world, [day(invalid=2)] * 12, name="c", model="large")
    fill(world, [day(invalid=2)] * 10 + [day(invalid=2, null=60)] * 2, name="d", job="ticket")
    with world.ledger.snapshot() as connection:
        found = find_drifts(connection, today=today)
        (of_ticket,) = [
            one for one in find_drifts(connection, today=today, job="ticket") if one.drift.has_risen
        ]
    risen = [(one.job, one.model, one.measure) for one in found if one.drift.has_risen]
    assert risen == [("invoice", "small", "invalid"), ("ticket", "small", "null:vat")]
    assert [one.drift.has_risen for one in found[:2]] == [True, True], "what has risen comes first"
    assert of_ticket.drift.alarm_since == today - timedelta(days=1)


def test_what_is_older_than_the_history_is_not_usual_any_more(world: World) -> None:
    today = fill(world, [day(invalid=1)] * 20 + [day(invalid=25)] * HISTORY_DAYS)
    with world.ledger.snapshot() as connection:
        assert not [one for one in find_drifts(connection, today=today) if one.drift.has_risen]


@pytest.mark.parametrize("plan", [{"purpose": "eval"}, {"simulated": True}], ids=str)
def test_only_serious_runs_are_watched(world: World, plan: dict[str, Any]) -> None:
    today = fill(world, RISE, **plan)
    with world.ledger.snapshot() as connection:
        assert find_drifts(connection, today=today) == ()


# ------------------------------------------------------------ the monitor


class Clock:
    """A monotonic clock that a test moves."""

    s = 0.0

    def __call__(self) -> float:
        """Seconds since it began."""
        return self.s


def monitor(world: World, *, clock: Clock | None = None, **limits: Any) -> Monitor:
    settings = Settings(home=Path(), alerts=AlertSettings(**limits))
    return Monitor(
        world.ledger,
        settings,
        leads=lambda: True,
        clock_s=lambda: world.now_us / 1e6,
        monotonic=clock or Clock(),
    )


def taken(world: World) -> list[Alert]:
    with world.ledger.transaction() as connection:
        return take_alerts(connection, day_limit_nusd=None, now_us=world.now_us)


async def test_a_rise_is_raised_once_whoever_leads_and_told_with_both_rates(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    today = fill(world, RISE)
    await monitor(world).look()
    await monitor(world).look()  # another worker leads meanwhile
    alerts = Alerts(world.ledger, Settings(home=Path()))
    await alerts.look()
    await alerts.finish()
    said = capsys.readouterr().err
    assert said.count("rose from 2.0 % (of 700) to 25.0 % (of 200)".replace(" %", "%")) == 1
    assert f"since {today - timedelta(days=1)}" in said
    assert taken(world) == []
    with world.ledger.snapshot() as connection:
        assert [row.kind for row in events(connection)] == ["drift"]
    world.now_us += DAY_US
    fill(world, [day(invalid=25)], name="b")
    await monitor(world).look()
    assert taken(world) == [], "the same rise, a day later"


async def test_the_rates_are_looked_at_every_hour_and_the_queue_every_minute(world: World) -> None:
    clock = Clock()
    watching = monitor(world, clock=clock, dead_percent=50)
    await watching.look()
    fill(world, [*RISE[:-1], day(invalid=25, dead=60)])
    await watching.look()
    assert taken(world) == []
    clock.s = 61
    await watching.look()
    assert [one.kind for one in taken(world)] == ["many_dead"]
    clock.s = 3_601
    await watching.look()
    assert sorted(one.kind for one in taken(world)) == ["drift", "drift"], "dead ones rose too"


async def test_a_document_that_waits_too_long_is_told_of_once_a_day(world: World) -> None:
    batch = world.batch()
    world.add(batch, "text")
    held = world.batch("held")
    world.add(held, "text")
    world.sql("UPDATE batch SET state = 'paused' WHERE name = 'held'")
    world.sql("UPDATE document SET queued_us = 1 WHERE batch_id = :id", id=held.id)
    await monitor(world, oldest_age_s=3_600).look()
    assert taken(world) == [], "what a pause holds was told of when it paused"
    world.now_us += 2 * 3_600_000_000
    for _ in range(2):
        await monitor(world, oldest_age_s=3_600).look()
    (alert,) = taken(world)
    assert (alert.kind, alert.scope, alert.spent_nusd) == ("old_document", "queue", None)
    assert "has waited for 2.0 h (alert after 1 h)" in alert.message
    world.now_us += DAY_US
    await monitor(world, oldest_age_s=3_600).look()
    assert len(taken(world)) == 1


def test_what_is_no_trouble_raises_nothing() -> None:
    limits = AlertSettings()
    assert list(too_old(None, limits)) == list(too_old(60.0, limits)) == []
    assert list(too_many_dead([], limits)) == []


async def test_few_dead_letters_of_few_documents_say_nothing(world: World) -> None:
    fill(world, [{Count.DONE: 3, Count.DEAD: 16}])
    await monitor(world).look()
    assert taken(world) == []
    fill(world, [{Count.DONE: 1}])
    await monitor(world).look()
    (alert,) = taken(world)
    assert "16 of 20 documents ended dead today (80.0 %, alert at 10 %)" in alert.message
