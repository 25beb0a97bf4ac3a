"""Reports: what calls came to, counted as they end, whatever a report is divided by."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from runner.ledger import Ledger
from runner.ledger.engine import sqlite_url
from runner.ledger.money import DAY_US
from runner.ledger.tallies import (
    NULLS_MAX,
    Count,
    More,
    Tally,
    TallyFilter,
    TallyKey,
    count_in,
    read_tallies,
)
from runner.model import Again, AttemptState, Charge, Done, Failure, Fault, FieldError, Usage
from runner.pages.plots import Plot, Row, lines, stacked
from runner.pages.report import report_page
from runner.rates import Measure
from runner.report import Asked, By, Report, make_report
from runner.spans import ERROR, Step, class_of, percentile_us
from tests.ledgers import COST_NUSD, DEAD, DEFERRED, REVIEW, World, open_world, write_as_before

REASKED = Again(
    delay_s=0.0,
    charge=Charge.ATTEMPT,
    failure=Failure(Fault.SCHEMA_INVALID, "total: missing"),
    ladder_step=0,
    reask=(FieldError("total", "missing"),),
)
DONE_REPAIRED = Done('{"a":1}', ("repaired",))
SPANS: dict[str, Any] = {"response_us": 1_000_000, "parse_us": 2_000, "total_us": 1_200_000}
USAGE = Usage(input_tokens=100, cached_tokens=40, output_tokens=10, reasoning_tokens=3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def today(world: World) -> date:
    return datetime.fromtimestamp(world.now_us / 1e6, UTC).date()


def report(world: World, **asked: Any) -> Report:
    with world.ledger.snapshot() as connection:
        return make_report(connection, Asked(**({"today": today(world)} | asked)))


def names(found: Report) -> list[str]:
    return [group.name for group in found.groups]


# ------------------------------------------------------------ spans


@given(
    st.lists(st.integers(0, 10**11), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99])
)
def test_a_percentile_is_within_two_percent_of_the_true_one(spans: list[int], share: float) -> None:
    found = percentile_us(Counter(map(class_of, spans)), share)
    true = sorted(spans)[math.ceil(share * len(spans)) - 1]
    assert found is not None
    assert found == pytest.approx(true, rel=ERROR + 1e-9, abs=0)
    assert ERROR < 0.02


def test_the_percentile_of_nothing_is_none() -> None:
    assert percentile_us({}, 0.5) is None


# ------------------------------------------------------------ counting


def test_every_call_counts_once_and_every_document_as_it_ended(world: World) -> None:
    batch = world.batch()
    worker = world.worker()
    for outcome in (DONE_REPAIRED, REVIEW, DEAD):
        world.add(batch, f"text {outcome}")
        world.turn(worker, outcome, usage=USAGE, **SPANS)
    world.add(batch, "twice", None)  # and one that cannot be read
    world.turn(worker, REASKED, usage=USAGE, **SPANS)
    world.turn(worker, usage=USAGE, **SPANS)
    found = report(world).total
    assert (found.documents, found[Count.DONE], found[Count.REVIEW], found[Count.DEAD]) == (
        *(5, 2),
        *(1, 2),
    )
    assert (found[Count.CALLS], found[Count.RETRIES], found[Count.REASKED]) == (5, 1, 1)
    assert found[Count.REPAIRED] == 1
    assert found.cost_nusd == 5 * COST_NUSD == world.money(batch)[1]
    assert [found[one] for one in (Count.INPUT_TOKENS, Count.CACHED_TOKENS)] == [500, 200]
    assert [found[one] for one in (Count.OUTPUT_TOKENS, Count.REASONING_TOKENS)] == [50, 15]
    assert found.errors == {"bad_request": 1, "check_failed": 1, "schema_invalid": 1}
    assert found[Count.ANSWERS] == 4, "a bad request brought no answer"
    assert (found.rates[Measure.INVALID].part, found.rates[Measure.INVALID].whole) == (1, 4)
    assert found.rates[Measure.REVIEW].share == pytest.approx(1 / 5)
    assert found.times_us(Step.RESPONSE)["p99"] == pytest.approx(1_000_000, rel=0.02)
    assert found.times_us(Step.QUEUE_WAIT)["p50"] == 0


def test_an_outcome_that_is_written_twice_counts_once(world: World) -> None:
    batch = world.batch()
    world.add(batch, "text")
    worker = world.worker()
    (ticket,) = world.feed(worker)
    end = world.end(world.claim(ticket, worker))
    assert world.finish_all([end, end]) == [True, True]
    assert world.finish_all([end]) == [False]
    assert report(world).total[Count.CALLS] == 1


def test_what_was_never_sent_is_no_call_and_what_may_be_billed_stands_apart(world: World) -> None:
    batch = world.batch()
    world.add(batch, "text")
    worker = world.worker()
    world.turn(worker, DEFERRED, state=AttemptState.NOT_SENT, cost_nusd=0)
    world.turn(worker, REASKED, state=AttemptState.AMBIGUOUS, cost_nusd=None, ambiguous_nusd=1_000)
    world.turn(worker)
    found = report(world).total
    assert (found[Count.CALLS], found[Count.RETRIES]) == (2, 1)
    assert (found.cost_nusd, found[Count.AMBIGUOUS_NUSD]) == (COST_NUSD, 1_000)


def test_a_call_at_an_unknown_price_makes_the_cost_unknown(world: World) -> None:
    batch = world.batch()
    world.add(batch, "a", "b")
    worker = world.worker()
    first, second = (world.claim(ticket, worker, hold_nusd=None) for ticket in world.feed(worker))
    assert world.finish(first, cost_nusd=None)
    assert world.finish(second)
    assert report(world).total.cost_nusd is None


def test_a_call_belongs_to_the_day_it_was_begun_on(world: World) -> None:
    batch = world.batch()
    world.add(batch, "text")
    worker = world.worker()
    (ticket,) = world.feed(worker)
    lease = world.claim(ticket, worker)
    begun = f"{today(world)}"
    world.now_us += DAY_US
    assert world.finish(lease)
    assert names(report(world)) == [begun]
    assert report(world, since=today(world)).total[Count.CALLS] == 0
    assert report(world, batch=batch).since == date.fromisoformat(begun)


def test_the_last_seven_days_are_reported_unless_others_are_asked_for(world: World) -> None:
    worker = world.worker()
    batch = world.batch()
    for number in range(9):
        world.add(batch, f"text {number}")
        world.turn(worker)
        world.now_us += DAY_US
    now = today(world)
    assert len(report(world).groups) == 6, "nothing was called today"
    assert len(report(world, since=date(2000, 1, 1)).groups) == 9
    assert len(report(world, batch=batch).groups) == 9
    found = report(world, since=date(2023, 11, 15), until=date(2023, 11, 16))
    assert names(found) == ["2023-11-15", "2023-11-16"]
    assert (found.since, found.until, now) == (
        date(2023, 11, 15),
        date(2023, 11, 16),
        date(2023, 11, 23),
    )


# ------------------------------------------------------------ dividing


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (By.JOB, ["invoice", "ticket"]),
        (By.BATCH, ["a", "b", "c"]),
        (By.MODEL, ["small", "no call"]),
        (By.PROMPT, ["invoice v1 p1", "ticket v1 p1", "ticket no call"]),
        (By.DAY, ["2023-11-14"]),
    ],
)
def test_the_groups_of_a_report_add_up_to_the_whole(
    world: World, by: By, expected: list[str]
) -> None:
    worker = world.worker()
    for name, job, texts in (
        ("a", "invoice", ["1", "2", "3"]),
        ("b", "ticket", ["1", None]),
        ("c", "invoice", ["9"]),
    ):
        world.add(world.batch(name, job=job), *texts)
        world.turn(worker, **SPANS)
    found = report(world, by=by)
    assert names(found) == expected
    for name in (Count.CALLS, Count.DONE, Count.DEAD, Count.COST_NUSD):
        assert sum(group.figures[name] for group in found.groups) == found.total[name]
    assert report(world, by=by, job="ticket").total.documents == 2


@pytest.mark.parametrize(
    "plan", [{"purpose": "eval"}, {"purpose": "try"}, {"simulated": True}], ids=str
)
def test_what_was_not_meant_seriously_is_left_out_unless_it_is_named(
    world: World, plan: dict[str, Any]
) -> None:
    batch = world.batch("made up", **plan)
    world.add(batch, "text")
    world.turn(world.worker())
    found = report(world)
    assert found.total[Count.CALLS] == 0
    assert found.simulated == bool(plan.get("simulated"))
    assert report(world, batch=batch).total[Count.CALLS] == 1


def test_a_report_reads_no_calls_and_no_documents(world: World) -> None:
    batch = world.batch()
    world.add(batch, "text")
    world.turn(world.worker())
    said: list[str] = []
    with world.ledger.snapshot() as connection:
        event.listen(
            connection, "before_cursor_execute", lambda *told: said.append(told[2].lower())
        )
        make_report(connection, Asked(today=today(world)))
    assert said
    assert not [one for one in said if re.search(r"from (attempt|document|record)\b", one)]


# ------------------------------------------------------------ null fields


def test_null_fields_are_counted_in_a_bounded_sample_of_a_days_records(world: World) -> None:
    batch = world.batch()
    key = TallyKey(day="2026-11-01", batch_id=batch.id, prompt_id="p1", model="small")
    records = ['{"number": "R1", "date": null, "lines": [], "seller": {"vat": null}}'] * 500
    for _ in range(40):
        more = More(Tally(Counter({Count.DONE: len(records)})), list(records))
        with world.ledger.transaction() as connection:
            count_in(connection, {key: more})
    with world.ledger.snapshot() as connection:
        (row,) = read_tallies(connection, TallyFilter())
    counts = row.tally.counts
    assert counts[Count.DONE] == 20_000
    assert counts[Count.SAMPLED] == NULLS_MAX == counts["null:date"] == counts["null:lines"]
    assert "null:number" not in counts
    assert "null:seller" not in counts


# ------------------------------------------------------------ ledgers of before


def test_a_ledger_of_before_is_tallied_as_if_it_had_counted_all_along(tmp_path: Path) -> None:
    world = World(Ledger(sqlite_url(tmp_path / "now.db")))
    worker = world.worker()
    for outcome in (DONE_REPAIRED, REVIEW, DEAD):
        world.add(world.batch(), f"text {outcome}", None if outcome is DEAD else "more")
        world.turn(worker, outcome, usage=USAGE, **SPANS)
    world.add(world.batch(), "twice")
    world.turn(worker, REASKED, usage=USAGE, **SPANS)
    world.turn(worker, DEFERRED, state=AttemptState.NOT_SENT, cost_nusd=0)
    world.turn(worker, usage=USAGE, **SPANS)
    before = report(world).total.tally
    world.ledger.close()
    as_it_was = tmp_path / "then.db"
    write_as_before(tmp_path / "now.db", as_it_was, revision="0004")
    world.ledger = Ledger(sqlite_url(as_it_was))
    after = report(world).total.tally
    unknown = {Count.REASKED, Count.REPAIRED, Count.SAMPLED}
    assert after.spans == before.spans
    assert +after.counts == +Counter(
        {name: count for name, count in before.counts.items() if name not in unknown}
    )
    assert world.problems() == ()
    world.ledger.close()


# ------------------------------------------------------------ the page


def test_a_page_stands_alone_and_its_plots_can_be_heard(world: World) -> None:
    worker = world.worker()
    for number in range(3):
        world.add(world.batch(f"<b>{number}</b>"), f"text {number}")
        world.turn(worker, REVIEW if number else DONE_REPAIRED, **SPANS)
    page = report_page(report(world, by=By.BATCH))
    assert "<b>0" not in page
    assert "&lt;b&gt;0" in page
    assert page.count('role="img"') == page.count("<desc ") == 6
    assert not re.search(r"https?:|<script|url\(|@import", page)
    assert "No call ended in these days." in report_page(report(world, since=date(2030, 1, 1)))


def plot(*rows: Row) -> Plot:
    return Plot(name="p", title="T & U", labels=["a", "b", "c"], rows=rows)


def test_a_line_breaks_where_a_value_is_missing() -> None:
    drawn = lines(plot(Row(name="x", values=[1, None, 3])))
    assert "T &amp; U" in drawn
    (path,) = re.findall(r' d="([^"]+)"', drawn)
    assert [step[0] for step in re.findall(r"[ML][\d. ]+", path)] == ["M", "M"]
    assert "x: 3 at c, at most 3 at c" in drawn


def test_stacked_bars_stand_on_each_other_and_are_as_high_as_their_values() -> None:
    drawn = stacked(plot(Row(name="x", values=[1, 0, 2]), Row(name="y", values=[3, None, 2])))
    bars = [
        (float(y), float(height))
        for y, height in re.findall(r'<rect [^>]* y="([\d.]+)" [^>]* height="([\d.]+)"', drawn)
    ]
    (x_a, x_c, y_a, y_c) = bars
    assert y_a[0] + y_a[1] == pytest.approx(x_a[0], abs=0.11)
    assert y_a[1] == pytest.approx(3 * x_a[1], abs=0.4)
    assert x_c[1] == pytest.approx(y_c[1], abs=0.2)


def test_a_plot_of_nothing_is_drawn_all_the_same() -> None:
    assert "Nothing to show." in stacked(Plot(name="p", title="t", labels=[], rows=[]))
    assert "<svg" in lines(plot(Row(name="x", values=[0, 0, None])))
