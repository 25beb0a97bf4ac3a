"""Outcomes: each writes what it should, once, with its money; a stale lease changes no row."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from runner.ledger.control import cancel_batch, resume_batch
from runner.ledger.ends import Finish
from runner.ledger.tables import record
from runner.ledger.work import load
from runner.model import (
    Again,
    AttemptState,
    BatchState,
    Charge,
    Dead,
    DocumentState,
    Failure,
    Fault,
    FieldError,
    Outcome,
    Pauses,
    Usage,
)
from tests.ledgers import (
    COST_NUSD,
    DEAD,
    DEFERRED,
    DONE,
    HOLD_NUSD,
    REVIEW,
    TRANSIENT,
    Lease,
    World,
    open_world,
)

REFUSED = Again(
    delay_s=0.0,
    charge=Charge.DEFERRAL,
    failure=Failure(Fault.REQUEST_REFUSED, "HTTP 400: schema"),
    ladder_step=0,
    alike_pauses=True,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def begin(world: World, *texts: str) -> list[Lease]:
    """Documents of batch `b` in a call, their answers stored."""
    batch, me = world.batch(), world.worker()
    world.add(batch, *(texts or ("one",)))
    leases = [world.claim(ticket, me) for ticket in world.feed(me)]
    for lease in leases:
        assert world.store(lease)
    return leases


def everything(world: World) -> tuple[Any, ...]:
    batch = world.batch()
    with world.ledger.snapshot() as connection:
        records = list(connection.execute(select(record)))
    return world.rows(batch), records, world.money(batch)


def again(world: World, document_id: str) -> Lease:
    """The document's next call."""
    me = world.worker(leads=False)
    world.sql("UPDATE leader SET worker_id = :me", me=me.id)
    ticket = next(t for t in world.feed(me) if t.document_id == document_id)
    return world.claim(ticket, me)


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (DONE, DocumentState.DONE, None),
        (REVIEW, DocumentState.REVIEW, "check_failed"),
        (DEAD, DocumentState.DEAD, "bad_request"),
        (TRANSIENT, DocumentState.QUEUED, "server_error"),
    ],
)
def test_an_outcome_is_written_once_however_often_it_is_asked_for(
    world: World, outcome: Outcome, state: DocumentState, reason: str | None
) -> None:
    (lease,) = begin(world)
    end = world.end(lease, outcome, usage=Usage(5, 1, 0, 3, 2, "default"), parse_us=4)
    assert world.finish_all([end, end]) == [True, True]
    after = everything(world)
    assert world.finish_all([end]) == [False]
    assert everything(world) == after
    row, call = world.row(lease.ticket.document_id), world.attempt(lease.attempt_id)
    assert (row.state, row.reason, row.attempts, row.cost_nusd) == (state, reason, 1, COST_NUSD)
    assert (row.lease_token, row.worker_id) == (None, None)
    assert (call.state, call.cost_nusd, call.input_tokens, call.service_tier) == (
        AttemptState.CONCLUDED,
        COST_NUSD,
        5,
        "default",
    )
    assert call.fault == (None if outcome is DONE else outcome.failure.fault)  # type: ignore[union-attr] # only Done has none
    assert world.money(world.batch()) == (0, COST_NUSD, 0)


def test_of_two_ends_of_one_turn_in_one_group_the_first_counts(world: World) -> None:
    (lease,) = begin(world)
    first = world.end(lease, TRANSIENT, state=AttemptState.NOT_SENT, cost_nusd=0)
    second = world.end(lease, DEAD, state=AttemptState.AMBIGUOUS, cost_nusd=None)
    assert world.finish_all([first, second]) == [True, False]
    assert world.row(lease.ticket.document_id).state == DocumentState.QUEUED
    assert world.money(world.batch()) == (0, 0, 0)


def test_a_record_holds_data_flags_and_origin(world: World) -> None:
    done, review = begin(world, "one", "two")
    world.finish_all([world.end(done), world.end(review, REVIEW)])
    with world.ledger.snapshot() as connection:
        rows = {row.document_id: row for row in connection.execute(select(record))}
    assert rows[done.ticket.document_id].data_json == '{"a":1}'
    row = rows[review.ticket.document_id]
    assert (row.data_json, row.flags_json, row.attempt_id) == (
        '{"a":2}',
        '["sum"]',
        review.attempt_id,
    )
    assert (row.model, row.prompt_id) == ("small", "p1")
    assert row.latency_us > 0


