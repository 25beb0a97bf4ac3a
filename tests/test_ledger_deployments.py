"""Deployments in the ledger: canaries by document, and a rollback that reaches all that waits."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from runner.canary import Canary
from runner.keys import Ticket, content_digest
from runner.ledger import tables
from runner.ledger.deadletters import DeadFilter, Pins, list_dead, retry_dead
from runner.ledger.deployments import (
    EVALUATIONS_MAX,
    Evaluation,
    Repin,
    Repinned,
    batches_of,
    evaluations,
    produced,
    repin,
    shares,
)
from runner.ledger.gate import Refusal
from runner.ledger.results import results
from runner.ledger.secondreads import SecondPin, read_second_pin
from runner.ledger.submission import Batch, add_documents, name_documents
from runner.ledger.tables import eval_run, record
from runner.ledger.work import Work, load
from runner.model import (
    Again,
    Charge,
    DocumentState,
    Failure,
    Fault,
    FieldError,
    FirstRead,
    SourceText,
    Unconfirmed,
)
from tests.ledgers import DEAD, REVIEW, World, open_world

GOOD, BAD = ("v1", "p1"), ("v2", "p2")
CANARY = Canary(version="v2", prompt_id="p2", percent=40)
TEXTS = tuple(f"text {number}" for number in range(50))
REASK = Again(
    delay_s=0.0,
    charge=Charge.ATTEMPT,
    failure=Failure(Fault.SCHEMA_INVALID, "no"),
    ladder_step=0,
    reask=(FieldError("a", "is wrong"),),
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def id_of(models: Sequence[str]) -> str:
    """The good version's id, which depends on the ladder."""
    return "p1" if models == ("small", "large") else f"p1-{'-'.join(models)}"


def roll_back(world: World) -> Repinned:
    wish = Repin(job="invoice", bad="v2", good="v1", id_of=id_of)
    with world.ledger.transaction() as connection:
        return repin(connection, wish, now_us=world.tick())


def bad_batch(world: World, name: str = "b", **changes: Any) -> Batch:
    """A batch whose live version was the one that turned out bad."""
    return world.batch(name, **{"prompt_version": "v2", "prompt_id": "p2", **changes})


def work_of(world: World, tickets: Sequence[Ticket]) -> list[Work]:
    with world.ledger.snapshot() as connection:
        found = [one for one in load(connection, tickets) if one is not None]
    assert len(found) == len(tickets)
    return found


def pins(world: World, tickets: Sequence[Ticket]) -> list[tuple[str, str]]:
    """What each would be asked with."""
    return [(work.prompt_version, work.prompt_id) for work in work_of(world, tickets)]


def recorded(world: World) -> list[str]:
    with world.ledger.snapshot() as connection:
        rows = connection.execute(select(record.c.prompt_id).order_by(record.c.document_id))
        return list(rows.scalars())


# ------------------------------------------------------------ canaries


def test_each_document_of_a_batch_is_asked_as_its_text_decides_however_it_comes_in(
    world: World,
) -> None:
    batch = world.batch("one", canary=CANARY)
    assert batch.canary == CANARY
    world.add(batch, *TEXTS)
    again = world.batch("two", canary=CANARY)
    for place, text in enumerate(reversed(TEXTS)):
        world.add(again, text, first_position=place)
    sides = [[row.prompt_version for row in world.rows(one)] for one in (batch, again)]
    expected = ["v2" if CANARY.takes(content_digest(text.encode())) else None for text in TEXTS]
    assert sides == [expected, expected[::-1]]
    assert 10 < expected.count("v2") < 30
    worker = world.worker()
    asked = pins(world, world.feed(worker))
    assert sorted(set(asked)) == [GOOD, BAD]
    assert asked.count(BAD) == 2 * expected.count("v2")


def test_a_batch_keeps_its_canary_when_it_is_found_again(world: World) -> None:
    batch = world.batch(canary=CANARY)
    assert world.batch().canary == CANARY
    assert world.batch(canary=Canary(version="v3", prompt_id="p3", percent=1)).canary == CANARY
    assert world.found(batch).canary == CANARY


