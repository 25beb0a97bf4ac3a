"""Erasure: what a content said is nowhere on disk, what it cost stays, and nobody else loses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from runner import retention
from runner.cli.exits import Exit
from runner.cli.shapes.retention import ErasedDocumentShape, ErasedShape
from runner.errors import UsageError
from runner.ledger.erasing import sharers
from runner.ledger.pruning import Age
from runner.ledger.tables import batch, eval_result, eval_run, event, key_pause, review
from runner.model import Dead, Failure, Fault
from tests.call_history import INVALID, SEARCH, Calls, completion, open_calls
from tests.ledgers import COST_NUSD, POSTGRES_URL, REVIEW
from tests.roads import Road

needs_home = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)
CANARY = "canarybirdofsmithfield"
LETTER = f"A letter of Ms. {CANARY}, who lives in Leeds. " + "It goes on. " * 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Calls]:
    with open_calls(tmp_path) as calls:
        yield calls


def erase(world: Calls, document_id: str, *, names_too: bool = False) -> list[str]:
    """Erase a document and all that share its content, as the command does; their ids."""
    with world.ledger.snapshot() as connection:
        ids = [one.document_id for one in sharers(connection, document_id)]
    retention.erase(world.ledger, world.home, ids, names_too=names_too)
    return ids


def files_with(home: Path, *needles: bytes) -> list[str]:
    """Files of the home in which one of these stands."""
    return [
        path.name
        for path in home.rglob("*")
        if path.is_file()
        for needle in needles
        if needle in path.read_bytes()
    ]


# ------------------------------------------------------------ nothing is left


@needs_home
def test_after_an_erasure_no_file_of_the_home_has_a_byte_of_the_text(
    road: Road, tmp_path: Path
) -> None:
    path = road.write_documents(4)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["text"] = lines[0]["text"].replace("\n", f"\nReference {CANARY}\n", 1)
    lines[0]["id"] = f"letters/{CANARY}.txt"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = str(tmp_path / "out.jsonl")
    run = ("run", "invoice", str(path), "--batch", "june", "--out", out)
    assert road.call(*run).returncode in (0, 3)
    hits = road.json(*SEARCH, CANARY)["calls"]
    assert hits
    document_id = hits[0]["document_id"]
    with road.ledger() as ledger, ledger.snapshot() as connection:
        packed = [
            bytes(row.zstd)
            for row in connection.exec_driver_sql(
                "SELECT zstd FROM blob JOIN document ON digest = text_digest "
                f"WHERE document.id = '{document_id}' UNION SELECT zstd FROM blob JOIN attempt "
                f"ON digest = answer_digest WHERE document_id = '{document_id}'"
            )
        ]
    needles = [CANARY.encode(), *packed]
    assert files_with(road.home, *needles)
    erased = road.json("erase", document_id, "--names-too", "--yes")
    assert erased["erased"] == 1
    assert files_with(road.home, *needles) == []
    assert road.json(*SEARCH, CANARY)["calls"] == []
    assert road.json(*SEARCH, "invoice")["calls"]
    assert files_with(road.home, *needles) == []
    assert road.json("audit")["balanced"] is True


def test_whatever_column_quotes_the_text_is_cleaned(world: Calls) -> None:
    quoted = f"HTTP 400: bad input near {CANARY!r}"
    bad = Dead("bad_request", Failure(Fault.BAD_REQUEST, quoted))
    lease = world.says(LETTER, {"name": CANARY}, bad)
    id_, batch_id = lease.ticket.document_id, world.batch().id
    world.sql(
        "UPDATE document SET reask_json = :one, first_read_json = :two, signature = :three "
        "WHERE id = :id",
        one=json.dumps(CANARY), two=json.dumps(CANARY), three=CANARY, id=id_,
    )  # fmt: skip
    world.sql("UPDATE attempt SET headers_json = :it", it=json.dumps({"x-echo": CANARY}))
    with world.ledger.transaction() as connection:
        for table, values in _quoting_rows(id_, batch_id, quoted):
            connection.execute(insert(table).values(values))
        connection.execute(
            batch.update().values(pause_reason=f"3 documents failed alike: {quoted}")
        )
    assert world.everything().count(CANARY) > 15
    erase(world, id_, names_too=True)
    assert CANARY not in world.everything()
    found = world.found(world.batch())
    assert found.pause_reason == "3 documents failed alike: erased"


def _quoting_rows(id_: str, batch_id: str, quoted: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    its = json.dumps({"name": CANARY})
    same = {"batch_id": batch_id, "document_id": id_}
    yield review, same | {
        "decision": "corrected", "stratum": "flagged", "was_wrong": True, "before_json": its,
        "after_json": its, "model": "m", "prompt_id": "p", "reviewer": "me", "note": CANARY,
        "at_us": 1,
    }  # fmt: skip
    yield eval_run, {
        "id": "e1", "job": "invoice", "prompt_version": "v1", "prompt_id": "p", "models_json": "[]",
        "gold_digest": "g", "verdict": "PASS", "summary_json": "{}", "created_us": 1,
    }  # fmt: skip
    yield eval_result, {
        "run_id": "e1", "prompt_id": "p", "case_id": "c", "repeat": 0, "document_id": id_,
        "state": "done", "outcomes_json": its,
    }  # fmt: skip
    yield event, same | {"at_us": 1, "kind": "internal_error", "message": quoted}
    yield event, {
        "batch_id": batch_id, "at_us": 1, "kind": "batch_paused", "message": f"alike: {quoted}",
    }  # fmt: skip
    yield key_pause, {
        "scope": "key:y1", "name": "KEY", "fault": "bad_key", "reason": quoted, "since_us": 1,
    }  # fmt: skip


@pytest.mark.skipif(POSTGRES_URL is not None, reason="an index is of SQLite ledgers")
def test_the_index_forgets_and_does_not_learn_again(world: Calls) -> None:
    erased = world.says(LETTER, {"name": CANARY}, INVALID)
    other = world.says("Another letter that goes on", {"name": "Smith"}, INVALID)
    assert len(world.ids(CANARY)) == 1
    erase(world, erased.ticket.document_id)
    assert world.ids("goes") == world.ids("decimal") == [other.attempt_id]
    assert world.ids(CANARY) == [erased.attempt_id]  # by the name of its source, which was kept
    (world.home / "search.db").unlink()
    assert world.ids("goes", limit=1) == [other.attempt_id]
    assert world.ids("decimal") == [other.attempt_id]
    erase(world, erased.ticket.document_id, names_too=True)
    assert world.ids(CANARY) == []
    assert files_with(world.home, CANARY.encode()) == []


# ------------------------------------------------------------ everybody who has it, nobody else


def test_every_document_with_the_content_is_erased_and_no_other_one(world: Calls) -> None:
    first = world.says(LETTER, {"name": CANARY})
    retention.prune(world.ledger, world.home, Age(before_us=world.tick()))  # its text is gone
    world.add(world.batch("june"), LETTER, "Another letter")
    for ticket in world.feed(world.me):
        lease = world.claim(ticket, world.me)
        world.store(lease, completion({"n": lease.attempt_id}))
        world.finish(lease)
    world.add(world.batch("july"), LETTER)
    (waits,) = world.rows(world.batch("july"))
    same, other = world.rows(world.batch("june"))
    assert erase(world, waits.id) == [first.ticket.document_id, same.id, waits.id]
    assert world.row(other.id).erased_us is None
    assert world.row(other.id).text_digest is not None
    assert CANARY not in world.everything().replace(LETTER[:60], "")  # as their sources are named


@pytest.mark.parametrize("outcome", [None, INVALID, REVIEW], ids=["done", "dead", "review"])
def test_an_erased_document_keeps_its_cost_and_ends_as_it_was_or_dead(
    world: Calls, outcome: Any
) -> None:
    lease = world.says(LETTER, {"name": CANARY}, outcome)
    before = world.row(lease.ticket.document_id)
    for _ in range(2):  # doing it again changes nothing
        erase(world, before.id)
        after = world.row(before.id)
        assert (after.cost_nusd, after.calls) == (before.cost_nusd, 1)
        assert after.cost_nusd == COST_NUSD
        assert after.state == ("done" if outcome is None else "dead")
        assert (after.reason, after.text_digest) == ("erased", None)
        assert world.problems() == ()
    assert world.attempt(lease.attempt_id).cost_nusd == COST_NUSD


def test_a_document_that_waits_is_never_called_once_erased(world: Calls) -> None:
    world.add(world.batch(), LETTER, "fed letter")
    (ticket, fed) = world.feed(world.me)
    erase(world, ticket.document_id)
    assert world.try_claim(ticket, world.me) == "stale"
    world.claim(fed, world.me)


def test_an_erasure_is_refused_while_a_call_is_under_way_or_unread(world: Calls) -> None:
    world.add(world.batch(), LETTER)
    lease = world.call_for()
    for _ in range(2):
        before = world.everything()
        with pytest.raises(UsageError, match="is being called, or its answer is about to be read"):
            erase(world, lease.ticket.document_id)
        assert world.everything() == before
        world.store(lease, completion({"name": CANARY}))  # and then it is killed: read again later
        world.sql("UPDATE document SET state = 'queued', lease_token = NULL, worker_id = NULL")
    world.sql("UPDATE document SET state = 'running', lease_token = 'l', worker_id = 'w'")
    world.sql("UPDATE document SET lease_token = :token", token=lease.token)
    world.finish(lease)
    erase(world, lease.ticket.document_id)


# ------------------------------------------------------------ as a command


@needs_home
def test_the_command_lists_first_asks_and_says_what_was_erased(world: Calls) -> None:
    lease = world.says(LETTER, {"name": "x"})
    id_ = lease.ticket.document_id
    refused = world.command("erase", id_)
    assert (refused.code, "add --yes" in refused.err) == (Exit.USAGE, True)
    assert id_ in refused.out
    assert "x" in json.dumps(world.json("show", id_)["data"])
    printed = world.json("erase", id_, "--yes")
    assert list(printed) == list(ErasedShape.model_fields)
    assert list(printed["documents"][0]) == list(ErasedDocumentShape.model_fields)
    assert (printed["documents"][0]["state"], printed["documents"][0]["cost_usd"]) == (
        "done",
        COST_NUSD / 1e9,
    )
    again = world.json("erase", id_, "--yes")
    assert again["documents"][0]["erased_before"] is not None


@needs_home
def test_results_say_erased_and_still_what_it_cost(world: Calls) -> None:
    lease = world.says(LETTER, {"name": "x"})
    world.says("another", {"name": "y"})
    erase(world, lease.ticket.document_id)
    out = world.command("results", "b").out.splitlines()
    first, second = map(json.loads, out)
    assert (first["status"], first["data"], first["flags"]) == ("done", None, ["erased"])
    assert first["error"]["reason"] == "erased"
    assert first["error"]["message"].startswith("erased at ")
    assert first["cost_usd"] == second["cost_usd"] == COST_NUSD / 1e9
    assert (second["data"], second["error"]) == ({"name": "y"}, None)


@needs_home
def test_an_erased_dead_letter_cannot_be_retried_and_says_so(world: Calls) -> None:
    lease = world.says(LETTER, {}, INVALID)
    erase(world, lease.ticket.document_id)
    refused = world.command("dead", "retry", lease.ticket.document_id)
    assert (refused.code, "was erased at" in refused.err) == (Exit.USAGE, True)
    assert world.json("dead", "retry", "--batch", "b")["retried"] == 0


def test_an_erased_content_stays_erased_in_its_batch_and_is_new_in_another(world: Calls) -> None:
    lease = world.says(LETTER, {})
    erase(world, lease.ticket.document_id)
    world.add(world.batch(), LETTER, first_position=9)
    assert world.feed(world.me) == []
    assert "It goes on." not in world.everything()
    world.add(world.batch("anew"), LETTER)
    assert world.row(world.feed(world.me)[0].document_id).text_digest is not None


def test_names_of_sources_stay_unless_they_are_named(world: Calls) -> None:
    lease = world.says("short", {})
    id_ = lease.ticket.document_id
    world.sql(
        "INSERT INTO source (batch_id, document_id, position, name) "
        "SELECT batch_id, id, position, 'copy' FROM document"
    )
    erase(world, id_)
    with world.ledger.snapshot() as connection:
        assert sharers(connection, id_)[0].sources == ("short", "copy")
    erase(world, id_, names_too=True)
    with world.ledger.snapshot() as connection:
        names = sharers(connection, id_)[0].sources
    assert len(set(names)) == 2
    assert all(name.startswith("erased ") for name in names)


def test_a_document_without_text_is_erased_alone(world: Calls) -> None:
    world.add(world.batch(), None, "other")
    bad, _ = world.rows(world.batch())
    assert erase(world, bad.id) == [bad.id]
    assert world.row(bad.id).message.startswith("erased at")