@pytest.mark.parametrize("stale", ["another token", "another turn", "no token"])
def test_a_stale_lease_changes_no_row(world: World, stale: str) -> None:
    (lease,) = begin(world)
    end = world.end(lease)
    changed: dict[str, Finish] = {
        "another token": replace(end, lease_token="lost"),
        "another turn": replace(end, ticket=replace(lease.ticket, turn=9)),
        "no token": replace(end, lease_token=None),
    }
    before = everything(world), world.attempt(lease.attempt_id)
    assert world.finish_all([changed[stale]]) == [False]
    assert not world.store(replace(lease, token="lost"), b"late")
    assert (everything(world), world.attempt(lease.attempt_id)) == before


def test_a_document_without_a_call_ends_only_while_it_is_ready(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    (ticket,) = world.feed(me)
    end = Finish(ticket=ticket, outcome=DEAD, signature="s", now_us=world.tick())
    assert world.finish_all([end]) == [True]
    assert world.finish_all([end]) == [False]
    row = world.row(ticket.document_id)
    assert (row.state, row.attempts, row.calls) == (DocumentState.DEAD, 0, 0)


def test_attempts_and_deferrals_are_counted_apart_and_waiting_is_timed(world: World) -> None:
    (lease,) = begin(world)
    id_ = lease.ticket.document_id
    world.finish(lease, DEFERRED, cost_nusd=0)
    since = world.row(id_).deferred_since_us
    assert since == world.now_us
    world.finish(again(world, id_), DEFERRED, cost_nusd=0)
    row = world.row(id_)
    assert (row.attempts, row.deferrals, row.deferred_since_us) == (0, 2, since)
    world.finish(again(world, id_), TRANSIENT)
    row = world.row(id_)
    assert (row.attempts, row.deferrals, row.deferred_since_us) == (1, 2, None)
    assert row.calls == 3


def test_a_call_that_was_never_sent_is_free_and_no_attempt_even_when_it_is_the_last(
    world: World,
) -> None:
    (lease,) = begin(world)
    last = Dead("deferred_too_long", Failure(Fault.NOT_SENT, "refused"))
    world.finish(lease, last, state=AttemptState.NOT_SENT, cost_nusd=0)
    row = world.row(lease.ticket.document_id)
    assert (row.state, row.attempts, row.cost_nusd, row.cost_known) == (
        DocumentState.DEAD,
        0,
        0,
        True,
    )
    assert world.money(world.batch()) == (0, 0, 0)


def test_re_asks_are_counted_by_model_and_shown_to_the_next_call(world: World) -> None:
    (lease,) = begin(world)
    id_ = lease.ticket.document_id
    invalid = replace(
        TRANSIENT,
        failure=Failure(Fault.SCHEMA_INVALID, "no"),
        reask=(FieldError("total", "missing"),),
    )
    unproven = replace(invalid, failure=Failure(Fault.CHECK_FAILED, "sum"))
    world.finish(lease, invalid)
    world.finish(again(world, id_), unproven)
    row = world.row(id_)
    assert (row.reasks, row.check_reasks, row.ladder_step) == (1, 1, 0)
    lease = again(world, id_)
    world.finish(lease, TRANSIENT)  # a transient failure leaves the re-ask standing
    me = world.worker(leads=False)
    world.sql("UPDATE leader SET worker_id = :me", me=me.id)
    (ticket,) = world.feed(me)
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [ticket])
    assert work is not None
    assert work.reask == (FieldError("total", "missing"),)
    world.finish(world.claim(ticket, me), replace(TRANSIENT, ladder_step=1))
    row = world.row(id_)
    assert (row.ladder_step, row.reasks, row.check_reasks, row.reask_json) == (1, 0, 0, None)
    assert row.attempts == 4


def test_an_ambiguous_call_moves_its_hold_to_ambiguous(world: World) -> None:
    (lease,) = begin(world)
    failure = replace(TRANSIENT, failure=Failure(Fault.AMBIGUOUS, "timeout"))
    settled = {"state": AttemptState.AMBIGUOUS, "cost_nusd": None, "ambiguous_nusd": HOLD_NUSD}
    world.finish(lease, failure, **settled)
    row = world.row(lease.ticket.document_id)
    assert (row.ambiguous, row.ambiguous_nusd, row.cost_nusd, row.cost_known) == (
        1,
        HOLD_NUSD,
        0,
        True,
    )
    assert world.money(world.batch()) == (0, 0, HOLD_NUSD)


