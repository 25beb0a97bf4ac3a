"""Searching calls: what words find, what the index costs, and that it can be lost at any time."""

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.ledger.callfilters import CallFilter
from runner.ledger.space import rewrite
from runner.search.indexing import take_bite
from runner.search.keeper import SearchKeeper
from runner.search.query import clean, match_query
from runner.search.reading import read_through
from runner.search.search import lag, search
from runner.search.snippets import snippets
from runner.search.store import FILE, open_store
from tests.call_history import INVALID, Calls, completion, open_calls
from tests.ledgers import COST_NUSD, POSTGRES_URL

needs_index = pytest.mark.skipif(POSTGRES_URL is not None, reason="an index is of SQLite ledgers")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Calls]:
    with open_calls(tmp_path) as calls:
        yield calls


@pytest.fixture
def history(world: Calls) -> dict[str, str]:
    """Attempt ids: an invoice of Acme, one of Ünal whose answer failed, a letter."""
    leases = {
        "acme": world.says("Invoice of ACME Ltd. Total: 12.30 EUR", {"seller": "Acme", "n": [7]}),
        "ünal": world.says("Rechnung von Ünal & Söhne, zahlbar sofort", {"seller": "?"}, INVALID),
        "letter": world.says("Dear Ms. Fjällräven,\nplease pay", "I cannot read this letter"),
    }
    return {name: lease.attempt_id for name, lease in leases.items()}


# ------------------------------------------------------------ what is found


@pytest.mark.parametrize(
    ("words", "names", "where"),
    [
        ("acme", ["acme"], "answer"),
        ("INVOICE", ["acme"], "source"),
        ("fjallraven", ["letter"], "source"),
        ("unal sohne", ["ünal"], "source"),
        ("12.30", ["acme"], "source"),
        ('"ltd. total"', ["acme"], "source"),
        ('"total ltd"', [], ""),
        ("decimal", ["ünal"], "message"),
        ("zahl*", ["ünal"], "source"),
        ('"cannot read th"*', ["letter"], "answer"),
        ("seller", [], ""),  # the name of a field is in every answer
        ("acme letter", [], ""),  # not in one text
        ("invoice OR letter", [], ""),  # words, no operators
        ("read", ["letter"], "answer"),
    ],
)
def test_words_are_found_in_answers_errors_and_sources(
    world: Calls, history: dict[str, str], words: str, names: list[str], where: str
) -> None:
    found = world.find(words).hits
    assert [hit.attempt_id for hit in found] == [history[name] for name in names]
    assert {hit.where for hit in found} <= {where}


def test_a_text_longer_than_its_source_s_name_is_found_with_the_words_around_it(
    world: Calls,
) -> None:
    lease = world.says("x " * 100 + "the courts at the seat of the seller " + "y " * 100, {})
    (hit,) = world.find('"seat of the seller"').hits
    assert (hit.attempt_id, hit.where) == (lease.attempt_id, "text")
    assert hit.snippet is not None
    assert "the courts at the [seat of the seller] y" in hit.snippet.marked
    assert [hit.snippet.text[start:end] for start, end in hit.snippet.marks] == [
        "seat of the seller"
    ]
    assert len(hit.snippet.text) < 200


def test_the_newest_come_first_and_no_more_than_were_asked_for(world: Calls) -> None:
    leases = [world.says(f"same words {number}", {}) for number in range(5)]
    ids = [lease.attempt_id for lease in reversed(leases)]
    assert world.ids("same") == ids
    assert world.ids("same", limit=2) == ids[:2]


def test_each_filter_narrows_a_search(world: Calls, history: dict[str, str]) -> None:
    world.batch("other", job="letter", prompt_version="v7", prompt_id="p7")
    batch, middle = world.batch(), history["ünal"]
    at_us = world.attempt(middle).created_us
    assert world.ids("acme", batch_id=batch.id, model="small", job="invoice") == [history["acme"]]
    assert world.ids("acme", job="letter") == []
    assert world.ids("acme", batch_id="b0") == []
    assert world.ids("acme", prompt="v1") == [history["acme"]]
    assert world.ids("acme", prompt="p1") == [history["acme"]]
    assert world.ids("acme", prompt="v7") == []
    assert world.ids("unal", fault="schema_invalid") == [middle]
    assert world.ids("unal", fault="any") == [middle]
    assert world.ids("acme", fault="any") == []
    assert world.ids("unal", since_us=at_us, until_us=at_us + 1) == [middle]
    assert world.ids("unal", since_us=at_us + 1) == []
    assert world.ids("unal", until_us=at_us) == []
    assert world.ids("unal", min_cost_nusd=COST_NUSD) == [middle]
    assert world.ids("unal", min_cost_nusd=COST_NUSD + 1) == []
    document_id = world.attempt(middle).document_id
    assert world.ids("unal", document_id=document_id) == [middle]
    assert world.ids("acme", document_id=document_id) == []


