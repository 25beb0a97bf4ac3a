"""The calendar in a real server, beside a plain model of it, and its promises one by one."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from runner.config import ModelSettings
from runner.keys import calendar_keys, new_id
from runner.limiter.calendar import (
    CREDIT_MAX_US,
    HORIZON_US,
    JITTER_US,
    PROBE_US,
    SLOTS_PER_WINDOW,
    Calendar,
    Correction,
    Heard,
    Kind,
    Question,
    Reply,
    Report,
)
from runner.servers.valkey import use_valkey
from tests.calendar_model import FULL, CalendarModel, Granted

BIRTH_US = 1_760_000_000_000_000
SECOND_US = 1_000_000


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("calendar")
    with use_valkey(home) as server:
        yield server.url


@dataclass
class Asker:
    """Questions of several processes to one lane, at times of the test's own."""

    url: str
    limits: ModelSettings
    now_us: int = BIRTH_US
    lane: str = field(default_factory=lambda: new_id("n"))
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    seqs: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Connect."""
        self.calendar = Calendar(self.url, ledger_id="test", clock_us=lambda: self.now_us)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self.calendar.close())
        self.runner.close()

    def ask(
        self,
        *tokens: int,
        process: str = "p",
        waiting: int | None = None,
        in_flight: int = 0,
        ahead_us: int = 0,
        oldest_us: int = 0,
        seq: int | None = None,
        told_requests: int | None = None,
        **report: Any,
    ) -> Reply:
        """One question; `report` are fields of a Report."""
        self.seqs[process] = self.seqs.get(process, 0) + 1 if seq is None else seq
        question = Question(
            process=process,
            report=Report(seq=self.seqs[process], **report),
            waiting=len(tokens) if waiting is None else waiting,
            in_flight=in_flight,
            oldest_us=oldest_us,
            ahead_us=ahead_us,
            wishes=tokens,
            told_requests=told_requests,
        )
        return self.runner.run(self.calendar.ask(self.lane, self.limits, question))

    def heard(self, *kinds: Kind, start_us: int | None = None, **asked: Any) -> Reply:
        """A question that reports how calls ended, which had started just now."""
        at_us = self.now_us if start_us is None else start_us
        return self.ask(heard=[Heard(kind, at_us, SECOND_US) for kind in kinds], **asked)

    def starts(self, reply: Reply) -> list[int]:
        """The starts of a reply as times of the calendar."""
        return [reply.now_us + after_us for after_us in reply.starts_us]


def model_of(limits: ModelSettings) -> CalendarModel:
    window_us = round(limits.window_s * 1e6)

    def of_window(per_minute: int | None) -> int | None:
        return None if per_minute is None else max(1, int(per_minute * limits.window_s / 60))

    return CalendarModel(
        window_us=window_us,
        span_us=window_us + JITTER_US,
        slot_us=window_us // SLOTS_PER_WINDOW,
        credit_us=min(CREDIT_MAX_US, window_us // 20),
        horizon_us=HORIZON_US,
        requests=of_window(limits.rpm),
        tokens=of_window(limits.tpm),
        born_us=BIRTH_US,
    )


# -------------------------------------------------------------------- beside the model

Step = tuple[str, int, float]  # what, microseconds later, and a number that says which or how much

steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "settle", "take_back", "move", "refuse"]),
        st.integers(0, 2 * SECOND_US) | st.integers(0, 70 * SECOND_US),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=40,
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rpm=st.none() | st.integers(1, 600),
    tpm=st.none() | st.integers(100, 60_000),
    window_s=st.sampled_from([1.0, 10.0, 60.0]),
    steps=steps,
)
def test_every_start_is_what_the_plain_model_says(
    redis_url: str, rpm: int | None, tpm: int | None, window_s: float, steps: list[Step]
) -> None:
    limits = ModelSettings(rpm=rpm, tpm=tpm, window_s=window_s, max_concurrency=10_000)
    if rpm is None and tpm is None:
        limits = limits.model_copy(update={"rpm": 60})
    model = model_of(limits)
    with Asker(redis_url, limits) as asker:
        asker.ask()
        open_calls: list[Granted] = []
        for place, (what, later_us, number) in enumerate(steps):
            asker.now_us += later_us
            process = f"p{place % 3}"
            if what == "ask":
                _ask_both(asker, model, open_calls, process=process, number=number)
            elif open_calls:
                call = open_calls.pop(int(number * (len(open_calls) - 1)))
                if what == "move":
                    _move_both(
                        asker,
                        model,
                        call,
                        process=process,
                        late_us=int(number * model.window_us / 2),
                    )
                    continue
                _end_both(asker, model, call, what, process=process, number=number)
            model.grow(asker.now_us)
            model.write_down()


def _ask_both(
    asker: Asker, model: CalendarModel, calls: list[Granted], *, process: str, number: float
) -> None:
    most = model.tokens or 1_000
    wishes = [1 + int(most * (number * 7.3 + place / 3) % most) for place in range(3)]
    before_us = model.last_us
    starts = asker.starts(asker.ask(*wishes, process=process))
    model.grow(asker.now_us)
    if asker.now_us < model.paused_us:
        assert starts == [], "nothing is granted inside a pause"
        return
    assert starts or before_us > asker.now_us + model.horizon_us, "the first one is never left out"
    for start_us, tokens in zip(starts, wishes, strict=False):
        assert start_us == model.grant(asker.now_us, tokens)
        assert start_us >= before_us, "starts never go back"
        before_us = start_us
        _assert_window_holds(model, start_us)
        calls.append(model.calls[-1])


def _assert_window_holds(model: CalendarModel, start_us: int) -> None:
    """No window that ends with this start holds more than the limits, or this call is alone."""
    counting = [call for call in model.calls if call.start_us > start_us - model.window_us]
    if sum(call.requests for call in counting) > 1:
        if model.requests is not None:
            assert sum(call.requests for call in counting) <= model.requests
        if model.tokens is not None:
            assert sum(call.tokens for call in counting) <= model.tokens


def _move_both(
    asker: Asker, model: CalendarModel, call: Granted, *, process: str, late_us: int
) -> None:
    """The call begins later than it was to."""
    if call not in model.counting(model.last_us):
        return  # nobody is late by a whole window
    there_us = call.start_us + late_us
    corrections = [
        Correction(call.start_us, -call.requests, -call.tokens),
        Correction(there_us, call.requests, call.tokens),
    ]
    asker.ask(process=process, corrections=corrections)
    model.move(call, there_us)
    model.grow(asker.now_us)
    model.write_down()


def _end_both(
    asker: Asker, model: CalendarModel, call: Granted, what: str, *, process: str, number: float
) -> None:
    requests, tokens = (0, 0)
    if what == "settle":  # at most what was expected: the model's window then stays strict
        tokens = -int(call.tokens * number)
    else:
        requests, tokens = -call.requests, -call.tokens
    correction = Correction(call.start_us, requests, tokens)
    heard = [Heard(Kind.REFUSED, call.start_us, SECOND_US)] if what == "refuse" else []
    model.correct(call, requests=requests, tokens=tokens)
    if what == "refuse":
        model.refuse(call, asker.now_us, SECOND_US)
    asker.ask(process=process, corrections=[correction], heard=heard)
    model.grow(asker.now_us)
    state = asker.runner.run(asker.calendar.read(asker.lane)).state
    assert int(state["factor"]) == model.factor
    assert int(state["last"]) == model.last_us, "a refund moves no start that was given"


# -------------------------------------------------------------------- refusals


def test_refusals_of_one_episode_cut_the_limit_once_and_the_next_episode_again(
    redis_url: str,
) -> None:
    with Asker(redis_url, ModelSettings(rpm=600, window_s=10)) as asker:
        began_us = asker.now_us
        asker.ask()
        asker.now_us += SECOND_US
        asker.heard(Kind.REFUSED, Kind.REFUSED, start_us=began_us)
        first = factor(asker)
        assert first < FULL
        asker.now_us += SECOND_US
        asker.heard(Kind.REFUSED, start_us=began_us + 1)
        assert factor(asker) == first, "it had started before the cut"
        asker.heard(Kind.REFUSED)
        assert factor(asker) < first


def factor(asker: Asker) -> int:
    state = asker.runner.run(asker.calendar.read(asker.lane)).state
    return int(state["factor"])


def test_a_cut_lands_just_below_what_the_provider_let_through(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=600, window_s=10)) as asker:
        starts: list[int] = []
        while len(starts) < 71:
            starts += asker.starts(asker.ask(*[1] * 5))
            asker.now_us += SECOND_US // 10
        refused_us = starts[70]
        asker.now_us = max(asker.now_us, refused_us)
        taken_back = [Correction(start_us, -1, -1) for start_us in starts[70:]]
        asker.heard(Kind.REFUSED, start_us=refused_us, corrections=taken_back)
        assert factor(asker) == pytest.approx(0.985 * 0.7 * FULL, rel=0.001)


def test_limits_grow_back_to_what_was_configured_and_no_further(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=600, window_s=10)) as asker:
        asker.ask()
        asker.heard(Kind.REFUSED)
        assert factor(asker) == FULL // 2
        asker.now_us += 10 * SECOND_US
        asker.ask()
        assert factor(asker) == FULL // 2 + FULL // 200
        asker.now_us += 300 * SECOND_US
        asker.ask()
        assert factor(asker) == FULL


def test_headers_tighten_a_limit_and_never_widen_it(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=600)) as asker:
        assert asker.ask(1, told_requests=6_000).costs_us[0] == pytest.approx(60.1e6 / 600, abs=1)
    with Asker(redis_url, ModelSettings(rpm=600)) as asker:
        assert asker.ask(1, told_requests=60).costs_us[0] == pytest.approx(60.1e6 / 60, abs=1)


def test_a_lane_without_limits_adopts_those_of_its_provider(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings()) as asker:
        assert not asker.ask(1).paced
        assert asker.ask(1, told_requests=60).paced


# -------------------------------------------------------------------- fairness


def test_a_document_as_large_as_the_window_waits_for_it_and_everybody_behind_waits_too(
    redis_url: str,
) -> None:
    with Asker(redis_url, ModelSettings(tpm=6_000, window_s=10)) as asker:
        asker.ask(*[100] * 3)
        asker.now_us += SECOND_US
        (large_us,) = asker.starts(asker.ask(1_000, process="large", waiting=1))
        assert large_us >= asker.now_us + 8 * SECOND_US
        assert asker.ask(*[10] * 9, process="small").starts_us == ()
        asker.now_us = large_us
        behind = asker.starts(asker.ask(10, process="small"))
        assert behind[0] >= large_us


def test_the_calendar_is_shared_by_backlog(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=6_000)) as asker:
        asker.ask(process="idle", waiting=1)
        busy = asker.ask(*[1] * 100, process="busy", waiting=99)
        assert len(busy.starts_us) >= 55  # of the 60 that the horizon has room for
        asker.now_us += SECOND_US
        asker.ask(process="other", waiting=99)
        half = asker.ask(*[1] * 100, process="busy", waiting=99)
        assert 25 <= len(half.starts_us) <= 35


def test_a_report_that_is_sent_twice_counts_once(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=600)) as asker:
        for _ in range(2):
            asker.heard(Kind.FAILED, seq=7, in_flight=1)
        state = asker.runner.run(asker.calendar.read(asker.lane)).state
        assert state["failed"] == "1"


def test_a_clock_that_is_set_back_an_hour_stops_nobody(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=600)) as asker:
        asker.ask(1)
        asker.heard(Kind.REFUSED)
        asker.now_us -= 3_600 * SECOND_US
        reply = asker.ask(1)
        assert reply.starts_us
        assert reply.starts_us[0] < SECOND_US


# -------------------------------------------------------------------- settings that change


@pytest.mark.parametrize(("before_s", "after_s"), [(10, 60), (60, 10)])
def test_a_window_that_was_set_anew_still_counts_what_is_in_it(
    redis_url: str, before_s: int, after_s: int
) -> None:
    with Asker(redis_url, ModelSettings(tpm=6_000, window_s=before_s)) as asker:
        asker.ask()
        asker.now_us += SECOND_US
        asker.ask(100 * before_s)  # a whole window
        asker.now_us += SECOND_US
        asker.limits = ModelSettings(tpm=6_000, window_s=after_s)
        (start_us,) = asker.starts(asker.ask(100 * after_s))
        assert after_s - 2 <= (start_us - asker.now_us) / SECOND_US <= after_s + 1


def test_processes_with_different_windows_do_not_wait_for_ever(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=600)) as asker:
        for place in range(200):
            asker.limits = ModelSettings(rpm=600, window_s=(10, 60, 7)[place % 3])
            reply = asker.ask(1, process=f"p{place % 3}")
            assert all(after_us < SECOND_US for after_us in reply.starts_us)
            asker.now_us += SECOND_US // 5
        slots = asker.runner.run(asker.calendar.read(asker.lane)).slots
        granted = sum(int(packed.split()[0]) for packed in slots.values())
        assert 30 <= granted <= 100, "seven seconds of starts, one in 0.2 s, at least"


def test_a_log_that_was_lost_stops_nobody(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=60)) as asker:
        asker.ask(*[1] * 60)
        server = Redis.from_url(redis_url)
        server.delete(calendar_keys("test", asker.lane)[1])
        server.close()
        for _ in range(100):
            asker.now_us += SECOND_US
            last = asker.ask(1)
        assert last.starts_us[0] < 2 * SECOND_US


# -------------------------------------------------------------------- concurrency


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    calls=st.integers(1, 12),
    moves=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20), st.booleans()), max_size=40),
)
def test_the_fleet_never_has_more_calls_under_way_than_allowed(
    redis_url: str, calls: int, moves: Sequence[tuple[int, int, bool]]
) -> None:
    with Asker(redis_url, ModelSettings(max_concurrency=calls)) as asker:
        in_flight = dict.fromkeys(range(5), 0)
        for process, waiting, some_end in moves:
            asker.now_us += SECOND_US // 10
            if some_end:
                in_flight[process] //= 2
            reply = asker.ask(process=f"p{process}", waiting=waiting, in_flight=in_flight[process])
            assert reply.allowed is not None
            in_flight[process] += max(0, min(waiting, reply.allowed - in_flight[process]))
            assert sum(in_flight.values()) <= calls


def test_a_process_that_got_no_place_gets_the_next_one_that_is_free(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(max_concurrency=1)) as asker:
        assert asker.ask(process="a", waiting=5).allowed == 1
        assert asker.ask(process="b", waiting=5, oldest_us=SECOND_US).allowed == 0
        assert asker.ask(process="a", waiting=4, in_flight=0).allowed == 0
        assert asker.ask(process="b", waiting=5, oldest_us=SECOND_US).allowed == 1


def test_a_process_that_is_gone_leaves_its_places_to_the_others(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(max_concurrency=4)) as asker:
        assert asker.ask(process="gone", waiting=9).allowed == 4
        assert asker.ask(process="here", waiting=9).allowed == 0
        asker.now_us += 6 * SECOND_US
        assert asker.ask(process="here", waiting=9).allowed == 4


# -------------------------------------------------------------------- the breaker


def test_failures_in_succession_open_the_breaker_and_one_probe_every_ten_seconds_goes_through(
    redis_url: str,
) -> None:
    with Asker(redis_url, ModelSettings(rpm=6_000)) as asker:
        reply = asker.heard(*[Kind.FAILED] * 5, waiting=3)
        assert reply.opened
        assert reply.open
        granted = 0
        for _ in range(400):
            asker.now_us += SECOND_US // 10
            granted += len(asker.ask(1, 1, 1).starts_us)
        assert granted == 40 * SECOND_US // PROBE_US


def test_a_busy_fleet_needs_more_failures_to_open_the_breaker(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=6_000)) as asker:
        assert not asker.heard(*[Kind.FAILED] * 19, waiting=100).open
        assert asker.heard(Kind.FAILED, waiting=100).open


def test_a_success_between_failures_keeps_the_breaker_closed(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings(rpm=6_000)) as asker:
        for _ in range(9):
            assert not asker.heard(*[Kind.FAILED] * 4, Kind.OK).open


def test_a_probe_that_succeeds_closes_the_breaker_and_everybody_starts_again(
    redis_url: str,
) -> None:
    with Asker(redis_url, ModelSettings(rpm=6_000)) as asker:
        before_us = asker.now_us
        asker.heard(*[Kind.FAILED] * 5)
        asker.now_us += SECOND_US
        assert asker.heard(Kind.OK, start_us=before_us - 1).open, "it had started before the outage"
        asker.now_us += PROBE_US
        assert len(asker.ask(*[1] * 9).starts_us) == 1
        reply = asker.heard(Kind.OK)
        assert not reply.open
        assert len(asker.ask(*[1] * 9).starts_us) == 9


def test_a_lane_that_found_its_own_concurrency_keeps_it_for_the_fleet(redis_url: str) -> None:
    with Asker(redis_url, ModelSettings()) as asker:
        reply = asker.ask(waiting=9)
        assert reply.allowed == 1
        assert reply.epoch is not None
        assert reply.epoch.knee == ""
        tuned = [
            asker.runner.run(asker.calendar.tune(asker.lane, epoch=0, limit=6, knee=knee))
            for knee in ("first", "second")
        ]
        assert tuned == [True, False]
        reply = asker.ask(waiting=9, process="another")
        assert reply.epoch is not None
        assert (reply.epoch.number, reply.epoch.limit, reply.epoch.knee) == (1, 6, "first")