@pytest.mark.parametrize("state", [AttemptState.CONCLUDED, AttemptState.AMBIGUOUS])
def test_a_call_at_an_unknown_price_makes_the_documents_cost_unknown_for_good(
    world: World, state: AttemptState
) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    (ticket,) = world.feed(me)
    lease = world.claim(ticket, me, hold_nusd=None)
    world.finish(lease, TRANSIENT, state=state, cost_nusd=None)
    assert not world.row(ticket.document_id).cost_known
    world.finish(again(world, ticket.document_id))
    row = world.row(ticket.document_id)
    assert (row.state, row.cost_known, row.cost_nusd) == (DocumentState.DONE, False, COST_NUSD)


@pytest.mark.parametrize("outcome", [DONE, REVIEW, DEAD, TRANSIENT])
def test_a_running_call_of_a_cancelled_batch_settles_and_ends_cancelled(
    world: World, outcome: Outcome
) -> None:
    (lease,) = begin(world)
    batch = world.batch()
    with world.ledger.transaction() as connection:
        assert cancel_batch(connection, batch, now_us=world.tick()) == 0
    assert world.finish(lease, outcome)
    row = world.row(lease.ticket.document_id)
    assert (row.state, row.cost_nusd) == (DocumentState.CANCELLED, COST_NUSD)
    assert row.finished_us is not None
    assert world.money(batch) == (0, COST_NUSD, 0)
    with world.ledger.snapshot() as connection:
        assert connection.execute(select(record)).first() is None


def test_a_paid_answer_nobody_has_read_survives_a_cancellation_until_its_cost_is_known(
    world: World,
) -> None:
    (lease,) = begin(world)
    batch = world.batch()
    bug = replace(DEFERRED, failure=Failure(Fault.INTERNAL_ERROR, "KeyError at check.py:3"))
    assert world.finish_all([world.end_with(lease, bug, None)]) == [True]
    with world.ledger.transaction() as connection:
        assert cancel_batch(connection, batch, now_us=world.tick()) == 0
    assert world.states(batch) == {DocumentState.QUEUED: 1}
    me = world.worker(leads=False)
    world.sql("UPDATE leader SET worker_id = :me", me=me.id)
    (ticket,) = world.feed(me)
    # our own bug once more: it still waits to be read
    reading = world.claim(ticket, me, again_of_stored=True, attempt_id=lease.attempt_id)
    assert world.finish_all([world.end_with(reading, bug, None)]) == [True]
    assert world.states(batch) == {DocumentState.QUEUED: 1}
    (ticket,) = world.feed(me)
    reading = world.claim(ticket, me, again_of_stored=True, attempt_id=lease.attempt_id)
    assert world.finish(reading)
    assert world.states(batch) == {DocumentState.CANCELLED: 1}
    assert world.money(batch) == (0, COST_NUSD, 0)
    assert world.row(ticket.document_id).calls == 1


def test_an_answered_attempt_is_loaded_again_as_stored_with_its_exact_bytes(world: World) -> None:
    (lease,) = begin(world)
    assert world.store(lease, b"another body"), "a repetition is accepted"
    bug = replace(DEFERRED, failure=Failure(Fault.INTERNAL_ERROR, "bug"))
    world.finish_all([world.end_with(lease, bug, None)])
    me = world.worker(leads=False)
    world.sql("UPDATE leader SET worker_id = :me", me=me.id)
    (ticket,) = world.feed(me)
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [ticket])
    assert work is not None
    assert work.stored is not None
    assert work.stored.attempt_id == lease.attempt_id
    assert work.stored.answer.body == b"{}", "and changed nothing"
    assert work.stored.answer.headers == {"date": "today"}
    assert (work.stored.hold_nusd, work.stored.answer.elapsed_us) == (HOLD_NUSD, 7)
    assert work.history.internal_errors == 1
    assert world.money(world.batch()) == (HOLD_NUSD, 0, 0)


