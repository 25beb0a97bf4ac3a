"""The call log: exact request bytes put together again, documents with their history."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import (
    call_bodies,
    document_calls,
    events,
    find_call,
    find_documents,
    join_request,
    list_calls,
    split_request,
    view_document,
)
from runner.ledger.pausing import pause_batch
from runner.ledger.results import results
from tests.ledgers import COST_NUSD, DEAD, REVIEW, TRANSIENT, World, open_world

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", '"', "\\", "\\u0000", "\0", "\x1f\x7f\u2028", "{}", "system", "\U0001f600", "a" * 70_000]
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


@given(before=TEXTS, text=TEXTS, after=TEXTS)
def test_a_request_is_put_together_again_byte_for_byte(before: str, text: str, after: str) -> None:
    body = to_json({"messages": [{"role": "system"}, {"content": before + text + after}]})
    head, tail = split_request(body, text)
    if text:
        assert tail is not None, "the text stands in the request"
    else:
        assert tail is None
    assert (head if tail is None else join_request(head, text, tail)) == body


@given(body=st.binary(max_size=200), text=TEXTS)
def test_a_request_without_the_text_is_kept_whole(body: bytes, text: str) -> None:
    head, tail = split_request(body, text)
    assert (head if tail is None else join_request(head, text, tail)) == body


def test_the_exact_bytes_of_a_call_are_restored_from_what_is_stored_once(world: World) -> None:
    text = 'a "quoted"\nline \\ and \u2028 \U0001f600'
    batch, me = world.batch(), world.worker()
    world.add(batch, text)
    body = to_json({"user": f"<document>\n{text}\n</document>"})
    head, tail = split_request(body, text)
    (ticket,) = world.feed(me)
    lease = world.claim(ticket, me, request_head=head, request_tail=tail)
    world.store(lease, b'{"id": 1}')
    with world.ledger.snapshot() as connection:
        bodies = call_bodies(connection, lease.attempt_id)
    assert (bodies.request, bodies.answer) == (body, b'{"id": 1}')
    assert bodies.headers == {"date": "today"}
    assert b"quoted" not in head + (tail or b"")


def test_a_request_that_does_not_hold_the_text_is_restored_too(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "text")
    (ticket,) = world.feed(me)
    lease = world.claim(ticket, me, request_head=b'{"whole": 1}', request_tail=None)
    with world.ledger.snapshot() as connection:
        bodies = call_bodies(connection, lease.attempt_id)
    assert (bodies.request, bodies.answer, bodies.headers) == (b'{"whole": 1}', None, {})


def test_a_request_whose_text_was_removed_is_absent(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "text")
    lease = world.turn(me)[0]
    world.sql("UPDATE document SET text_digest = NULL")
    with world.ledger.snapshot() as connection:
        assert call_bodies(connection, lease.attempt_id).request is None
        assert view_document(connection, lease.ticket.document_id).text is None


def test_calls_are_listed_newest_first_and_narrowed_by_each_filter(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one", "two")
    first = world.turn(me, TRANSIENT)
    second = world.turn(me)
    ids = [lease.attempt_id for lease in first + second]
    id_ = first[0].ticket.document_id
    with world.ledger.snapshot() as connection:
        assert [call.id for call in list_calls(connection, CallFilter())] == ids[::-1]
        assert len(list_calls(connection, CallFilter(limit=3))) == 3
        assert list_calls(connection, CallFilter(model="huge")) == []
        assert len(list_calls(connection, CallFilter(batch_id=batch.id, model="small"))) == 4
        failed = list_calls(connection, CallFilter(fault="server_error", document_id=id_))
        assert [call.id for call in failed] == [first[0].attempt_id]
        assert [call.number for call in document_calls(connection, id_)] == [1, 2]
        assert find_call(connection, ids[0]) == failed[0]
        assert find_call(connection, "a0") is None


def test_a_document_is_found_by_id_by_the_beginning_of_it_and_by_source(world: World) -> None:
    batch = world.batch()
    world.add(batch, "one", "two")
    id_ = world.rows(batch)[0].id
    with world.ledger.snapshot() as connection:
        assert find_documents(connection, id_) == [id_]
        assert find_documents(connection, id_[:12]) == [id_]
        assert find_documents(connection, "one") == [id_]
        assert find_documents(connection, "%") == []
        assert find_documents(connection, "d_") == []


def test_a_document_is_shown_with_all_that_is_known_of_it(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    lease = world.turn(me, REVIEW)[0]
    with world.ledger.snapshot() as connection:
        view = view_document(connection, lease.ticket.document_id)
    assert (view.batch_name, view.job, view.state, view.text) == ("b", "invoice", "review", "one")
    assert (view.data, view.flags, view.sources, view.model) == (
        {"a": 2},
        ("sum",),
        ("one",),
        "small",
    )
    assert (view.calls, view.cost_nusd, view.reason, view.message) == (
        1,
        COST_NUSD,
        "check_failed",
        "sum differs",
    )


def test_a_document_without_a_record_or_a_price_shows_none(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one")
    lease = world.turn(me, DEAD, cost_nusd=None)[0]
    with world.ledger.snapshot() as connection:
        view = view_document(connection, lease.ticket.document_id)
    assert (view.data, view.flags, view.model, view.cost_nusd) == (None, (), None, None)


def test_events_are_told_newest_first_of_one_document_or_of_all(world: World) -> None:
    batch = world.batch()
    with world.ledger.transaction() as connection:
        pause_batch(connection, batch.id, "wait", now_us=world.tick())
    with world.ledger.snapshot() as connection:
        assert [(one.kind, one.message) for one in events(connection)] == [("batch_paused", "wait")]
        assert events(connection, document_id="d") == []


def test_results_give_every_source_and_put_the_money_on_the_first(world: World) -> None:
    batch, me = world.batch(), world.worker()
    world.add(batch, "one", "two")
    world.turn(me)
    world.sql(
        "INSERT INTO source (batch_id, document_id, position, name) "
        "SELECT batch_id, id, position, 'copy' FROM document WHERE position = 0"
    )
    with world.ledger.snapshot() as connection:
        found = list(results(connection, batch.id))
    assert [(one.source, one.calls, one.cost_nusd) for one in found] == [
        ("one", 1, COST_NUSD),
        ("two", 1, COST_NUSD),
        ("copy", 0, 0),
    ]
    assert [one.data for one in found] == [{"a": 1}] * 3
