"""Retention: bodies of what ended long ago go, all that is known of it stays, workers go on."""

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner import retention
from runner.cli.exits import Exit
from runner.cli.shapes.retention import PrunedBodiesShape
from runner.cli.wording import age_us
from runner.errors import UsageError
from runner.ledger import Ledger, sweeping
from runner.ledger.pruning import Age, prunable, prune
from runner.ledger.space import space
from runner.model import Done
from tests.call_history import INVALID, Calls, completion, open_calls
from tests.ledgers import COST_NUSD, POSTGRES_URL, REVIEW

needs_home = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)
LONG_US = 100 * 86_400 * 1_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Calls]:
    with open_calls(tmp_path) as calls:
        yield calls


def past(world: Calls) -> Age:
    """All that has ended by now."""
    return Age(before_us=world.tick())


def blobs(world: Calls) -> int:
    with world.ledger.snapshot() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM blob").scalar_one())


def bodies_of(world: Calls, attempt_id: str) -> Any:
    return world.json("calls", "show", attempt_id)


@needs_home
def test_old_bodies_go_and_rows_records_costs_and_errors_stay(world: Calls) -> None:
    lease = world.says("an old invoice of Acme", {"seller": "Acme"})
    failed = world.says("an old letter", "words", INVALID)
    before = world.json("results", "b", "--out", str(world.home / "before.jsonl"))
    age = Age(before_us=world.tick(), dead_too=True)
    pruned = retention.prune(world.ledger, world.home, age)
    assert (pruned.documents, pruned.calls) == (2, 2)
    assert blobs(world) == 0
    shown = bodies_of(world, lease.attempt_id)
    assert (shown["request"], shown["answer"]) == (None, None)
    assert (shown["output"], shown["cost_usd"]) == ({"seller": "Acme"}, COST_NUSD / 1e9)
    assert bodies_of(world, failed.attempt_id)["message"] == 'total: not a decimal; got "abc"'
    document = world.json("show", lease.ticket.document_id)
    assert (document["text"], document["data"]) == (None, {"seller": "Acme"})
    assert document["pruned"] is not None
    after = world.json("results", "b", "--out", str(world.home / "after.jsonl"))
    assert before["lines"] == after["lines"] == 2
    assert (world.home / "before.jsonl").read_bytes() == (world.home / "after.jsonl").read_bytes()


def test_what_is_younger_or_has_not_ended_keeps_its_bodies(world: Calls) -> None:
    world.says("old", {})
    age = past(world)
    world.says("young", {})
    world.add(world.batch(), "waits", first_position=world.now_us)
    running = world.call_for()
    world.add(world.batch(), "waits too", first_position=world.now_us)
    assert retention.prune(world.ledger, world.home, age).documents == 1
    texts = [row.text_digest is not None for row in world.rows(world.batch())]
    assert sorted(texts) == [False, True, True, True]
    world.store(running, completion({}))
    world.finish(running)


def test_what_waits_for_a_person_is_spared_unless_it_is_named(world: Calls) -> None:
    world.says("dead", {}, INVALID)
    world.says("in review", {}, REVIEW)
    audited = world.says("drawn for an audit", {})
    world.sql("UPDATE record SET sampled = :yes WHERE document_id = :id", yes=True,
              id=audited.ticket.document_id)  # fmt: skip
    world.add(world.batch(), None, first_position=world.now_us)
    age = past(world)
    assert retention.prune(world.ledger, world.home, age).documents == 0
    dead_too = Age(before_us=age.before_us, dead_too=True)
    assert retention.prune(world.ledger, world.home, dead_too).documents == 4
    assert blobs(world) == 0


def test_an_audit_that_was_decided_is_waited_for_no_more(world: Calls) -> None:
    audited = world.says("drawn for an audit", {})
    id_ = audited.ticket.document_id
    world.sql("UPDATE record SET sampled = :yes", yes=True)
    world.sql(
        "INSERT INTO review (document_id, batch_id, decision, stratum, was_wrong, model, "
        "prompt_id, reviewer, at_us) "
        "VALUES (:id, :batch, 'accepted', 'sampled', :no, 'm', 'p', 'me', 1)",
        id=id_, batch=world.batch().id, no=False,
    )  # fmt: skip
    assert retention.prune(world.ledger, world.home, past(world)).documents == 1


