"""Stored answers through another schema or other checks: what is told, and what is applied."""

import shutil
from collections.abc import Sequence

import pytest

from runner.ledger.audit import audit
from runner.ledger.calls import view_document
from runner.ledger.erasing import erase
from runner.ledger.pruning import prune
from runner.model import DocumentState
from runner.pinned import PinnedJobs
from runner.revalidation import Revalidated, Verdict, apply, revalidate
from tests.test_pipeline import Road, RoadMaker, answer, refusal, road_of

__all__ = ["road_of"]

STRICTER = ("found.total < 0", "found.total < 10")
LAXER = ("if found.total < 0", "if found.total is None")
WIDER = ("total: int", "total: int | str")
NOTED = ("    total: int\n", "    total: int\n    note: str = 'none'\n")


def looked_at(road: Road, *edits: tuple[str, str]) -> list[Revalidated]:
    """The road's documents by the job's code with these edits, as another process would load it."""
    job = road.job
    if edits:
        job = road.job.parent.parent / f"edited-{len(edits)}" / road.job.name
        shutil.copytree(road.job, job, ignore=shutil.ignore_patterns("__pycache__"))
        code = job / "__init__.py"
        text = code.read_text()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        code.write_text(text)
    return list(revalidate(road.world.ledger, road.batch, PinnedJobs([job.parent])))


def verdicts(found: Sequence[Revalidated]) -> list[Verdict]:
    return [one.verdict for one in found]


def balanced(road: Road) -> bool:
    with road.world.ledger.snapshot() as connection:
        return not audit(connection).problems


async def test_what_the_present_code_reads_alike_is_the_same(road_of: RoadMaker) -> None:
    road = road_of(answer('{"total": 5}'))
    await road.turns()
    assert verdicts(looked_at(road)) == [Verdict.SAME]
    assert apply(road.world.ledger, looked_at(road)).total() == 0


async def test_a_check_that_became_stricter_sends_done_documents_to_review(
    road_of: RoadMaker,
) -> None:
    road = road_of(answer('{"total": 5}'))
    await road.turns()
    (found,) = looked_at(road, STRICTER)
    assert (found.verdict, found.state) == (Verdict.NOW_BAD, DocumentState.DONE)
    assert found.failure is not None
    assert found.failure.errors[0].path == "total"
    assert apply(road.world.ledger, [found]) == {Verdict.NOW_BAD: 1}
    assert (road.row().state, road.row().reason) == (DocumentState.REVIEW, "check_failed")
    assert apply(road.world.ledger, [found]).total() == 0, "once, however many ask"
    assert verdicts(looked_at(road)) == [Verdict.NOW_GOOD], "by the old code"
    assert balanced(road)


@pytest.mark.parametrize("text", ['{"total": -1}', '{"total": "many"}'])
async def test_what_was_reviewed_or_dead_is_done_once_the_code_takes_it(
    road_of: RoadMaker, text: str
) -> None:
    road = road_of(answer(text))
    await road.turns()
    before = road.row()
    assert before.state in (DocumentState.REVIEW, DocumentState.DEAD)
    calls = len(road.provider.calls)
    (found,) = looked_at(road, LAXER, WIDER)
    assert found.verdict is Verdict.NOW_GOOD
    apply(road.world.ledger, [found])
    row = road.row()
    assert (row.state, row.reason, row.message) == (DocumentState.DONE, None, None)
    assert (row.cost_nusd, row.calls) == (before.cost_nusd, before.calls)
    assert len(road.provider.calls) == calls
    with road.world.ledger.snapshot() as connection:
        view = view_document(connection, row.id)
    assert view.flags == ("revalidated",)
    assert view.data is not None
    assert balanced(road)


async def test_other_data_of_the_same_answer_is_told_place_by_place(road_of: RoadMaker) -> None:
    road = road_of(answer('{"total": 5}'))
    await road.turns()
    (found,) = looked_at(road, NOTED)
    assert found.verdict is Verdict.CHANGED
    assert [(one.place, one.expected, one.got) for one in found.differing] == [
        ("note", None, "none")
    ]
    apply(road.world.ledger, [found])
    with road.world.ledger.snapshot() as connection:
        assert view_document(connection, road.row().id).data == {"total": 5, "note": "none"}


async def test_a_document_without_an_answer_is_told_as_that(road_of: RoadMaker) -> None:
    road = road_of(refusal(413))
    await road.turns()
    assert verdicts(looked_at(road)) == [Verdict.NO_ANSWER]


@pytest.mark.parametrize("removal", ["erased", "pruned"])
async def test_a_document_that_was_erased_or_pruned_since_it_was_looked_at_is_left_alone(
    road_of: RoadMaker, removal: str
) -> None:
    road = road_of(answer('{"total": 5}'))
    await road.turns()
    (found,) = looked_at(road, STRICTER)
    ids = [road.row().id]
    with road.world.ledger.transaction() as connection:
        if removal == "erased":
            erase(connection, ids, names_too=False, now_us=road.world.tick())
        else:
            prune(connection, ids, now_us=road.world.tick())
    assert apply(road.world.ledger, [found]).total() == 0
    assert verdicts(looked_at(road)) == [Verdict.NO_ANSWER]
    assert balanced(road)