def test_an_answer_that_comes_after_the_lease_is_not_stored_with_the_call(world: World) -> None:
    me = world.worker()
    world.add(world.batch(), "text")
    (ticket,) = world.feed(me)
    lease = world.claim(ticket, me)
    assert world.finish(lease, DEFERRED, state=AttemptState.AMBIGUOUS, cost_nusd=None)
    (ticket,) = world.feed(me)
    second = world.claim(ticket, me)
    assert not world.store(lease, b"late")
    assert not world.store(replace(second, token=lease.token), b"foreign")
    for one in (lease, second):
        assert world.attempt(one.attempt_id).status is None
    assert world.store(second)
    assert world.finish(second)


def test_three_documents_alike_pause_the_batch_and_resume_forgets_them(world: World) -> None:
    leases = begin(world, *(f"text {number}" for number in range(6)))
    world.finish_all([world.end(lease, REFUSED, cost_nusd=0) for lease in leases[:2]])
    assert world.found(world.batch()).state is BatchState.ACTIVE
    world.finish(leases[2], REFUSED, cost_nusd=0)
    found = world.found(world.batch())
    assert found.state is BatchState.PAUSED
    assert found.pause_reason == (
        "3 documents in succession failed alike (request_refused): HTTP 400: schema"
    )
    with world.ledger.transaction() as connection:
        resume_batch(connection, found, budget_nusd=None, now_us=world.tick())
    world.finish(leases[3], REFUSED, cost_nusd=0)
    assert world.found(found).state is BatchState.ACTIVE


def test_one_document_that_fails_alike_again_and_again_is_counted_once(world: World) -> None:
    one, two, *_ = begin(world, *(f"text {number}" for number in range(6)))
    for _ in range(3):
        world.finish(one, REFUSED, cost_nusd=0)
        one = again(world, one.ticket.document_id)
        if world.row(two.ticket.document_id).state == DocumentState.RUNNING:
            world.finish(two, REFUSED, cost_nusd=0)
    assert world.found(world.batch()).state is BatchState.ACTIVE


@pytest.mark.parametrize("together", [True, False])
def test_a_success_between_clears_the_suspicion(world: World, *, together: bool) -> None:
    leases = begin(world, *(f"text {number}" for number in range(9)))
    outcomes: list[Outcome] = [REFUSED, REFUSED, DONE, REFUSED, REFUSED]
    ends = [world.end(lease, outcome) for lease, outcome in zip(leases, outcomes, strict=False)]
    for group in [ends] if together else [[end] for end in ends]:
        world.finish_all(group)
    assert world.found(world.batch()).state is BatchState.ACTIVE
    world.finish(leases[5], REFUSED)
    assert world.found(world.batch()).state is BatchState.PAUSED


def test_another_fault_begins_another_count(world: World) -> None:
    leases = begin(world, *(f"text {number}" for number in range(6)))
    other = replace(REFUSED, failure=Failure(Fault.BAD_REQUEST, "HTTP 400"))
    for lease, outcome in zip(leases, [REFUSED, REFUSED, other, REFUSED], strict=False):
        world.finish(lease, outcome)
    assert world.found(world.batch()).state is BatchState.ACTIVE


def test_the_last_open_documents_need_not_be_three_to_pause_but_dead_ones_must(
    world: World,
) -> None:
    one, two, three, four = begin(world, "one", "two", "three", "four")
    for lease in (one, two):
        world.finish(lease)
    dead = Dead("bad_request", Failure(Fault.BAD_REQUEST, "HTTP 400"), alike_pauses=True)
    world.finish(three, dead)
    assert world.found(world.batch()).state is BatchState.ACTIVE, "one bad document of four"
    world.finish(four, REFUSED)
    assert world.found(world.batch()).state is BatchState.PAUSED, "nobody else is left to ask"


def test_a_batch_that_has_ended_is_not_paused_any_more(world: World) -> None:
    leases = begin(world, "one", "two", "three")
    dead = Dead("bad_request", Failure(Fault.BAD_REQUEST, "HTTP 400"), alike_pauses=True)
    for lease in leases:
        world.finish(lease, dead)
    assert world.found(world.batch()).state is BatchState.ACTIVE


def test_a_cause_that_is_the_batchs_own_pauses_it_at_once(world: World) -> None:
    one, _ = begin(world, "one", "two")
    world.finish(
        one, replace(DEFERRED, pauses=Pauses.BATCH, failure=Failure(Fault.MODEL_GONE, "404"))
    )
    found = world.found(world.batch())
    assert (found.state, found.pause_reason) == (BatchState.PAUSED, "404")
    assert world.states(found) == {DocumentState.QUEUED: 1, DocumentState.RUNNING: 1}