def test_a_body_that_something_younger_shares_stays_for_it(world: Calls) -> None:
    world.says("the same letter", {"n": 1})
    age = past(world)
    world.add(world.batch("june"), "the same letter")
    lease = world.call_for()
    world.store(lease, completion({"n": 1}))  # the very same answer, too
    world.finish(lease)
    assert retention.prune(world.ledger, world.home, age).bodies == 0
    assert world.row(lease.ticket.document_id).text_digest is not None
    assert retention.prune(world.ledger, world.home, past(world)).bodies == 4


def test_pruning_again_drops_nothing_and_one_that_was_cut_off_is_finished(world: Calls) -> None:
    world.says("old", {})
    age = past(world)
    ids = [row.id for row in world.rows(world.batch())]
    with world.ledger.transaction() as connection:  # and then its process is killed
        assert prune(connection, ids, now_us=world.tick()) == 1
    assert blobs(world) == 4
    assert retention.prune(world.ledger, world.home, age).bodies == 4
    assert retention.prune(world.ledger, world.home, age) == retention.Pruned()


def test_a_dry_run_foretells_the_bytes(world: Calls) -> None:
    for number in range(3):
        world.says(f"old letter {number}", {"n": number})
    age = past(world)
    world.says("young", {})
    with world.ledger.snapshot() as connection:
        foretold = prunable(connection, age)
    pruned = retention.prune(world.ledger, world.home, age)
    assert (foretold.documents, foretold.calls, foretold.stored_bytes) == (
        pruned.documents,
        pruned.calls,
        pruned.stored_bytes,
    )


