"""The review queue in the ledger: what waits, and decisions that are made once and add up."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from runner.keys import content_digest
from runner.ledger.calls import view_document
from runner.ledger.control import cancel_batch
from runner.ledger.deadletters import DeadFilter, Pins, list_dead, retry_dead
from runner.ledger.reviews import (
    Decision,
    NotDecided,
    ReviewFilter,
    Waiting,
    count_waiting,
    decide,
    list_waiting,
    reviews_of,
)
from runner.ledger.sampling import add_to_sample, draw, is_sampled
from runner.ledger.submission import Batch
from runner.ledger.tables import review
from runner.ledger.work import load
from runner.ledger.workers import WorkerRow
from runner.model import (
    Decided,
    DocumentState,
    Done,
    Evidence,
    Failure,
    Fault,
    FieldError,
    History,
    How,
    Outcome,
    Review,
    Stratum,
)
from tests.ledgers import COST_NUSD, DONE, REVIEW, World, open_world

ERRORS = (FieldError("total", "must not be below 0"), FieldError("", "odd"))
UNSURE = Review(
    "check_failed",
    Failure(Fault.CHECK_FAILED, "2 errors", ERRORS),
    data_json='{"a":2}',
    flags=("repaired",),
)
NO_ANSWER = Review("ambiguous", Failure(Fault.AMBIGUOUS, "timed out"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def leader(world: World) -> WorkerRow:
    """A new worker that leads instead of any other."""
    world.sql("DELETE FROM leader")
    return world.worker()


def through(
    world: World,
    *texts: str,
    outcome: Outcome = UNSURE,
    audit_percent: float = 0.0,
    batch: Batch | None = None,
) -> Batch:
    """New documents of a batch through one turn."""
    batch, me = batch or world.batch(), leader(world)
    world.add(batch, *texts, first_position=len(world.rows(batch)))
    for ticket in world.feed(me):
        lease = world.claim(ticket, me)
        world.store(lease)
        end = replace(world.end(lease, outcome), audit_percent=audit_percent)
        assert world.finish_all([end]) == [True]
    return batch


def waiting(world: World, wanted: ReviewFilter = ReviewFilter()) -> list[Waiting]:  # noqa: B008
    with world.ledger.snapshot() as connection:
        return list_waiting(connection, wanted)


def ruling(world: World, document_id: str, decided: Decided, **more: Any) -> Decision:
    return Decision(
        document_id=document_id, decided=decided, reviewer="ann", now_us=world.tick(), **more
    )


def decide_all(world: World, decisions: Sequence[Decision]) -> list[NotDecided | None]:
    with world.ledger.transaction() as connection:
        answers = decide(connection, decisions)
    assert world.problems() == ()
    return answers


def decide_one(world: World, document_id: str, decided: Decided, **more: Any) -> NotDecided | None:
    return decide_all(world, [ruling(world, document_id, decided, **more)])[0]


def record_of(world: World, document_id: str) -> tuple[Any, tuple[str, ...]]:
    with world.ledger.snapshot() as connection:
        view = view_document(connection, document_id)
    return view.data, view.flags


def evidence_of(world: World, document_id: str) -> tuple[Evidence, ...]:
    with world.ledger.snapshot() as connection:
        return view_document(connection, document_id).evidence


def review_rows(world: World) -> list[Any]:
    with world.ledger.snapshot() as connection:
        return list(connection.execute(select(review).order_by(review.c.id)))


def ids_of(world: World, batch: Batch) -> list[str]:
    return [row.id for row in world.rows(batch)]


# ------------------------------------------------------------ what waits


def test_what_waits_is_listed_oldest_first_with_all_that_a_person_needs(world: World) -> None:
    batch = through(world, "one")
    through(world, "two", outcome=DONE, audit_percent=100)
    through(world, "three", outcome=NO_ANSWER)
    one, two, three = waiting(world)
    assert [one.source, two.source, three.source] == ["one", "two", "three"]
    assert (one.batch_name, one.job, one.stratum) == ("b", "invoice", Stratum.FLAGGED)
    assert (one.reason, one.message, one.errors) == ("check_failed", "2 errors", ERRORS)
    assert (one.data_json, one.flags, one.model) == ('{"a":2}', ("repaired",), "small")
    assert (two.stratum, two.reason, two.errors, two.data_json) == (
        *(Stratum.SAMPLED, None),
        *((), '{"a":1}'),
    )
    assert three.data_json is None
    with world.ledger.snapshot() as connection:
        counts = count_waiting(connection, ReviewFilter(batch_id=batch.id, limit=1))
    assert counts == {Stratum.FLAGGED: 2, Stratum.SAMPLED: 1}


def test_filters_of_what_waits_narrow_it(world: World) -> None:
    through(world, "one")
    through(world, "two", outcome=NO_ANSWER)
    through(world, "three", outcome=DONE, audit_percent=100)
    other = through(world, "four", batch=world.batch("c"))
    chosen = {
        "reason": ReviewFilter(reason="ambiguous"),
        "sampled": ReviewFilter(stratum=Stratum.SAMPLED),
        "batch": ReviewFilter(batch_id=other.id),
        "limit": ReviewFilter(limit=1),
        "both": ReviewFilter(stratum=Stratum.FLAGGED, batch_id=world.batch().id, limit=9),
    }
    assert {name: [one.source for one in waiting(world, it)] for name, it in chosen.items()} == {
        "reason": ["two"],
        "sampled": ["three"],
        "batch": ["four"],
        "limit": ["one"],
        "both": ["one", "two"],
    }


def test_reviews_of_an_evaluation_wait_for_nobody_unless_it_is_named(world: World) -> None:
    batch = world.batch()
    world.sql("UPDATE batch SET purpose = 'eval'")
    through(world, "one", batch=batch)
    through(world, "two", outcome=DONE, audit_percent=100, batch=batch)
    assert waiting(world) == []
    assert [one.source for one in waiting(world, ReviewFilter(batch_id=batch.id))] == ["one"]


# ------------------------------------------------------------ decisions


def test_an_accepted_record_is_done_as_it_was(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    money = world.money(batch)
    assert decide_one(world, id_, Decided.ACCEPTED, note="fine") is None
    row = world.row(id_)
    assert (row.state, row.reason, row.message, row.reask_json) == (
        *(DocumentState.DONE, None),
        *(None, None),
    )
    assert record_of(world, id_) == ({"a": 2}, ("repaired", "accepted"))
    assert (waiting(world), world.money(batch)) == ([], money)
    (found,) = review_rows(world)
    assert (found.decision, found.stratum, found.reason, found.was_wrong) == (
        *("accepted", "flagged"),
        *("check_failed", False),
    )
    assert (found.before_json, found.after_json, found.reviewer, found.note) == (
        *('{"a":2}', '{"a":2}'),
        *("ann", "fine"),
    )


def test_a_corrected_record_is_done_with_the_new_data_and_the_old_is_history(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    there = Evidence("a", 1, 2, How.EXACT)
    changes = {"data_json": '{"a":3}', "evidence": (there,), "flags": ("overruled",)}
    assert decide_one(world, id_, Decided.CORRECTED, **changes) is None
    assert world.row(id_).state == DocumentState.DONE
    assert record_of(world, id_) == ({"a": 3}, ("repaired", "corrected", "overruled"))
    assert evidence_of(world, id_) == (there,)
    (found,) = review_rows(world)
    assert (found.was_wrong, found.before_json, found.after_json) == (True, '{"a":2}', '{"a":3}')


def test_a_rejected_record_is_a_dead_letter_that_can_be_retried(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    assert decide_one(world, id_, Decided.REJECTED, note="no invoice") is None
    with world.ledger.snapshot() as connection:
        (letter,) = list_dead(connection, DeadFilter(reason="rejected_in_review"))
    assert letter.message == "rejected by ann: no invoice"
    assert letter.signature == "rejected_in_review: check_failed"
    assert record_of(world, id_) == (None, ())
    with world.ledger.transaction() as connection:
        assert retry_dead(connection, [id_], pins=None, now_us=world.tick()) == [id_]
    through(world, outcome=DONE)
    assert record_of(world, id_) == ({"a": 1}, ())


def test_a_document_run_again_lives_anew_and_its_next_record_counts(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    pins = Pins(prompt_version="v2", prompt_id="p2", models=("huge",))
    assert decide_one(world, id_, Decided.AGAIN, pins=pins) is None
    row = world.row(id_)
    assert (row.state, row.calls, row.spent_before_nusd) == ("queued", 1, COST_NUSD)
    (ticket,) = world.feed(leader(world))
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [ticket])
    assert work is not None
    assert (work.history, work.reask, work.prompt_version) == (History(), (), "v2")
    world.sql("UPDATE document SET state = 'queued'")
    through(world, outcome=Done('{"a":9}'))
    assert record_of(world, id_) == ({"a": 9}, ())
    (found,) = review_rows(world)
    assert (found.decision, found.was_wrong, found.after_json) == ("again", False, None)


def test_a_review_without_an_answer_can_be_given_data_but_not_accepted(world: World) -> None:
    batch = through(world, "one", "two", outcome=NO_ANSWER)
    one, two = ids_of(world, batch)
    assert decide_one(world, one, Decided.ACCEPTED) is NotDecided.NO_DATA
    assert decide_one(world, one, Decided.CORRECTED, data_json='{"a":1}') is None
    assert decide_one(world, two, Decided.REJECTED) is None
    assert record_of(world, one) == ({"a": 1}, ("corrected",))
    assert [row.was_wrong for row in review_rows(world)] == [False, False]


def test_a_sampled_document_stays_done_is_corrected_or_dies(world: World) -> None:
    batch = through(world, "one", "two", "three", outcome=DONE, audit_percent=100)
    one, two, three = ids_of(world, batch)
    finished_us = world.row(one).finished_us
    assert decide_one(world, one, Decided.AGAIN) is NotDecided.ONLY_FLAGGED
    assert decide_one(world, one, Decided.ACCEPTED) is None
    assert decide_one(world, two, Decided.CORRECTED, data_json='{"a":5}') is None
    assert decide_one(world, three, Decided.REJECTED) is None
    assert world.states(batch) == {DocumentState.DONE: 2, DocumentState.DEAD: 1}
    assert world.row(one).finished_us == finished_us
    assert record_of(world, two) == ({"a": 5}, ("corrected",))
    assert world.row(three).signature == "rejected_in_review: sampled"
    assert waiting(world) == []
    assert {row.stratum for row in review_rows(world)} == {"sampled"}
    assert decide_one(world, one, Decided.ACCEPTED) is NotDecided.NOT_WAITING


def test_a_rejected_sample_that_is_done_again_waits_again(world: World) -> None:
    batch = through(world, "one", outcome=DONE, audit_percent=100)
    (id_,) = ids_of(world, batch)
    decide_one(world, id_, Decided.REJECTED)
    with world.ledger.transaction() as connection:
        retry_dead(connection, [id_], pins=None, now_us=world.tick())
    through(world, outcome=DONE, audit_percent=100)
    assert [one.document_id for one in waiting(world)] == [id_]
    assert decide_one(world, id_, Decided.ACCEPTED) is None
    with world.ledger.snapshot() as connection:
        history = reviews_of(connection, id_)
    assert [one.decided for one in history] == [Decided.ACCEPTED, Decided.REJECTED]


def test_what_waits_for_nobody_is_not_decided_on(world: World) -> None:
    batch = through(world, "done", outcome=DONE)
    world.add(batch, "queued", None, first_position=1)
    for id_ in [*ids_of(world, batch), "dnothing"]:
        for decided in Decided:
            assert decide_one(world, id_, decided) is NotDecided.NOT_WAITING
    assert review_rows(world) == []


def test_a_record_that_took_the_place_of_the_one_looked_at_is_not_decided_on(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    (seen,) = waiting(world)
    decide_one(world, id_, Decided.AGAIN)
    through(world, outcome=REVIEW)
    stale = {"attempt_id": seen.attempt_id}
    assert decide_one(world, id_, Decided.ACCEPTED, **stale) is NotDecided.OTHER_RECORD
    (now,) = waiting(world)
    assert decide_one(world, id_, Decided.ACCEPTED, attempt_id=now.attempt_id) is None


def test_what_cannot_run_is_not_run_again(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    world.sql("UPDATE document SET text_digest = NULL")
    assert decide_one(world, id_, Decided.AGAIN) is NotDecided.CANNOT_RUN
    other = through(world, "two", batch=world.batch("c"))
    with world.ledger.transaction() as connection:
        cancel_batch(connection, world.found(other), now_us=world.tick())
    (cancelled,) = ids_of(world, other)
    assert decide_one(world, cancelled, Decided.AGAIN) is NotDecided.CANNOT_RUN
    assert decide_one(world, cancelled, Decided.ACCEPTED) is None


def test_of_two_decisions_in_one_group_the_first_one_stands(world: World) -> None:
    batch = through(world, "one")
    (id_,) = ids_of(world, batch)
    both = [ruling(world, id_, Decided.REJECTED), ruling(world, id_, Decided.ACCEPTED)]
    assert decide_all(world, both) == [None, NotDecided.NOT_WAITING]
    assert world.row(id_).state == DocumentState.DEAD


def test_two_people_at_once_decide_each_document_once(world: World) -> None:
    batch = through(world, *(f"text {number}" for number in range(60)))
    through(world, *(f"sure {number}" for number in range(60)), outcome=DONE, audit_percent=100)
    ids = ids_of(world, batch)
    start = threading.Barrier(2)
    stood: dict[str, list[str]] = {"ann": [], "bob": []}

    def work(reviewer: str, decided: Decided) -> None:
        start.wait()
        for id_ in ids:
            one = replace(ruling(world, id_, decided), reviewer=reviewer)
            with world.ledger.transaction() as connection:
                if decide(connection, [one]) == [None]:
                    stood[reviewer].append(id_)

    people = [
        threading.Thread(target=work, args=("ann", Decided.ACCEPTED)),
        threading.Thread(target=work, args=("bob", Decided.REJECTED)),
    ]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert sorted(stood["ann"] + stood["bob"]) == sorted(ids)
    states = {row.id: row.state for row in world.rows(batch)}
    assert {states[id_] for id_ in stood["ann"]} <= {"done"}
    assert {states[id_] for id_ in stood["bob"]} <= {"dead"}
    assert len(review_rows(world)) == len(ids)


async def test_decisions_of_many_are_committed_in_groups(world: World) -> None:
    batch = through(world, "one", "two")
    one, two = ids_of(world, batch)
    write = world.ledger.write
    assert await write(decide, ruling(world, one, Decided.ACCEPTED)) is None
    again = ruling(world, one, Decided.ACCEPTED)
    assert await write(decide, again) is NotDecided.NOT_WAITING
    assert await write(decide, ruling(world, two, Decided.REJECTED)) is None


# ------------------------------------------------------------ the sample

DIGESTS = st.binary(min_size=32, max_size=32)
PERCENTS = st.floats(0, 100)


@given(digest=DIGESTS, percent=PERCENTS, more=PERCENTS)
def test_a_larger_sample_holds_all_of_a_smaller_one(
    digest: bytes, percent: float, more: float
) -> None:
    less, more = sorted((percent, more))
    assert not is_sampled(digest, 0)
    assert is_sampled(digest, 100)
    assert is_sampled(digest, more) or not is_sampled(digest, less)


@pytest.mark.parametrize("percent", [0.5, 5.0, 37.0, 95.0])
@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_the_sample_has_its_share_of_any_documents(percent: float, seed: str) -> None:
    count = 20_000
    digests = [content_digest(f"{seed} {number}".encode()) for number in range(count)]
    drawn = sum(is_sampled(digest, percent) for digest in digests)
    expected = count * percent / 100
    spread = (expected * (1 - percent / 100)) ** 0.5
    assert abs(drawn - expected) <= 4 * spread


def test_a_record_is_drawn_by_its_text_whatever_came_of_it(world: World) -> None:
    texts = [f"text {number}" for number in range(80)]
    drawn = {text for text in texts if is_sampled(content_digest(text.encode()), 30)}
    through(world, *texts, outcome=Done('{"a":1}', ("repaired",)), audit_percent=30)
    other = through(world, *texts, outcome=DONE, audit_percent=30, batch=world.batch("c"))
    assert 10 < len(drawn) < 40
    sampled = waiting(world, ReviewFilter(stratum=Stratum.SAMPLED))
    assert {one.source for one in sampled if one.batch_id == other.id} == drawn
    assert {one.source for one in sampled if one.batch_id != other.id} == drawn


def take_sample(world: World, batch: Batch, percent: float) -> tuple[int, int, int]:
    with world.ledger.snapshot() as connection:
        found = draw(connection, batch.id, percent=percent)
    with world.ledger.transaction() as connection:
        added = add_to_sample(connection, found.new_ids)
    return found.done, found.in_sample, added


def test_a_later_sample_is_the_one_that_would_have_been_drawn_at_once(world: World) -> None:
    texts = [f"text {number}" for number in range(60)]
    batch = through(world, *texts, outcome=DONE)
    through(world, "unsure", batch=batch)
    drawn = {text for text in texts if is_sampled(content_digest(text.encode()), 20)}
    assert take_sample(world, batch, 20) == (60, 0, len(drawn))
    assert take_sample(world, batch, 20) == (60, len(drawn), 0)
    sampled = waiting(world, ReviewFilter(stratum=Stratum.SAMPLED))
    assert {one.source for one in sampled} == drawn
    assert take_sample(world, batch, 10) == (60, len(drawn), 0)


def test_what_a_person_has_seen_is_not_drawn_again(world: World) -> None:
    batch = through(world, "one", "two", outcome=DONE)
    through(world, "unsure", batch=batch)
    one, _, unsure = ids_of(world, batch)
    assert take_sample(world, batch, 100) == (2, 0, 2)
    decide_one(world, one, Decided.ACCEPTED)
    decide_one(world, unsure, Decided.ACCEPTED)
    assert take_sample(world, batch, 100) == (1, 1, 0)
    assert [one.source for one in waiting(world)] == ["two"]
