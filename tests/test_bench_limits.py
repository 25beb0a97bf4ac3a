"""The figures of the limits benchmark are what the provider's book says, and no more."""

from typing import Any

import pytest

from runner.testing import Entry
from scripts.benchmarks.limit_figures import Figures, Yardstick, figures
from scripts.benchmarks.limits import counted_tokens, mixed_documents, scenario

WINDOW_S = 10.0


def let_in(seq: int, received_s: float, **more: Any) -> Entry:
    return Entry(
        seq=seq,
        received_s=received_s,
        begun_s=received_s,
        finished_s=received_s + 0.5,
        admitted=True,
        **more,
    )


def refused(seq: int, received_s: float) -> Entry:
    return Entry(seq=seq, received_s=received_s, finished_s=received_s, over_limit=True)


def of(entries: list[Entry], by: Yardstick) -> Figures:
    return figures(entries, by, done=len(entries), peak_line=0)


def test_calls_at_exactly_the_limit_use_all_of_it_in_the_ideal_time() -> None:
    entries = [let_in(number, 100 + number / 5) for number in range(101)]
    got = of(entries, Yardstick(rate_per_s=5, window_s=WINDOW_S))
    assert got.use == pytest.approx(1.01)  # 101 calls in the 20 s between the first and the last
    assert got.times_ideal == pytest.approx(20.5 / 20.7)


def test_use_is_of_the_time_to_the_last_arrival_and_counts_tokens_when_they_bind() -> None:
    entries = [
        let_in(1, 0, prompt_tokens=60, completion_tokens=40),
        let_in(2, 10, prompt_tokens=300),
    ]
    got = of(entries, Yardstick(unit="tokens", rate_per_s=80, window_s=WINDOW_S, gap_s=2))
    assert got.use == pytest.approx(400 / (80 * 10))
    assert got.times_ideal == pytest.approx(10.5 / (400 / 80 + 0.5 + 2))


def test_later_use_leaves_out_the_burst_that_fills_the_first_window() -> None:
    burst = [let_in(number, 0) for number in range(50)]
    paced = [let_in(50 + number, 10 + number / 2) for number in range(1, 21)]
    got = of([*burst, *paced], Yardstick(rate_per_s=5, window_s=WINDOW_S))
    assert got.use == pytest.approx(70 / 100)
    assert got.use_later == pytest.approx(20 / 50)
    assert of([*burst, *paced[:19]], Yardstick(rate_per_s=5, window_s=WINDOW_S)).use_later is None


def test_refusals_are_told_apart_by_the_first_window() -> None:
    entries = [let_in(1, 5), refused(2, 15), refused(3, 15.1), let_in(4, 16), let_in(5, 17)]
    got = of(entries, Yardstick(rate_per_s=1, window_s=WINDOW_S))
    assert (got.refused_first, got.refused_after) == (1, 1)
    assert got.refused_after_share == pytest.approx(1 / 3)


def test_places_are_used_by_answers_whoever_waits_in_line_meanwhile() -> None:
    entries = [
        Entry(seq=n, received_s=0, begun_s=n // 2, finished_s=n // 2 + 1, admitted=True)
        for n in range(8)
    ]
    got = of(entries, Yardstick(window_s=WINDOW_S, places=2))
    assert got.use == pytest.approx(1)
    assert got.times_ideal == pytest.approx(4 / 5)


def test_a_run_in_which_nothing_arrived_has_no_use() -> None:
    got = of([], Yardstick(rate_per_s=1, window_s=WINDOW_S))
    assert (got.use, got.use_later, got.times_ideal) == (None, None, None)
    assert got.refused_after_share == 0


def test_several_rounds_are_shown_by_the_median_of_each_figure() -> None:
    by = Yardstick(rate_per_s=1, window_s=WINDOW_S)
    rounds = [of([let_in(1, 0), let_in(2, apart_s)], by) for apart_s in (1, 2, 4)]
    assert Figures.median(rounds).use == pytest.approx(1)
    assert Figures.median(rounds).redis_calls is None


@pytest.mark.parametrize(("name", "share"), [("tpm", 0.03), ("largest", 0.9)])
def test_one_document_needs_a_known_part_of_a_window_and_the_others_are_as_before(
    name: str, share: float
) -> None:
    made = scenario(name, count=40, window_s=WINDOW_S)
    per_window = made.provider["tpm"]
    counts = [sum(needed) for needed in counted_tokens(made.documents)]
    assert 0.7 * share * per_window < max(counts) <= share * per_window
    changed = [one != other for one, other in zip(made.documents, mixed_documents(40), strict=True)]
    assert sum(changed) == 1
    assert made.model["tpm"] == pytest.approx(6 * per_window, rel=1e-6)