def test_an_unparsable_document_gets_its_side_when_it_has_a_text(world: World) -> None:
    text = next(one for one in TEXTS if CANARY.takes(content_digest(one.encode())))
    batch = world.batch(canary=CANARY)
    for error in ("timed out", None):
        one = SourceText("a.pdf", b"%PDF", None if error else text, error)
        with world.ledger.transaction() as connection:
            add_documents(
                connection,
                batch.id,
                name_documents(batch.id, [one]),
                first_position=0,
                now_us=world.tick(),
            )
        (row,) = world.rows(batch)
        assert row.prompt_version == (None if error else "v2")


def test_a_source_that_has_no_record_yet_names_the_prompt_that_it_waits_for(world: World) -> None:
    batch = world.batch(canary=CANARY)
    world.add(batch, *TEXTS)
    with world.ledger.snapshot() as connection:
        named = [one.prompt_id for one in results(connection, batch.id)]
    assert named == [row.prompt_id or "p1" for row in world.rows(batch)]
    assert len(set(named)) == 2


# ------------------------------------------------------------ rolling back


def test_whatever_waits_for_a_withdrawn_live_version_is_asked_with_the_good_one(
    world: World,
) -> None:
    batch = bad_batch(world)
    world.add(batch, *TEXTS[:3])
    found = roll_back(world)
    assert (found.waiting, found.running, found.batches) == (3, 0, ["b"])
    assert found.prompt_ids == {"p2"}
    world.add(batch, "joins later", first_position=3)
    assert pins(world, world.feed(world.worker())) == 4 * [GOOD]
    assert (world.found(batch).prompt_version, world.found(batch).prompt_id) == GOOD


def test_whatever_waits_for_a_withdrawn_canary_is_asked_with_the_live_version(
    world: World,
) -> None:
    batch = world.batch(canary=CANARY)
    world.add(batch, *TEXTS)
    taken = sum(row.prompt_version == "v2" for row in world.rows(batch))
    found = roll_back(world)
    assert (found.waiting, found.prompt_ids) == (taken, {"p2"})
    world.add(batch, *(f"more {text}" for text in TEXTS), first_position=50)
    assert pins(world, world.feed(world.worker())) == 100 * [GOOD]
    assert world.found(batch).canary is None


def test_a_rollback_that_is_repeated_changes_nothing(world: World) -> None:
    batch = bad_batch(world, canary=Canary(version="v3", prompt_id="p3", percent=40))
    world.add(batch, *TEXTS)
    roll_back(world)
    before = world.found(batch), world.rows(batch)
    assert roll_back(world) == Repinned()
    assert (world.found(batch), world.rows(batch)) == before


def test_a_ticket_that_a_worker_has_loaded_and_not_called_for_yet_is_stale(world: World) -> None:
    world.add(bad_batch(world), "one")
    worker = world.worker()
    (ticket,) = world.feed(worker)
    assert pins(world, [ticket]) == [BAD]
    assert roll_back(world).waiting == 1
    assert world.try_claim(ticket, worker, prompt_id="p2") is Refusal.STALE
    (again,) = world.feed(worker)
    assert pins(world, [again]) == [GOOD]


def test_a_call_in_flight_finishes_as_what_it_is(world: World) -> None:
    batch = bad_batch(world)
    world.add(batch, "one", "two")
    worker = world.worker()
    leases = [world.claim(one, worker, prompt_id="p2") for one in world.feed(worker)]
    assert (roll_back(world).running, world.found(batch).prompt_version) == (2, "v1")
    for lease in leases:
        assert world.store(lease)
    assert world.finish(leases[0])
    assert recorded(world) == ["p2"]
    assert world.finish(leases[1], REASK)
    assert pins(world, world.feed(worker)) == [GOOD], "and its next call is the good version's"


def test_an_answer_that_outlived_its_worker_is_recorded_as_what_was_asked(world: World) -> None:
    world.add(bad_batch(world), "one")
    worker = world.worker()
    lease = world.claim(world.feed(worker)[0], worker, prompt_id="p2")
    assert world.store(lease)
    world.sql(
        "UPDATE document SET state = 'queued', lease_token = NULL, worker_id = NULL, "
        "reask_json = :errors",
        errors=json.dumps([["a", "is wrong"]]),
    )
    roll_back(world)
    (ticket,) = world.feed(worker)
    (work,) = work_of(world, [ticket])
    assert work.stored is not None
    assert work.reask == (FieldError("a", "is wrong"),), "it is judged as what it was asked for"
    reading = world.claim(ticket, worker, again_of_stored=True, attempt_id=lease.attempt_id)
    assert world.finish(reading)
    assert recorded(world) == ["p2"]