@needs_index
def test_a_document_that_ended_without_a_call_is_found_by_its_error(world: Calls) -> None:
    batch = world.batch()
    world.add(batch, None)
    (hit,) = world.find("not a pdf").hits
    assert (hit.attempt_id, hit.document_id) == (None, world.rows(batch)[0].id)
    assert world.find("not a pdf", fault="unparsable").hits == (hit,)
    assert world.find("bad0").hits[0].where == "source"


def test_two_batches_with_one_text_are_both_found_and_the_text_is_indexed_once(
    world: Calls,
) -> None:
    text = "a long way to the harbour " * 5 + "lighthouse"
    ids: list[str] = []
    for name in ("one", "two"):
        world.add(world.batch(name), text)
        lease = world.call_for()
        world.store(lease, completion({}))
        world.finish(lease)
        ids.insert(0, lease.attempt_id)
    assert world.ids("lighthouse") == ids
    if world.ledger.is_sqlite:
        db = sqlite3.connect(world.home / FILE)
        assert db.execute("SELECT count(*) FROM content").fetchone() == (1,)
        db.close()


def test_a_call_is_found_once_it_has_ended_and_a_source_that_came_later_too(
    world: Calls,
) -> None:
    batch = world.batch()
    world.add(batch, "slow one")
    lease = world.call_for()
    assert world.ids("slow") == []
    world.says("quick one", {})
    world.store(lease, completion({"says": "at last"}))
    world.finish(lease)
    assert world.ids("slow") == world.ids('"at last"') == [lease.attempt_id]
    world.sql(
        "INSERT INTO source (batch_id, document_id, position, name) "
        "SELECT batch_id, id, position, 'copies/late.pdf' "
        f"FROM document WHERE id = '{lease.ticket.document_id}'"
    )
    assert world.ids("late") == [lease.attempt_id]


@needs_index
def test_what_was_said_by_a_retried_dead_letter_is_not_shown_as_its_state_now(
    world: Calls,
) -> None:
    batch = world.batch()
    world.add(batch, None)
    assert len(world.ids("not a pdf")) == 1
    world.sql("UPDATE document SET message = 'mended' WHERE state = 'dead'")
    assert world.ids("not a pdf") == []


# ------------------------------------------------------------ what is typed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ('"open', "a quotation mark is open"),
        ("", "nothing to search for"),
        ('""', "no letter and no digit"),
        ("--", "no letter and no digit"),
        ("*", "no letter and no digit"),
        ("a*", "at least 2 letters before the *"),
        ("a*b", "stands only behind a word"),
        ("x" * 1_001, "longer than 1,000 characters"),
        ("ab " * 21, "21 terms are more than 20"),
    ],
)
def test_words_that_cannot_be_searched_for_are_refused_with_what_is_wrong(
    words: str, told: str
) -> None:
    with pytest.raises(UsageError) as refused:
        match_query(words)
    assert told in str(refused.value)


SYNTAX = st.sampled_from(
    [
        "NEAR(",
        "AND",
        "OR",
        "NOT",
        "^",
        ":",
        "words:",
        "-",
        "+",
        "{",
        "}",
        "(",
        ")",
        '"',
        "*",
        "'",
        ";",
    ]
)
TYPED = st.lists(SYNTAX | st.text(max_size=8), max_size=8).map(" ".join)


@given(typed=TYPED)
@settings(max_examples=300)
def test_nothing_typed_is_syntax_of_the_search(typed: str) -> None:
    try:
        query = match_query(typed)
    except UsageError:
        return
    snippets(query, [(0, "a b", "c")])  # would raise what SQLite thinks of it


# letters of the ages of Unicode that SQLite and Python both know, controls, half surrogate pairs
LETTERS = st.characters(max_codepoint=0x24F) | st.sampled_from("δДж中文かな\ud800\u202e\x00")


@given(text=st.text(LETTERS, min_size=1, max_size=40))
def test_every_text_is_found_by_itself_as_a_phrase(text: str) -> None:
    try:
        query = match_query('"' + text.replace('"', " ").replace("*", " ") + '"')
    except UsageError:
        return  # nothing in it is a word
    assert list(snippets(query, [(7, clean(text), "")])) == [7]


# ------------------------------------------------------------ the index and its file


@needs_index
def test_the_index_holds_no_texts_and_is_its_owner_s_alone(
    world: Calls, history: dict[str, str]
) -> None:
    assert world.ids("acme")
    for path in world.home.glob(f"{FILE}*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes()
        assert b"zahlbar sofort" not in content
        assert b"cannot read" not in content


@needs_index
@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"no database" * 1_000),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:8_192] + b"\xff" * 60_000),
        lambda path: _change(path, "PRAGMA user_version = 99"),
        lambda path: _change(path, "UPDATE place SET ledger_id = 'another'"),
        lambda path: _change(path, "UPDATE place SET seen_id = 'a0'"),
    ],
)
def test_an_index_that_is_lost_damaged_or_not_of_this_ledger_is_made_anew(
    world: Calls, history: dict[str, str], harm: Any
) -> None:
    assert world.ids("acme")
    for name in ("-wal", "-shm"):
        (world.home / f"{FILE}{name}").unlink(missing_ok=True)
    harm(world.home / FILE)
    assert world.ids("acme") == [history["acme"]]
    assert world.ids("unal") == [history["ünal"]]


