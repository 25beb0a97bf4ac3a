"""The figures of a running batch: speed, time left, and when a log hears of them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.progress import PLAIN_EVERY_S, PlainBoard, Progress, Speed, words
from runner.cli.wording import duration, iso, several, since_us, usd
from runner.errors import UsageError

NOW_US = 1_800_000_000_000_000


def progress(**changes: object) -> Progress:
    values: dict[str, object] = {"batch": "june", "accepted": 1_000, "ended": 250}
    return Progress(**(values | changes))  # type: ignore[arg-type]  # a table of test values


@given(st.integers(1, 100), st.integers(5, 200))
def test_a_steady_speed_is_what_it_is(per_s: int, seconds: int) -> None:
    speed = Speed()
    for second in range(seconds):
        speed.note(per_s * second, now_s=float(second))
    assert speed.per_s == pytest.approx(per_s)


def test_speed_forgets_what_is_long_ago() -> None:
    speed = Speed()
    for second in range(100):
        speed.note(0 if second < 80 else 10 * (second - 80), now_s=float(second))
    assert speed.per_s == pytest.approx(10)


def test_speed_is_unknown_before_a_second_has_passed() -> None:
    speed = Speed()
    assert speed.per_s is None
    speed.note(0, now_s=0.0)
    speed.note(50, now_s=0.5)
    assert speed.per_s is None


def test_time_left_is_told_only_when_it_can_be_known() -> None:
    assert progress(per_s=10.0).eta_s == 75
    assert progress(per_s=10.0, reading=True).eta_s is None
    assert progress(per_s=None).eta_s is None
    assert progress(per_s=0.0).eta_s is None
    assert progress(per_s=10.0, ended=1_000).eta_s is None


def test_a_line_names_what_there_is_and_nothing_else() -> None:
    assert words(progress()) == ["250/1,000", "0 in flight"]
    told = progress(
        dead=2, review=1, in_flight=9, per_s=5.0, spent_nusd=1_500_000_000, limit_nusd=2 * 10**9
    )
    assert words(told) == [
        *("250/1,000", "2 dead", "1 to review", "9 in flight", "5.0/s", "ETA 2 min 30 s"),
        "1.50 USD of 2.00 USD",
    ]
    assert words(progress(reading=True))[0] == "250/1,000+"


def test_a_log_hears_every_few_seconds_and_only_of_changes() -> None:
    now_s = 0.0
    heard: list[str] = []
    board = PlainBoard(clock_s=lambda: now_s, write=heard.append)
    for ended in (0, 10, 20):
        board.show(progress(ended=ended))
    assert heard == []
    now_s = PLAIN_EVERY_S
    board.show(progress(ended=30))
    board.show(progress(ended=40))
    now_s = 2 * PLAIN_EVERY_S
    board.show(progress(ended=30))
    assert heard == ["june: 30/1,000, 0 in flight"]
    now_s = 3 * PLAIN_EVERY_S
    board.show(progress(ended=30, why="Redis away\x1b[2J"))
    assert heard[1:] == ["june: 30/1,000, 0 in flight; waiting: Redis away"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1.26, "1.3 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
        (3_600, "1 h"),
        (3_700, "1 h 1 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_survives_being_written(ms: int) -> None:
    assert datetime.fromisoformat(iso(ms * 1000)).timestamp() * 1000 == pytest.approx(ms, abs=0.01)


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("3 d", 259_200), ("1W", 604_800)],
)
def test_since_understands_ages(text: str, ago_s: int) -> None:
    assert since_us(text, now_us=NOW_US) == NOW_US - ago_s * 1_000_000


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T08:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T08:00+02:00", datetime(2026, 11, 23, 6, tzinfo=UTC)),
    ],
)
def test_since_understands_dates_in_utc(text: str, at: datetime) -> None:
    assert since_us(text, now_us=NOW_US) == at.timestamp() * 1e6


@pytest.mark.parametrize("text", ["", "yesterday", "-2h", "2 fortnights", "٣h?"])
def test_since_refuses_the_rest_and_gives_examples(text: str) -> None:
    with pytest.raises(UsageError, match="such as 30m, 2h or 3d"):
        since_us(text, now_us=NOW_US)


def test_counts_and_money_are_worded_for_people() -> None:
    assert [several(1, "entry", "entries"), several(2_000, "entry", "entries")] == [
        "1 entry",
        "2,000 entries",
    ]
    assert [usd(Decimal("4.981")), usd(None)] == ["4.98 USD", "unknown"]