def test_what_a_bad_answer_left_for_the_next_request_is_dropped(world: World) -> None:
    batch = bad_batch(world)
    world.add(batch, "one")
    worker = world.worker()
    world.turn(worker, REASK)
    (row,) = world.rows(batch)
    assert row.reask_json is not None
    world.sql("UPDATE document SET first_read_json = '{}'")
    roll_back(world)
    (row,) = world.rows(batch)
    assert (row.reask_json, row.first_read_json, row.attempts) == (None, None, 1)


def test_a_dead_letter_of_a_withdrawn_version_is_retried_with_the_good_one(world: World) -> None:
    batch = bad_batch(world)
    world.add(batch, "one")
    worker = world.worker()
    world.turn(worker, DEAD)
    world.add(batch, "two", first_position=1)
    world.turn(worker, REVIEW)
    found = roll_back(world)
    assert (found.dead, found.review, found.waiting) == (1, 1, 0)
    with world.ledger.transaction() as connection:
        ids = [letter.document_id for letter in list_dead(connection, DeadFilter())]
        retry_dead(connection, ids, pins=None, now_us=world.tick())
    assert pins(world, world.feed(worker)) == [GOOD]


def test_documents_with_a_ladder_of_their_own_get_the_good_id_of_that_ladder(world: World) -> None:
    batch = world.batch()
    world.add(batch, "one", "two")
    worker = world.worker()
    world.turn(worker, DEAD)
    own = Pins(prompt_version="v2", prompt_id="p2-huge", models=("huge",))
    with world.ledger.transaction() as connection:
        ids = [letter.document_id for letter in list_dead(connection, DeadFilter())]
        retry_dead(connection, ids[:1], pins=own, now_us=world.tick())
    found = roll_back(world)
    assert (found.waiting, found.dead, found.prompt_ids) == (1, 0, {"p2-huge"})
    (ticket,) = world.feed(worker)
    assert pins(world, [ticket]) == [("v1", "p1-huge")]
    other = bad_batch(world, "other", prompt_id="p2-tiny", models=("tiny",))
    roll_back(world)
    assert world.found(other).prompt_id == "p1-tiny"


def test_other_jobs_versions_evaluations_and_what_has_ended_are_left_alone(world: World) -> None:
    batches = [
        bad_batch(world, "other job", job="ticket"),
        bad_batch(world, "evaluation"),
        world.batch("other version", prompt_version="v3", prompt_id="p3"),
    ]
    world.sql("UPDATE batch SET purpose = 'eval' WHERE name = 'evaluation'")
    for batch in batches:
        world.add(batch, "one")
    done = bad_batch(world, "done")
    world.add(done, "two")
    worker = world.worker()
    before = [(world.found(batch), world.rows(batch)) for batch in batches]
    _finish_only(world, worker, done)
    ended = world.rows(done)
    found = roll_back(world)
    assert (found.batches, found.waiting) == (["done"], 0)
    assert [(world.found(batch), world.rows(batch)) for batch in batches] == before
    assert world.rows(done) == ended


def _finish_only(world: World, worker: Any, batch: Batch) -> None:
    """Take this batch's documents through a turn, and leave the others queued as they were."""
    world.sql("UPDATE batch SET state = 'paused' WHERE id != :id", id=batch.id)
    for ticket in world.feed(worker):
        lease = world.claim(ticket, worker, prompt_id="p2")
        assert world.store(lease)
        assert world.finish(lease)
    world.sql("UPDATE batch SET state = 'active'")


def second(version: str, id_: str, *models: str) -> SecondPin:
    return SecondPin(
        prompt_version=version, prompt_id=id_, models=models, percent=100, doubtful=False
    )


def second_of(world: World, batch: Batch) -> SecondPin | None:
    with world.ledger.snapshot() as connection:
        query = select(tables.batch.c.second_read_json).where(tables.batch.c.id == batch.id)
        return read_second_pin(connection.execute(query).scalar_one())


