"""A worker that dies at any named point of a turn: nothing is lost, little is paid twice."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import crashpoints
from runner.crashpoints import VARIABLE, InjectedError, Point, arm, reach
from runner.errors import ConfigError
from runner.model import DocumentState
from runner.testing.control import ProviderProcess
from tests.roads import Road, assert_three_histories_agree, wait_until

DOCUMENTS = 12
SLOTS = 4
BUGS_IN_TURNS = (  # two in one worker, as each costs a worker's start and end
    (Point.BEFORE_INTENT, Point.AFTER_ANSWER),
    (Point.AFTER_INTENT, Point.AFTER_RAW_STORED),
    (Point.BEFORE_SEND, Point.AFTER_RECORD),
)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm({})


# ------------------------------------------------------------ the traps


def test_without_the_variable_every_point_is_passed() -> None:
    arm({})
    for point in Point:
        reach(point)


def test_a_trap_acts_at_the_pass_that_was_asked_for_and_at_no_other() -> None:
    arm({VARIABLE: "after_answer:raise:3"})
    for _ in range(2):
        reach(Point.AFTER_ANSWER)
    reach(Point.BEFORE_RECORD)
    with pytest.raises(InjectedError, match="after_answer"):
        reach(Point.AFTER_ANSWER)
    reach(Point.AFTER_ANSWER)


def test_a_star_is_every_point_and_several_traps_stand_beside_each_other() -> None:
    arm({VARIABLE: "*:raise"})
    for point in Point:
        with pytest.raises(InjectedError):
            reach(point)
    arm({VARIABLE: "before_send:raise, before_ack:raise:p1"})
    for point in (Point.BEFORE_SEND, Point.BEFORE_ACK, Point.BEFORE_ACK):
        with pytest.raises(InjectedError):
            reach(point)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("nowhere:kill", "there are before_intent, "),
        ("before_send:explode", "'explode' is none of kill, stop, raise, hang"),
        ("before_send", "'' is none of"),
        ("before_send:kill:0", "'0' is neither"),
        ("before_send:kill:p1.5", "'p1.5' is neither"),
        ("before_send:kill:px", "'px' is neither"),
        ("before_send:kill:once=", "'' is no file in a folder that exists"),
        ("before_send:kill:2:once=/no/such/mark", "'/no/such/mark' is no file in a folder"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_name(asked: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        arm({VARIABLE: asked})
    assert f"{VARIABLE}: {asked}: " in str(refused.value)
    assert said in str(refused.value)


def test_a_trap_with_a_mark_acts_in_the_first_process_only(tmp_path: Path) -> None:
    for mark in (tmp_path / "one", tmp_path / "with:colon"):
        asked = {VARIABLE: f"*:raise:2:once={mark}"}
        arm(asked)
        reach(Point.BEFORE_SEND)
        assert not mark.exists(), "it is made when the trap acts"
        with pytest.raises(InjectedError):
            reach(Point.BEFORE_SEND)
        arm(asked)  # as its successor does
        for point in 2 * list(Point):
            reach(point)


def test_the_table_names_every_point_and_action() -> None:
    described = crashpoints.__doc__ or ""
    for name in [*Point, *crashpoints.Action]:
        assert f"\n    {name} " in described


def test_a_worker_refuses_a_trap_that_does_not_exist(road: Road) -> None:
    road.more_env[VARIABLE] = "nowhere:kill"
    refused = road.call("work", "--until-empty")
    assert refused.returncode == 2
    assert "no point is called 'nowhere'" in refused.stderr


# ------------------------------------------------------------ what outlives a crash


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen workers one after the other, each of which starts anew
def test_workers_killed_at_every_point_lose_nothing_and_stored_answers_are_paid_once(
    road: Road, provider: ProviderProcess
) -> None:
    documents = 6 * len(Point)
    _submit(road, provider, documents=documents)
    for point in Point:
        nth = 1 if point in (Point.AFTER_READY, Point.AFTER_BURY) else 3
        assert _work(road, f"{point}:kill:{nth}") == -signal.SIGKILL, point
    left = road.counts()
    assert left[DocumentState.DONE] < documents, "void: all was done before the last crash"
    assert _work(road) == 0
    _assert_nothing_lost_or_paid_needlessly(road, provider, documents=documents, deaths=len(Point))


@pytest.mark.parametrize("points", BUGS_IN_TURNS)
def test_a_bug_at_a_point_of_a_turn_costs_at_most_this_turn(
    road: Road, provider: ProviderProcess, points: tuple[Point, Point]
) -> None:
    _submit(road, provider)
    road.more_env[VARIABLE] = f"{points[0]}:raise:1,{points[1]}:raise:6"
    worker = road.start("work", "--concurrency", str(SLOTS))
    wait_until(lambda: road.counts()[DocumentState.DONE] >= DOCUMENTS - 2, what="all others")
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=100)
    assert worker.returncode == 0
    for point in points:
        assert f"raise at crash point {point}" in said, "void: it was never reached"
    counts = road.counts()
    assert counts[DocumentState.RUNNING] == counts[DocumentState.DEAD] == 0
    assert road.ask("audit").code == 0


def test_a_worker_that_cannot_write_an_ending_down_ends_and_its_successor_takes_over(
    road: Road, provider: ProviderProcess
) -> None:
    _submit(road, provider)
    assert _work(road, "before_record:raise:p1") == 1
    assert road.counts()[DocumentState.RUNNING] >= 1
    assert _work(road) == 0
    _assert_nothing_lost_or_paid_needlessly(road, provider, documents=DOCUMENTS, deaths=1)


@pytest.mark.slow
def test_a_bug_in_a_duty_ends_this_worker_and_its_successor_loses_and_repeats_nothing(
    road: Road, provider: ProviderProcess
) -> None:
    _submit(road, provider)
    assert _work(road, "after_answer:kill") == -signal.SIGKILL
    for point in (Point.AFTER_BURY, Point.AFTER_READY):
        assert _work(road, f"{point}:raise") == 1, point
    assert road.counts()[DocumentState.DONE] < DOCUMENTS, "void: all was done before the last bug"
    assert _work(road, "before_ack:raise") == 0, "the turn is over: nobody notices"
    _assert_nothing_lost_or_paid_needlessly(road, provider, documents=DOCUMENTS, deaths=1)


@pytest.mark.slow
def test_a_worker_stopped_beyond_its_lease_can_write_nothing_when_it_comes_back(
    road: Road, provider: ProviderProcess
) -> None:
    _submit(road, provider)
    road.more_env[VARIABLE] = "after_answer:stop:3"
    # one at a time: a process that stops within a commit keeps SQLite's lock from everybody
    first = road.start("work", "--concurrency", "1")
    wait_until(lambda: _is_stopped(first.pid), what="the first worker stopped")
    assert _work(road) == 0
    before, calls = road.attempts(), len(provider.book())
    assert road.counts()[DocumentState.DONE] == DOCUMENTS
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: first.pid in road.workers(), what="it is born again")
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=100) == 0
    assert (road.attempts(), len(provider.book())) == (before, calls)
    _assert_nothing_lost_or_paid_needlessly(road, provider, documents=DOCUMENTS, deaths=1)


# ------------------------------------------------------------ steps


def _submit(road: Road, provider: ProviderProcess, *, documents: int = DOCUMENTS) -> None:
    provider.control(latency_ms=50)
    inputs = road.write_documents(documents)
    assert road.ask("submit", "invoice", str(inputs)).code == 0


def _work(road: Road, trap: str = "") -> int:
    """A worker from its start to its end."""
    road.more_env[VARIABLE] = trap
    arguments = ("--concurrency", str(SLOTS), "--until-empty")
    return road.call("work", *arguments).returncode


def _assert_nothing_lost_or_paid_needlessly(
    road: Road, provider: ProviderProcess, *, documents: int, deaths: int
) -> None:
    assert road.counts()[DocumentState.DONE] == documents
    assert_three_histories_agree(road, provider, submitted=documents)
    attempts = {attempt.id: attempt for attempt in road.attempts()}
    paid = Counter(attempts[entry.attempt_id or ""].document_id for entry in provider.book())
    unsure = Counter(one.document_id for one in attempts.values() if one.state == "ambiguous")
    assert sum(unsure.values()) <= deaths * SLOTS, "calls in flight at the crash, and no others"
    for document, calls in paid.items():
        assert calls <= 1 + unsure[document], "an answer that is stored is never paid again"


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - of the kernel
        return stat.read().rpartition(")")[2].split()[0] == "T"
