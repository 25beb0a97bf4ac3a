"""Submission: idempotent, duplicates as sources, pins that hold, unparsable inputs dead at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from runner.batches import CHUNK, submit
from runner.errors import UsageError
from runner.ledger.calls import source_names
from runner.ledger.control import cancel_batch
from runner.ledger.standing import batch_standing
from runner.ledger.submission import (
    add_documents,
    document_count,
    find_batch,
    finish_submission,
    name_documents,
    open_batch,
)
from runner.ledger.tables import source
from runner.model import DocumentState, SourceText
from tests.ledgers import World, open_world, plan_of, texts_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def sources(world: World) -> list[tuple[str, str]]:
    with world.ledger.snapshot() as connection:
        rows = connection.execute(select(source.c.name, source.c.document_id).order_by(source.c.id))
        return [(row.name, row.document_id) for row in rows]


def test_adding_the_same_inputs_again_changes_nothing(world: World) -> None:
    batch = world.batch()
    world.add(batch, "one", "two")
    before = world.rows(batch), sources(world)
    added = world.submit(batch, texts_of("one", "two"), first_position=2)
    assert (added.accepted, added.duplicate) == (0, 2)
    assert (world.rows(batch), sources(world)) == before


def test_two_inputs_of_one_content_are_two_sources_of_one_document(world: World) -> None:
    batch = world.batch()
    texts = [SourceText("a.txt", b"same", "same"), SourceText("b.txt", b"same", "same")]
    added = world.submit(batch, texts)
    with world.ledger.snapshot() as connection:
        standing = batch_standing(connection, batch)
    assert (added.accepted, added.duplicate) == (1, 1)
    assert (standing.accepted, standing.duplicate) == (1, 1)
    names, ids = zip(*sources(world), strict=True)
    assert names == ("a.txt", "b.txt")
    assert len(set(ids)) == 1


def test_a_source_that_comes_later_is_found_by_its_document(world: World) -> None:
    batch = world.batch()
    world.add(batch, "first", "one")
    later = [SourceText("again", b"one", "one"), SourceText("new", b"two", "two")]
    world.submit(batch, later, first_position=2)
    document_id = dict(sources(world))["again"]
    with world.ledger.snapshot() as connection:
        assert source_names(connection, document_id) == ("one", "again")


def test_two_inputs_of_one_name_are_two_documents(world: World) -> None:
    batch = world.batch()
    texts = [SourceText("row", b"old", "old"), SourceText("row", b"new", "new")]
    world.submit(batch, texts)
    assert [name for name, _ in sources(world)] == ["row", "row"]
    assert len({id_ for _, id_ in sources(world)}) == 2


def test_the_same_content_in_two_batches_is_two_documents(world: World) -> None:
    one, other = world.batch("one"), world.batch("other")
    world.add(one, "text")
    world.add(other, "text")
    assert world.rows(one)[0].id != world.rows(other)[0].id


def test_an_unparsable_input_is_dead_with_its_reason_and_its_neighbours_wait(world: World) -> None:
    batch = world.batch()
    world.add(batch, "good", None, "better")
    states = [row.state for row in world.rows(batch)]
    assert states == [DocumentState.QUEUED, DocumentState.DEAD, DocumentState.QUEUED]
    dead = world.rows(batch)[1]
    assert (dead.reason, dead.message, dead.text_digest) == ("unparsable", "not a PDF", None)
    assert dead.finished_us is not None


def test_a_document_that_was_unparsable_is_queued_once_its_text_can_be_read(world: World) -> None:
    batch = world.batch()
    failed = SourceText("a.pdf", b"raw", None, "took longer than 10 s to read")
    read = SourceText("a.pdf", b"raw", "text")

    def add(*texts: SourceText) -> str:
        with world.ledger.transaction() as connection:
            add_documents(
                connection,
                batch.id,
                name_documents(batch.id, texts),
                first_position=0,
                now_us=world.tick(),
            )
            assert batch_standing(connection, batch).accepted == 1
        [row] = world.rows(batch)
        return str(row.state)

    assert [add(failed), add(read), add(read), add(failed)] == ["dead", *["queued"] * 3]
    [row] = world.rows(batch)
    assert (row.reason, row.message, row.finished_us, row.text_bytes) == (None, None, None, 4)
    world.turn(world.worker())
    assert world.states(batch)[DocumentState.DONE] == 1
    assert world.problems() == ()


def test_of_two_equal_files_one_that_was_read_is_enough(world: World) -> None:
    batch = world.batch()
    texts = [SourceText("a.pdf", b"raw", None, "crashed"), SourceText("b.pdf", b"raw", "text")]
    world.submit(batch, texts)
    [row] = world.rows(batch)
    assert row.state == DocumentState.QUEUED


def test_an_unparsable_document_of_a_cancelled_batch_stays_dead(world: World) -> None:
    batch = world.batch()
    with world.ledger.transaction() as connection:
        failed = SourceText("a.pdf", b"raw", None, "crashed")
        add_documents(
            connection,
            batch.id,
            name_documents(batch.id, [failed]),
            first_position=0,
            now_us=world.tick(),
        )
        cancel_batch(connection, batch, now_us=world.tick())
        read = SourceText("a.pdf", b"raw", "text")
        add_documents(
            connection,
            batch.id,
            name_documents(batch.id, [read]),
            first_position=1,
            now_us=world.tick(),
        )
    [row] = world.rows(batch)
    assert row.state == DocumentState.DEAD


def test_documents_keep_the_order_of_their_first_source_over_chunks(world: World) -> None:
    batch = world.batch()
    world.add(batch, "c", "a", "c", "b")
    with world.ledger.transaction() as connection:
        position = document_count(connection, batch.id)
    world.add(batch, "a", "e", "d", first_position=position)
    assert [row.position for row in world.rows(batch)] == [0, 1, 2, 3, 4]
    named = {id_: name for name, id_ in reversed(sources(world))}
    assert [named[row.id] for row in world.rows(batch)] == ["c", "a", "b", "e", "d"]


def test_a_stream_longer_than_a_chunk_arrives_whole_and_once(world: World) -> None:
    count = 2 * CHUNK + 1
    texts = texts_of(*(f"text {number}" for number in range(count)))
    heard: list[int] = []
    for accepted in (count, 0):
        done = submit(
            world.ledger,
            plan_of("b"),
            iter(texts),
            rejected=lambda: 3,
            on_progress=lambda so_far: heard.append(so_far.accepted),
        )
        assert (done.accepted, done.duplicate) == (accepted, count - accepted)
    assert heard[:3] == [CHUNK, 2 * CHUNK, count]
    found = world.found(done.batch)
    assert found.submitted
    assert found.rejected == 3
    assert [row.position for row in world.rows(found)] == list(range(count))


def test_a_submission_that_breaks_off_keeps_what_was_acknowledged_and_can_be_repeated(
    world: World,
) -> None:
    texts = texts_of(*(f"text {number}" for number in range(CHUNK + 200)))

    def broken() -> Iterator[SourceText]:
        yield from texts[: CHUNK + 100]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk"):
        submit(world.ledger, plan_of("b"), broken())
    batch = world.batch()
    assert not batch.submitted
    assert len(world.rows(batch)) == CHUNK
    done = submit(world.ledger, plan_of("b"), texts)
    assert (done.accepted, done.duplicate) == (200, CHUNK)
    assert [row.position for row in world.rows(batch)] == list(range(CHUNK + 200))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"job": "ticket"}, "job"),
        ({"prompt_version": "v2", "pinned": frozenset({"prompt"})}, "prompt"),
        ({"models": ("huge",), "pinned": frozenset({"model"})}, "model small > large"),
        ({"simulated": True, "pinned": frozenset({"simulate"})}, "simulate"),
        ({"options": {"text_field": "t"}, "pinned": frozenset({"text_field"})}, "text_field"),
    ],
)
def test_what_is_asked_for_by_name_must_agree_with_the_pins_of_the_batch(
    world: World, changed: dict[str, Any], word: str
) -> None:
    batch = world.batch()
    with (
        pytest.raises(UsageError, match=rf"batch b is pinned to {word}"),
        world.ledger.transaction() as connection,
    ):
        open_batch(connection, plan_of("b", **changed), now_us=world.tick())
    assert world.found(batch) == batch


def test_what_was_not_asked_for_by_name_follows_the_pins(world: World) -> None:
    batch = world.batch()
    again = world.batch(prompt_version="v2", prompt_id="p2", models=("other",), simulated=True)
    assert again == batch


def test_a_batch_is_found_by_name_and_by_id_and_a_later_budget_replaces_its_first(
    world: World,
) -> None:
    batch = world.batch(budget_nusd=5)
    world.batch(budget_nusd=8)
    world.batch()
    with world.ledger.snapshot() as connection:
        assert find_batch(connection, "b") == find_batch(connection, batch.id) == batch
        assert find_batch(connection, "c") is None
        assert batch_standing(connection, batch).limit_nusd == 8


def test_the_end_of_a_submission_is_noted_repeatably(world: World) -> None:
    batch = world.batch()
    for _ in range(2):
        with world.ledger.transaction() as connection:
            finish_submission(connection, batch.id, rejected=2)
    assert (world.found(batch).submitted, world.found(batch).rejected) == (True, 2)


def test_what_joins_a_cancelled_batch_is_born_cancelled(world: World) -> None:
    batch = world.batch()
    world.add(batch, "one")
    with world.ledger.transaction() as connection:
        cancel_batch(connection, batch, now_us=world.tick())
    world.add(batch, "two", None, first_position=1)
    assert world.states(batch) == {DocumentState.CANCELLED: 2, DocumentState.DEAD: 1}