def _change(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


@needs_index
def test_an_index_goes_on_where_it_was_after_the_ledger_was_written_anew(
    world: Calls, history: dict[str, str]
) -> None:
    assert world.ids("acme")
    rewrite(world.ledger)
    store = open_store(world.home)
    assert take_bite(store, world.ledger).taken == 0
    world.says("a new one", {})
    assert lag(store, world.ledger) == 1
    store.close()
    assert len(world.ids("new")) == 1


@needs_index
def test_a_bite_that_is_cut_off_was_none(
    world: Calls, history: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(world.home)
    with monkeypatch.context() as patched:
        patched.setattr("runner.search.indexing.last_source", _broken)
        with pytest.raises(RuntimeError):
            take_bite(store, world.ledger)
    assert lag(store, world.ledger) == 3
    store.close()
    assert world.ids("acme") == [history["acme"]]


def _broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("killed")


@needs_index
def test_two_that_index_at_once_index_each_call_once(world: Calls) -> None:
    for number in range(20):
        world.says(f"number {number} alike", {"n": number})
    stores = [open_store(world.home) for _ in range(2)]
    while any(take_bite(store, world.ledger, calls_max=3).behind for store in stores):
        pass
    for store in stores:
        store.close()
    assert len(world.ids("alike", limit=50)) == 20


@needs_index
def test_a_search_says_how_far_its_index_is_behind(world: Calls) -> None:
    for number in range(60):
        world.says(f"number {number}", {})
    found = search(world.ledger, world.home, "number", CallFilter(limit=100), catch_up_max_s=0.0)
    assert (len(found.hits), found.behind, found.is_complete) == (50, 10, False)
    assert len(world.ids("number", limit=100)) == 60


@needs_index
def test_a_search_beside_one_who_holds_the_index_answers_from_what_is_in_it(world: Calls) -> None:
    world.says("Invoice of Acme", {})
    assert len(world.ids("acme")) == 1
    world.says("Another of Acme", {})
    store = open_store(world.home)
    with store.writing():
        found = search(world.ledger, world.home, "acme", CallFilter(), catch_up_max_s=0.05)
    store.close()
    assert (len(found.hits), found.behind, found.is_complete) == (1, 1, False)


@needs_index
def test_where_no_index_can_be_written_the_calls_are_read_through(
    world: Calls, history: dict[str, str], tmp_path: Path
) -> None:
    found = search(world.ledger, tmp_path / "nowhere", "acme", CallFilter())
    assert [hit.attempt_id for hit in found.hits] == [history["acme"]]


def test_reading_through_finds_what_the_index_finds(world: Calls, history: dict[str, str]) -> None:
    for words in ("acme", "pay*", "decimal", '"ltd total"', "please", "seller", "zahlbar unal"):
        query = match_query(words)
        hits, back_to_us = read_through(world.ledger, query, CallFilter(), most_s=60)
        assert (tuple(hits), back_to_us) == (world.find(words).hits, None)


def test_reading_through_ends_with_its_time_and_says_how_far_it_read(world: Calls) -> None:
    leases = [world.says(f"number {number}", {}) for number in range(20)]
    query = match_query("number")
    hits, back_to_us = read_through(world.ledger, query, CallFilter(), most_s=0)
    assert len(hits) == 16
    assert back_to_us == world.attempt(leases[4].attempt_id).created_us


# ------------------------------------------------------------ beside a worker's other duties


async def _until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a file gives no signal
            await asyncio.sleep(0.01)


async def _keep(keeper: SearchKeeper, condition: Any) -> None:
    task = asyncio.create_task(keeper.run())
    await _until(condition)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _behind(world: Calls) -> int:
    if not (world.home / FILE).exists():
        return -1
    store = open_store(world.home)
    try:
        return lag(store, world.ledger)
    finally:
        store.close()


@needs_index
async def test_the_worker_that_leads_keeps_the_index_up(
    world: Calls, history: dict[str, str]
) -> None:
    keeper = SearchKeeper(world.ledger, world.home, leads=lambda: True, is_quiet=lambda: True)
    await _keep(keeper, lambda: _behind(world) == 0)
    found = search(world.ledger, world.home, "acme", CallFilter(), catch_up_max_s=0)
    assert [hit.attempt_id for hit in found.hits] == [history["acme"]]


@needs_index
async def test_a_worker_that_does_not_lead_leaves_the_index_alone(
    world: Calls, history: dict[str, str]
) -> None:
    keeper = SearchKeeper(world.ledger, world.home, leads=lambda: False, is_quiet=lambda: True)
    assert await keeper._step() == 1.0
    assert not (world.home / FILE).exists()


@needs_index
async def test_trouble_with_the_index_is_told_and_ends_nothing(
    world: Calls, history: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (world.home / FILE).mkdir()
    keeper = SearchKeeper(world.ledger, world.home, leads=lambda: True, is_quiet=lambda: True)
    assert await keeper._step() == 30.0
    assert "runner: search index: IsADirectoryError" in capsys.readouterr().err
    (world.home / FILE).rmdir()
    await _keep(keeper, lambda: _behind(world) == 0)
