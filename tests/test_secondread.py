"""Second reads: which answers are read again, and what two reads make of a document."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.batches import Request, plan
from runner.errors import JobError
from runner.job import Job, SecondRead
from runner.keys import part_of_hundred
from runner.ledger.calls import view_document
from runner.ledger.secondreads import SecondPin
from runner.model import DocumentState
from runner.pinned import PinnedJobs
from tests.jobfolders import make_job
from tests.test_pipeline import CALL_NUSD, Road, RoadMaker, answer, refusal, road_of

__all__ = ["road_of"]


def second_road(road_of: RoadMaker, *replies: Any, percent: float = 100, **changes: Any) -> Road:
    """A road whose answers are read a second time by the large model alone."""
    job = make_job(road_of._folder / "jobs")
    pinned = PinnedJobs([job.parent]).live("tiny", version=None, models=("large",))
    pin = SecondPin(
        prompt_version=pinned.prompt.version,
        prompt_id=pinned.prompt_id,
        models=pinned.models,
        percent=percent,
        doubtful=changes.pop("doubtful", False),
    )
    return road_of(*replies, second_read=pin, **changes)


def seen(road: Road) -> Any:
    """The first document as a person looks at it."""
    with road.world.ledger.snapshot() as connection:
        return view_document(connection, road.row().id)


async def test_two_reads_that_agree_make_one_record_of_the_first(road_of: RoadMaker) -> None:
    road = second_road(road_of, answer('{"total": 5}'), answer('{ "total" : 5 }'))
    row = await road.turn()
    assert (row.state, row.attempts, row.reason) == (DocumentState.QUEUED, 1, None)
    row = await road.turn()
    assert (row.state, row.attempts, row.cost_nusd) == (DocumentState.DONE, 2, 2 * CALL_NUSD)
    assert [call.model for call in road.provider.calls] == ["small", "large"]
    view, (first, second) = seen(road), road.attempts()
    assert (view.data, view.flags, view.model) == ({"total": 5}, ("read_twice",), "small")
    assert view.prompt_id == first.prompt_id != second.prompt_id
    assert (first.fault, second.fault) == (None, None)
    assert row.first_read_json is None


async def test_two_reads_that_differ_leave_the_first_to_a_person_with_both_values(
    road_of: RoadMaker,
) -> None:
    road = second_road(road_of, answer('{"total": 5}'), answer('{"total": 6}'))
    await road.turns()
    row, view = road.row(), seen(road)
    assert (row.state, row.reason) == (DocumentState.REVIEW, "second_read_differs")
    assert row.message == "total: the first read gave 5, the second 6"
    assert (view.data, view.model) == ({"total": 5}, "small")
    assert road.attempts()[1].fault == "second_read_differs"
    assert len(road.provider.calls) == 2


async def test_a_second_read_that_dies_leaves_the_good_first_one_to_a_person(
    road_of: RoadMaker,
) -> None:
    road = second_road(road_of, answer('{"total": 5}'), refusal(413))
    await road.turns()
    row = road.row()
    assert (row.state, row.reason) == (DocumentState.REVIEW, "second_read_failed")
    assert row.message == "HTTP 413: no"
    assert seen(road).data == {"total": 5}


async def test_a_second_read_has_its_own_re_asks_and_outlives_a_rate_limit(
    road_of: RoadMaker,
) -> None:
    bad = answer('{"total": "many"}')
    road = second_road(
        road_of, bad, bad, answer(), refusal(429, "rate_limit_exceeded"), bad, bad, answer()
    )
    await road.turns()
    models = [call.model for call in road.provider.calls]
    assert models == ["small"] * 3 + ["large"] * 3  # five charged ones are the limit
    assert (road.row().state, road.row().reason) == (DocumentState.REVIEW, "second_read_failed")


@pytest.mark.parametrize(("doubtful", "calls"), [(True, 2), (False, 1)])
async def test_a_repaired_answer_is_doubtful(
    road_of: RoadMaker, *, doubtful: bool, calls: int
) -> None:
    road = second_road(road_of, answer('Sure: {"total": 5}'), percent=0, doubtful=doubtful)
    await road.turns()
    assert len(road.provider.calls) == calls
    assert road.row().state == DocumentState.DONE


async def test_a_sound_answer_is_not_read_again_when_only_doubtful_ones_are(
    road_of: RoadMaker,
) -> None:
    road = second_road(road_of, answer(), percent=0, doubtful=True)
    await road.turns()
    assert len(road.provider.calls) == 1


async def test_the_first_read_stands_in_the_ledger_until_the_second_ends(
    road_of: RoadMaker,
) -> None:
    road = second_road(road_of, answer('{"total": 5}'))
    await road.turn()
    assert json.loads(road.row().first_read_json)["data_json"] == '{"total":5}'
    assert road.row().finished_us is None


def test_the_share_that_is_read_twice_is_stable_and_as_large_as_asked_for() -> None:
    names = [f"d{n}" for n in range(4_000)]
    places = [part_of_hundred(name, salt="second read") for name in names]
    assert places == [part_of_hundred(name, salt="second read") for name in names]
    assert all(0 <= place < 100 for place in places)
    assert 0.08 < sum(place < 10 for place in places) / len(places) < 0.12
    others = [part_of_hundred(name, salt="audit") for name in names]
    both = sum(a < 10 and b < 10 for a, b in zip(places, others, strict=True))
    assert both < 80, "another salt chooses others"


def test_a_second_read_that_asks_the_same_again_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path / "jobs", extra="second_read=SecondRead(models=('small', 'large')),")
    with pytest.raises(JobError, match="would ask exactly as the first does"):
        plan(Request(job="tiny"), PinnedJobs([job.parent]))


def test_a_second_read_is_pinned_with_its_batch(tmp_path: Path) -> None:
    job = make_job(tmp_path / "jobs", extra="second_read=SecondRead(models=('large',), percent=5),")
    jobs = PinnedJobs([job.parent])
    planned, pinned = plan(Request(job="tiny"), jobs)
    assert planned.second_read is not None
    assert planned.second_read.models == ("large",)
    assert planned.second_read.percent == 5
    assert planned.second_read.prompt_id != pinned.prompt_id


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "another `prompt` or other `models`"),
        ({"models": ("a",), "percent": 101}, "must be 0 to 100"),
        ({"models": ("a",), "doubtful": False}, "reads nothing"),
    ],
)
def test_a_second_read_that_could_tell_nothing_is_refused(
    arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(JobError, match=why):
        SecondRead(**arguments)
    assert Job.__dataclass_fields__["second_read"].default is None