def test_a_text_that_is_submitted_again_while_it_is_being_dropped_stays(
    world: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.says("comes back", {})
    portions = sweeping._portions

    def in_between(listed: Any) -> Any:
        world.add(world.batch("june"), "comes back")
        return portions(listed)

    monkeypatch.setattr(sweeping, "_portions", in_between)
    retention.prune(world.ledger, world.home, past(world))
    (row,) = world.rows(world.batch("june"))
    lease = world.call_for()
    assert lease.ticket.document_id == row.id
    world.store(lease, completion({}))
    world.finish(lease)


def test_a_blob_that_was_listed_anew_is_not_dropped_by_an_older_look(
    world: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.says("comes back", {})
    portions = sweeping._portions

    def in_between(listed: Any) -> Any:
        for name in ("june", "july"):
            world.add(world.batch(name), "comes back")
        (june,) = world.rows(world.batch("june"))
        with world.ledger.transaction() as connection:  # another command drops one of the two
            prune(connection, [june.id], now_us=world.tick())
        world.sql("UPDATE document SET state = 'cancelled', finished_us = 1 WHERE id = :id",
                  id=june.id)  # fmt: skip
        return portions(listed)

    with monkeypatch.context() as patched:
        patched.setattr(sweeping, "_portions", in_between)
        retention.prune(world.ledger, world.home, past(world))
    (july,) = world.rows(world.batch("july"))
    assert july.text_digest is not None  # and `open_calls` looks whether it is there


def test_what_is_submitted_and_called_while_old_bodies_go_keeps_its_own(
    world: Calls, tmp_path: Path
) -> None:
    rng = Random(5)
    ended = threading.Event()
    failures: list[BaseException] = []

    def prune_on_and_on() -> None:
        ledger = Ledger(str(world.ledger._engine.url.render_as_string(hide_password=False)))
        try:
            while not ended.is_set():
                retention.prune(ledger, world.home, Age(before_us=2**60))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)
        finally:
            ledger.close()

    pruner = threading.Thread(target=prune_on_and_on)
    pruner.start()
    for number in range(60):
        world.add(world.batch(f"b{number}"), f"text {rng.randrange(5)}")
        lease = world.call_for()
        world.store(lease, completion({"n": rng.randrange(5)}))
        assert world.lost_bodies() == []
        world.finish(lease)
    ended.set()
    pruner.join()
    assert failures == []


@pytest.mark.skipif(POSTGRES_URL is not None, reason="an index is of SQLite ledgers")
def test_the_search_index_forgets_bodies_and_keeps_errors(world: Calls) -> None:
    text = "a letter " + "of many words " * 10 + "with lighthouse"
    world.says(text, {"seller": "Quillfeather"}, INVALID)
    young = world.says(text + " ", {"seller": "Yarrow"})
    assert len(world.ids("lighthouse")) == 2
    age = Age(before_us=world.attempt(young.attempt_id).created_us, dead_too=True)
    retention.prune(world.ledger, world.home, age)
    assert world.ids("quillfeather") == []
    assert world.ids("lighthouse") == world.ids("yarrow") == [young.attempt_id]
    assert len(world.ids("decimal")) == 1
    (home,) = {path for path in world.home.glob("search.db") if path.is_file()}
    assert b"quillfeather" not in home.read_bytes()


@needs_home
def test_space_goes_back_to_the_disk_when_nobody_would_have_to_wait(world: Calls) -> None:
    for number in range(20):
        noise = Random(number).randbytes(40_000).hex()
        world.says(f"{number} {noise}", {})
    held = space(world.ledger)
    kept = world.json("prune", "--bodies-older-than", "1d", "--no-vacuum", "--yes")
    assert list(kept) == list(PrunedBodiesShape.model_fields)
    assert (kept["documents"], kept["given_back_bytes"]) == (20, 0)
    assert kept["removed_bytes"] > 20 * 40_000
    assert kept["free_bytes"] > kept["removed_bytes"]
    given = world.json(
        "prune", "--bodies-older-than", "1d"
    )  # the worker of this world is long lost
    assert given["given_back_bytes"] >= kept["free_bytes"]
    now = space(world.ledger)
    assert held is not None
    assert now is not None
    assert (now.free_bytes, now.file_bytes < held.file_bytes / 4) == (0, True)


@needs_home
def test_the_command_tells_first_and_asks(world: Calls) -> None:
    world.says("old", {})
    dry = world.command("prune", "--bodies-older-than", "90d", "--dry-run")
    assert (dry.code, dry.out) == (0, "dry run: nothing was dropped\n")
    assert "1 document with 1 call ended before" in dry.err
    refused = world.command("prune", "--bodies-older-than", "90d")
    assert (refused.code, "add --yes" in refused.err) == (Exit.USAGE, True)
    done = world.command("prune", "--bodies-older-than", "90d", "--yes")
    assert done.out.startswith("dropped ")
    none = world.command("prune", "--bodies-older-than", "90d")
    assert (none.code, "0 documents with 0 calls" in none.err) == (0, True)


@needs_home
def test_batches_can_still_be_compared_once_they_are_pruned(world: Calls) -> None:
    for name in ("may", "june"):
        world.add(world.batch(name), "the same letter", f"only in {name}")
        world.turn(world.me)
    retention.prune(world.ledger, world.home, past(world))
    found = world.json("compare", "may", "june")
    assert (found["both"], found["same"], found["only_a"], found["only_b"]) == (1, 1, 1, 1)


@needs_home
def test_a_pruned_dead_letter_cannot_be_retried(world: Calls) -> None:
    lease = world.says("old", {}, INVALID)
    world.json("prune", "--bodies-older-than", "90d", "--dead-too", "--yes")
    retried = world.json("dead", "retry", lease.ticket.document_id)
    assert (retried["matched"], retried["without_text"], retried["retried"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("1d12h", 129_600), ("1D 6h", 108_000)],
)
def test_an_age_is_a_number_with_a_unit_or_several(typed: str, seconds: int) -> None:
    assert age_us(typed, option="--bodies-older-than") == seconds * 1_000_000


@pytest.mark.parametrize("typed", ["", "90", "d", "-1d", "90 days", "1.5d"])
def test_what_is_no_age_is_refused_by_name(typed: str) -> None:
    with pytest.raises(UsageError, match=r"--bodies-older-than .* is no age"):
        age_us(typed, option="--bodies-older-than")


def test_a_purged_dead_letter_s_text_is_gone_from_ledger_and_index(world: Calls) -> None:
    lease = world.says("purge me: lighthouse " * 10, {}, INVALID)
    world.says("another", Done("{}").data_json)
    assert len(world.ids("lighthouse")) == 1
    id_ = lease.ticket.document_id
    assert retention.purge(world.ledger, world.home, [id_]) == 1
    assert "lighthouse lighthouse" not in world.everything()
    assert world.row(id_).former_digest is not None
