"""Two batches of the same documents compared, and how the command tells it."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pytest

from runner.cli.exits import Exit
from runner.cli.shapes.quality import CompareShape, RevalidationShape
from runner.ledger.workers import WorkerRow
from runner.model import Done
from tests.ledgers import POSTGRES_URL, REVIEW, open_world
from tests.test_cli_ledger import Home, assert_closed

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)


class Place(Home):
    """A home with one worker."""

    @cached_property
    def worker_once(self) -> WorkerRow:
        """The worker that leads."""
        return self.worker()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Place]:
    with open_world(tmp_path) as found:
        home = Place(found.ledger)
        home.home = tmp_path / "home"
        yield home


def fill(world: Place, name: str, records: dict[str, str | None], *, job: str = "ticket") -> None:
    """A batch of these texts; each ends with its record, or in review without one."""
    batch, worker = world.batch(name, job=job), world.worker_once
    for place, (text, data_json) in enumerate(records.items()):
        world.add(batch, text, first_position=place)
        world.turn(worker, REVIEW if data_json is None else Done(data_json))


def test_documents_are_paired_by_text_and_compared_as_the_schema_declares(world: Place) -> None:
    fill(
        world,
        "a",
        {
            "one": '{"customer_name":"Ann Lee","order_number":"W-1"}',
            "two": '{"customer_name":"Bo","order_number":null}',
            "only here": '{"customer_name":"Cy"}',
        },
    )
    fill(
        world,
        "b",
        {
            "two": '{"customer_name":"Bob","order_number":"W-2"}',
            "one": '{"customer_name":"ann  lee","order_number":"w1"}',
        },
    )
    found = world.json("compare", "a", "b")
    assert_closed(CompareShape, found)
    assert (found["both"], found["only_a"], found["only_b"]) == (2, 1, 0)
    assert (found["with_records"], found["same"]) == (2, 1)
    assert found["states"] == [{"state_a": "done", "state_b": "done", "documents": 2}]
    assert found["fields"]["customer_name"] == {"same": 1, "differ": 1, "only_a": 0, "only_b": 0}
    assert found["fields"]["order_number"] == {"same": 1, "differ": 0, "only_a": 0, "only_b": 1}
    (differing,) = found["differing"]
    assert {place["place"] for place in differing["places"]} == {"customer_name", "order_number"}
    told = world.call("compare", "a", "b", "--limit", "0")
    assert "2 documents in both, 1 only in A, 0 only in B" in told.out
    assert "1 document more" in told.err


def test_batches_of_different_jobs_are_compared_as_written(world: Place) -> None:
    fill(world, "a", {"one": '{"customer_name":"Ann Lee"}'})
    fill(world, "b", {"one": '{"customer_name":"ann lee"}'}, job="contract")
    ended = world.call("compare", "a", "b")
    assert ended.code == Exit.DONE
    assert "compared as written" in ended.err
    assert "0 are equal" in ended.out


def test_a_batch_that_is_not_there_is_named(world: Place) -> None:
    fill(world, "a", {"one": "{}"})
    ended = world.call("compare", "a", "bb")
    assert ended.code == Exit.USAGE
    assert "no batch 'bb'" in ended.err


def test_revalidate_tells_what_is_still_not_good(world: Place) -> None:
    fill(world, "a", {"one": "{}", "two": None})
    found = world.json("revalidate", "a")
    assert_closed(RevalidationShape, found)
    assert (found["documents"], found["now_bad"], found["still_bad"]) == (2, 1, 1)
    assert found["applied"] is None
    assert [one["reason"] for one in found["listed"]] == ["not_a_completion"]
    told = world.call("revalidate", "a", "--apply")
    assert "not good any more" in told.out
    assert "1 document written anew" in told.err
    assert world.json("status", "a")["batches"][0]["review"] == 2