def test_a_second_read_is_made_with_the_good_version_and_ends_where_it_would_ask_the_same(
    world: World,
) -> None:
    other_model = bad_batch(world, "model", second_read=second("v2", "p2-huge", "huge"))
    other_prompt = world.batch("prompt", second_read=second("v2", "p2", "small", "large"))
    world.add(other_model, "one")
    found = roll_back(world)
    assert found.prompt_ids == {"p2", "p2-huge"}
    assert found.batches == ["model", "prompt"]
    assert second_of(world, other_model) == second("v1", "p1-huge", "huge")
    assert second_of(world, other_prompt) is None


def test_a_second_read_that_was_loaded_with_the_withdrawn_version_is_loaded_anew(
    world: World,
) -> None:
    batch = world.batch(second_read=second("v2", "p2-huge", "huge"))
    world.add(batch, "one")
    worker = world.worker()
    first = FirstRead(
        data_json="{}", flags=(), evidence=(), attempt_id="a1", model="small", prompt_id="p1"
    )
    (lease,) = [world.claim(ticket, worker) for ticket in world.feed(worker)]
    assert world.finish(lease, Unconfirmed(first))
    (ticket,) = world.feed(worker)
    assert pins(world, [ticket]) == [("v2", "p2-huge")]
    roll_back(world)
    assert world.try_claim(ticket, worker) is Refusal.STALE
    (again,) = world.feed(worker)
    (work,) = work_of(world, [again])
    assert (work.prompt_version, work.prompt_id) == ("v1", "p1-huge")
    assert work.first == first, "its first read was the good version's"


# ------------------------------------------------------------ what is told


def test_what_a_version_produced_is_counted_by_batch_after_a_rollback_too(world: World) -> None:
    worker = world.worker()
    for name, outcomes in (("june", 2), ("july", 1)):
        batch = bad_batch(world, name)
        world.add(batch, *(f"{name} {number}" for number in range(outcomes)))
        _finish_only(world, worker, batch)
    untouched = world.batch("august")
    world.add(untouched, "one")
    roll_back(world)
    with world.ledger.snapshot() as connection:
        listed = list(produced(connection, batches_of(connection, "invoice"), {"p2"}))
        shared = shares(connection, batch.id)
    assert [(one.batch_name, one.done, one.review) for one in listed] == [
        ("july", 1, 0),
        ("june", 2, 0),
    ]
    assert [(one.prompt_id, one.state, one.documents) for one in shared] == [
        ("p2", DocumentState.DONE, 1)
    ]


def evaluate(world: World, id_: str, *, at_us: int, **changes: Any) -> None:
    values = {
        "job": "invoice",
        "prompt_version": "v2",
        "prompt_id": "p2",
        "models_json": json.dumps(["small"]),
        "gold_digest": "sha256:ab",
        "verdict": "pass",
        "summary_json": "{}",
    }
    with world.ledger.transaction() as connection:
        connection.execute(insert(eval_run).values(id=id_, created_us=at_us, **(values | changes)))


def test_an_evaluation_is_found_by_its_exact_prompt_the_newest_first(world: World) -> None:
    evaluate(world, "e0", at_us=0)
    evaluate(world, "e1", at_us=1)
    evaluate(world, "e2", at_us=2, prompt_id="p3")
    evaluate(world, "e3", at_us=3, job="ticket")
    for number in range(EVALUATIONS_MAX):
        evaluate(world, f"s{number}", at_us=4, summary_json='{"simulated": true}')
    with world.ledger.snapshot() as connection:
        found = evaluations(connection, "invoice", "p2")
    assert [(one.id, one.models, one.ceiling_nusd) for one in found] == [
        ("e1", ("small",), None),
        ("e0", ("small",), None),
    ], "simulated ones say nothing, however many there are"


@pytest.mark.parametrize(
    ("document_nusd", "call_nusd", "ceiling"),
    [(1_000, 400, 1_200), (1_000, 401, 1_203), (1_001, 1, 1_202), (0, 0, None), (None, 5, 15)],
)
def test_a_ceiling_stands_well_above_all_that_good_documents_have_cost(
    document_nusd: int | None, call_nusd: int | None, ceiling: int | None
) -> None:
    found = Evaluation(
        id="e1",
        verdict="PASS",
        prompt_id="p2",
        models=("small",),
        gold_digest="sha256:ab",
        against_prompt_id=None,
        dearest_document_nusd=document_nusd,
        dearest_call_nusd=call_nusd,
        created_us=0,
    )
    assert (found.passed, found.ceiling_nusd) == (True, ceiling)
