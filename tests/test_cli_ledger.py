"""The commands that look at the ledger and steer it, over a real one with a history."""

import csv
import json
import stat
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from runner.cli.exits import Exit
from runner.cli.shapes.batches import BatchChangedShape, BatchShape, ResultsShape
from runner.cli.shapes.call import CallDetailShape
from runner.cli.shapes.calls import CallListShape, CallShape, TraceShape
from runner.cli.shapes.dead import DeadGroupShape, DeadListShape, LetterShape, RetriedShape
from runner.cli.shapes.documents import DocumentShape
from runner.cli.shapes.home import AuditShape
from runner.cli.shapes.status import (
    PausedKeyShape,
    QueueShape,
    StatusShape,
    TodayShape,
    WorkerShape,
)
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import list_calls
from runner.ledger.keypauses import pause_key
from runner.ledger.money import day_scope
from runner.ledger.pausing import pause_batch
from runner.ledger.speed import documents_per_s
from runner.ledger.submission import Batch, finish_submission
from runner.model import AttemptState, Dead, Done, Evidence, Failure, Fault, How, Pauses
from runner.pinned import PinnedJobs
from tests.command_lines import Ended, call
from tests.ledgers import COST_NUSD, DEAD, POSTGRES_URL, REVIEW, World, lane_of, open_world

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)

HOSTILE = "\x1b[2Jscan\u202e fdp.pdf"


class Home(World):
    """A world whose ledger the commands of `home` open."""

    home: Path

    def call(self, *arguments: str) -> Ended:
        """Call a command over this world."""
        return call(*arguments, home=self.home)

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json; it must end well."""
        ended = self.call(*arguments, "--json")
        assert ended.code == 0, ended.err
        return ended.json()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Home]:
    with open_world(tmp_path) as found:
        home = Home(found.ledger)
        home.home = tmp_path / "home"
        yield home


@pytest.fixture
def history(world: Home) -> Batch:
    """Batch `june`: two done, one dead, one to review, one unparsable, one waiting."""
    pinned = PinnedJobs(()).live("invoice", version=None, models=())
    batch = world.batch("june", prompt_id=pinned.prompt_id, models=pinned.models)
    worker = world.worker()
    world.add(batch, "one", "two")
    world.turn(worker, Done('{"total": "12.30", "note": "\\u001b[31m"}', ("repaired",)))
    world.add(batch, HOSTILE, first_position=2)
    world.turn(worker, Dead("bad_request", Failure(Fault.BAD_REQUEST, "HTTP 400: \x1b[2Jno")))
    world.add(batch, "unsure", first_position=3)
    world.turn(worker, REVIEW)
    world.add(batch, "waits", None, first_position=4)
    with world.ledger.transaction() as connection:
        finish_submission(connection, batch.id, rejected=0)
    return batch


def assert_closed(shape: type[BaseModel], printed: Any) -> None:
    """What was printed has exactly the fields of the model, in their order."""
    assert list(printed) == list(shape.model_fields)


# ------------------------------------------------------------ status


def test_status_tells_depth_progress_and_spend_under_fixed_keys(
    world: Home, history: Batch
) -> None:
    printed = world.json("status", "june")
    assert_closed(StatusShape, printed)
    assert_closed(QueueShape, printed["queue"])
    assert_closed(TodayShape, printed["today"])
    assert_closed(BatchShape, printed["batches"][0])
    assert_closed(WorkerShape, printed["workers"][0])
    counted = {name: printed["queue"][name] for name in ("queued", "done", "review", "dead")}
    assert counted == {"queued": 1, "done": 2, "review": 1, "dead": 2}
    assert printed["queue"]["oldest_age_s"] > 0
    assert printed["batches"][0]["cost_usd"] == 4 * COST_NUSD / 1e9
    assert printed["workers"][0]["lost"] is True


def test_status_tells_what_today_has_cost_and_may_cost(world: Home) -> None:
    batch = world.batch("june", models=("gpt-5-mini",))
    world.now_us = time.time_ns() // 1_000
    world.add(batch, "one")
    world.turn(world.worker(), Done("{}"))
    assert world.json("status")["today"]["budget_usd"] is None
    assert world.call("batch", "resume", "june", "--day-budget-usd", "50").code == 0
    today = world.json("status")["today"]
    assert (today["cost_usd"], today["budget_usd"]) == (COST_NUSD / 1e9, 50)
    assert "today: 0.0000009 USD of 50.00 USD" in world.call("status").out


def test_status_of_a_home_without_a_ledger_is_empty_and_makes_none(tmp_path: Path) -> None:
    ended = call("status", "--json", home=tmp_path / "home")
    assert (ended.code, ended.json()["queue"]["queued"]) == (0, 0)
    assert not (tmp_path / "home").exists()


def test_status_for_people_names_the_reason_of_a_pause_and_what_goes_on(
    world: Home, history: Batch
) -> None:
    world.call("batch", "pause", "june", "--why", "looks wrong")
    ended = world.call("status")
    assert "june is paused: looks wrong" in ended.out
    assert "`runner batch resume june`" in ended.err


def test_speed_counts_distinct_records_of_recent_calls(world: Home, history: Batch) -> None:
    with world.ledger.snapshot() as connection:
        calls = list_calls(connection, CallFilter())
    first_us = min(one.created_us for one in calls)
    timed = [one for one in calls if one.fault is None]
    assert len(timed) == 2
    assert documents_per_s(calls, now_us=first_us + 10_000_000) is None  # they have no latency
    assert documents_per_s([], now_us=first_us) is None


# ------------------------------------------------------------ results, show


def test_results_are_lines_of_json_that_a_terminal_only_shows(world: Home, history: Batch) -> None:
    ended = world.call("results", "june")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["status"] for line in lines] == [
        *("done", "done", "dead", "review", "queued", "dead")
    ]
    assert lines[2]["source"] == HOSTILE
    assert all(line.isprintable() for line in ended.out.splitlines())
    assert ended.err == "1 document of june had not ended yet\n"


def test_results_go_to_a_private_file_whole(world: Home, history: Batch, tmp_path: Path) -> None:
    out = tmp_path / "june.csv"
    printed = world.json("results", "june", "--out", str(out))
    assert_closed(ResultsShape, printed)
    assert (printed["lines"], printed["unfinished"]) == (6, 1)
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(4 * COST_NUSD) / 10**9
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_document_is_found_by_id_beginning_of_id_and_source(world: Home, history: Batch) -> None:
    document_id = world.json("show", "one")["document_id"]
    assert world.json("show", document_id)["sources"] == ["one"]
    assert world.json("show", document_id[:12])["sources"] == ["one"]


def test_show_tells_all_that_is_known_of_a_document(world: Home, history: Batch) -> None:
    printed = world.json("show", "one")
    assert_closed(DocumentShape, printed)
    assert_closed(CallShape, printed["calls"][0])
    assert printed["data"] == {"total": "12.30", "note": "\x1b[31m"}
    assert (printed["state"], printed["text"], printed["flags"]) == ("done", "one", ["repaired"])
    people = world.call("show", "one")
    assert '"total": "12.30"' in people.out
    assert "\x1b" not in people.out


def test_a_page_of_a_document_marks_its_evidence(world: Home, tmp_path: Path) -> None:
    batch = world.batch("june")
    world.add(batch, "Acme owes 12.50")
    found = (Evidence("total", 10, 15, How.EXACT),)
    world.turn(world.worker(), Done('{"total":12.5}', evidence=found))
    (line,) = world.call("results", "june", "--out", "-").out.splitlines()
    name = json.loads(line)["document_id"]
    shown = world.json("show", name)
    assert shown["evidence"] == [{"path": "total", "start": 10, "end": 15, "how": "exact"}]
    assert "line 1: 12.50" in world.call("show", name).out
    page = tmp_path / "page.html"
    ended = world.call("show", name, "--html", str(page))
    assert (ended.code, ended.out) == (0, "")
    assert str(page) in ended.err
    assert '<mark id="at-total" title="total">12.50</mark>' in page.read_text()
    missing = world.call("show", name, "--html", str(tmp_path / "no" / "page.html"))
    assert missing.code == Exit.USAGE
    assert "create it first" in missing.err


def test_a_name_that_several_documents_have_is_answered_with_their_list(world: Home) -> None:
    for name in ("a", "b"):
        world.add(world.batch(name), "same")
    ended = world.call("show", "same")
    assert ended.code == Exit.USAGE
    assert "means several documents" in ended.err
    assert ended.err.count("queued") == 2


def test_what_is_not_there_ends_with_2(world: Home, history: Batch) -> None:
    for arguments in (("show", "nothing"), ("calls", "show", "a1"), ("results", "juni")):
        assert world.call(*arguments).code == Exit.USAGE
    assert "did you mean june?" in world.call("results", "juni").err


# ------------------------------------------------------------ dead letters


def test_dead_letters_are_grouped_and_named_one_by_one(world: Home, history: Batch) -> None:
    groups = world.json("dead", "list", "--batch", "june")
    assert_closed(DeadListShape, groups)
    assert_closed(DeadGroupShape, groups["groups"][0])
    assert {group["reason"] for group in groups["groups"]} == {"bad_request", "unparsable"}
    letters = world.json("dead", "list", "--all", "--reason", "bad_request")["letters"]
    assert_closed(LetterShape, letters[0])
    assert letters[0]["source"] == HOSTILE
    people = world.call("dead", "list", "--all")
    assert "\x1b" not in people.out
    assert "\u202e" not in people.out
    assert "scan fdp.pdf" in people.out


def test_filters_of_dead_letters_choose(world: Home, history: Batch) -> None:
    chosen = {
        "none": ("--since", "1h"),
        "both": ("--since", "2001-01-01"),
        "by word": ("--grep", "http 400"),
        "one": ("--limit", "1"),
    }
    counts = {
        name: len(world.json("dead", "list", "--all", *options)["letters"])
        for name, options in chosen.items()
    }
    # the unparsable one died at the time of this world, long ago
    assert counts == {"none": 0, "both": 2, "by word": 1, "one": 1}


def test_a_dead_letter_is_shown_with_its_calls_and_a_living_document_is_not(
    world: Home, history: Batch
) -> None:
    printed = world.json("dead", "show", HOSTILE)
    assert printed["calls"][0]["fault"] == "bad_request"
    ended = world.call("dead", "show", "one")
    assert (ended.code, "is done, not dead" in ended.err) == (Exit.USAGE, True)


def test_retry_prices_first_retries_once_and_names_who_works(world: Home, history: Batch) -> None:
    planned = world.call("dead", "retry", "--batch", "june", "--dry-run", "--json")
    shape = planned.json()
    assert_closed(RetriedShape, shape)
    assert (shape["matched"], shape["without_text"], shape["retried"]) == (2, 1, 0)
    assert 0 < shape["expected_usd"] < shape["worst_usd"]
    assert "expected cost" in planned.err
    again = world.call("dead", "retry", "--batch", "june")
    assert (again.code, again.out) == (0, "retried 1\n")
    assert "no worker is running: `runner work --until-empty`" in again.err
    assert world.json("dead", "retry", "--batch", "june")["retried"] == 0


def test_retry_takes_documents_by_name(world: Home, history: Batch) -> None:
    assert world.json("dead", "retry", "one")["matched"] == 0
    assert world.json("dead", "retry", HOSTILE)["retried"] == 1


def test_retry_with_a_version_that_is_not_locked_changes_nothing(
    world: Home, history: Batch
) -> None:
    assert world.call("dead", "retry", "--prompt", "v99").code == Exit.USAGE
    assert len(world.json("dead", "list", "--all")["letters"]) == 2


def test_a_batch_that_no_job_can_price_any_more_is_retried_and_says_so(world: Home) -> None:
    world.add(world.batch("old"), "text")
    world.turn(world.worker(), DEAD)
    ended = world.call("dead", "retry", "--json")
    assert ended.json()["retried"] == 1
    assert ended.json()["expected_usd"] is None
    assert "not priced: job invoice" in ended.err


def test_purge_asks_and_without_anyone_to_ask_wants_yes(world: Home, history: Batch) -> None:
    refused = world.call("dead", "purge")
    assert (refused.code, "add --yes" in refused.err) == (Exit.USAGE, True)
    assert world.json("dead", "purge", "--yes") == {"purged": 1}
    assert world.json("dead", "purge", "--yes") == {"purged": 0}
    assert world.json("dead", "retry")["without_text"] == 2


def test_dead_letters_are_exported_as_lines(world: Home, history: Batch, tmp_path: Path) -> None:
    out = tmp_path / "dead.jsonl"
    assert world.json("dead", "export", "--out", str(out)) == {"file": str(out), "letters": 2}
    lines = out.read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert_closed(LetterShape, json.loads(line))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert world.call("dead", "export").out.splitlines() == lines
    assert world.call("dead", "export", "--out", str(tmp_path / "no" / "x")).code == Exit.USAGE


# ------------------------------------------------------------ batches


def test_batches_are_listed_paused_resumed_and_cancelled(world: Home, history: Batch) -> None:
    listed = world.json("batch", "list")["batches"]
    assert [batch["batch"] for batch in listed] == ["june"]
    paused = world.json("batch", "pause", "june", "--why", "wait")
    assert_closed(BatchChangedShape, paused)
    assert (paused["state"], paused["pause_reason"]) == ("paused", "wait")
    resumed = world.json("batch", "resume", "june", "--budget-usd", "8")
    assert (resumed["state"], resumed["budget_usd"]) == ("active", 8)
    refused = world.call("batch", "cancel", "june")
    assert (refused.code, "add --yes" in refused.err) == (Exit.USAGE, True)
    assert world.json("batch", "cancel", "june", "--yes")["cancelled"] == 1
    for what in ("pause", "resume"):
        again = world.call("batch", what, "june")
        assert (again.code, "another --batch name" in again.err) == (Exit.USAGE, True)


def test_a_budget_that_cannot_be_kept_is_refused(world: Home) -> None:
    world.add(world.batch("odd", models=("nobody-knows-it",)), "text")
    ended = world.call("batch", "resume", "odd", "--budget-usd", "1")
    assert (ended.code, "no price is known" in ended.err) == (Exit.USAGE, True)


def pause_key_of(world: Home, *names: str) -> None:
    """Batches of these names, all of which met a key without money."""
    worker = world.worker()
    for name in names:
        world.add(world.batch(name, models=("gpt-5-mini",)), f"text of {name}")
    for ticket in world.feed(worker):
        batch_id = world.row(ticket.document_id).batch_id
        with world.ledger.transaction() as connection:
            failure = Failure(Fault.MONEY_OUT, "HTTP 429: no credit")
            pause_key(
                connection,
                batch_id,
                lane=lane_of(),
                pauses=Pauses.KEY,
                failure=failure,
                now_us=world.tick(),
            )


def test_status_names_the_paused_keys_and_a_resume_lets_all_their_batches_go_on(
    world: Home,
) -> None:
    pause_key_of(world, "a", "b")
    status = world.json("status")
    (paused,) = status["paused_keys"]
    assert_closed(PausedKeyShape, paused)
    assert (paused["scope"], paused["name"], paused["fault"], paused["batches"]) == (
        "key:yone",
        "ONE_KEY at example.org",
        "money_out",
        ["a", "b"],
    )
    assert paused["since"] < paused["probe"]
    assert {batch["pause_scope"] for batch in status["batches"]} == {"key:yone"}
    people = world.call("status")
    assert "ONE_KEY at example.org is paused since 2023-11-14" in people.out
    assert "one document tries it again at 2023-11-14" in people.out
    assert "2 batches wait for it: `runner batch resume a`" in people.err
    resumed = world.json("batch", "resume", "b")
    assert (resumed["key"], resumed["resumed"]) == ("ONE_KEY at example.org", ["a"])
    after = world.json("status")
    assert after["paused_keys"] == []
    assert {batch["state"] for batch in after["batches"]} == {"active"}


def test_a_resume_of_a_key_says_so_to_people(world: Home) -> None:
    pause_key_of(world, "a", "b")
    ended = world.call("batch", "resume", "a")
    assert "ONE_KEY at example.org is called again\nalso resumed: b" in ended.out


def test_a_day_budget_is_raised_for_today_and_all_that_it_held_go_on(world: Home) -> None:
    at_us = time.time_ns() // 1_000
    for name in ("a", "b"):
        batch = world.batch(name, models=("gpt-5-mini",))
        with world.ledger.transaction() as connection:
            pause_batch(connection, batch.id, "day", now_us=at_us, scope=day_scope(at_us))
    resumed = world.json("batch", "resume", "b", "--day-budget-usd", "8")
    assert_closed(BatchChangedShape, resumed)
    assert (resumed["day_budget_usd"], resumed["resumed"]) == (8, ["a"])
    assert {batch["state"] for batch in world.json("status")["batches"]} == {"active"}
    again = world.call("batch", "resume", "b", "--day-budget-usd", "8")
    assert (again.code, "budget of today 8.00 USD" in again.out) == (Exit.DONE, True)
    less = world.call("batch", "resume", "b", "--day-budget-usd", "7")
    assert (less.code, "budget of today is 8.00 USD already" in less.err) == (Exit.USAGE, True)


def test_a_day_budget_refuses_a_model_whose_price_nobody_knows(world: Home, tmp_path: Path) -> None:
    config = tmp_path / "runner.toml"
    config.write_text("[budget]\nday_usd = 5\n")
    (tmp_path / "a.txt").write_text("text")
    arguments = ["submit", "invoice", str(tmp_path / "a.txt"), "--model", "nobody-knows-it"]
    ended = call(*arguments, home=world.home, env={"RUNNER_CONFIG": str(config)})
    assert ended.code == Exit.USAGE
    assert "or leave day_usd under [budget] in runner.toml out" in ended.err
    made_up = call(*arguments, "--simulate", home=world.home, env={"RUNNER_CONFIG": str(config)})
    assert made_up.code == Exit.DONE, made_up.err


# ------------------------------------------------------------ calls


def test_calls_are_listed_by_what_is_asked_for(world: Home, history: Batch) -> None:
    printed = world.json("calls", "list", "--batch", "june")
    assert_closed(CallListShape, printed)
    assert_closed(CallShape, printed["calls"][0])
    assert len(printed["calls"]) == 4
    assert len(world.json("calls", "list", "--fault", "bad_request")["calls"]) == 1
    assert len(world.json("calls", "list", "--document", "one")["calls"]) == 1
    assert len(world.json("calls", "list", "--model", "large")["calls"]) == 0
    assert len(world.json("calls", "list", "--limit", "2")["calls"]) == 2
    people = world.call("calls", "list")
    assert "bad_request" in people.out
    assert "\x1b" not in people.out


def test_a_call_shows_its_exact_request_and_answer(world: Home, history: Batch) -> None:
    attempt_id = world.json("calls", "trace", "one")["calls"][0]["attempt_id"]
    printed = world.json("calls", "show", attempt_id)
    assert_closed(CallDetailShape, printed)
    assert (printed["request"], printed["answer"]) == ("headonetail", "{}")
    assert printed["headers"] == {"date": "today"}
    people = world.call("calls", "show", attempt_id)
    assert "headonetail" in people.out
    assert "latency" in people.out


def test_a_call_of_unknown_end_shows_what_it_may_have_cost(world: Home) -> None:
    world.add(world.batch(), "text")
    worker = world.worker()
    lease = world.claim(world.feed(worker)[0], worker)
    world.finish(lease, DEAD, state=AttemptState.AMBIGUOUS, cost_nusd=None, ambiguous_nusd=1_000)
    assert "up to 0.000001 USD" in world.call("calls", "show", lease.attempt_id).out


def test_a_trace_has_a_documents_calls_in_their_order(world: Home, history: Batch) -> None:
    world.json("dead", "retry", HOSTILE)
    world.now_us = time.time_ns() // 1_000  # the retry is due now, not at this world's time
    worker = world.worker(leads=False)
    world.sql("UPDATE leader SET worker_id = :me", me=worker.id)
    world.turn(worker)
    printed = world.json("calls", "trace", HOSTILE)
    assert_closed(TraceShape, printed)
    assert [one["number"] for one in printed["calls"]] == [1, 2]
    assert len({one["trace_id"] for one in printed["calls"]} | {printed["trace_id"]}) == 1
    assert "bad_request" in world.call("calls", "trace", HOSTILE).out


def test_a_document_without_calls_has_an_empty_trace(world: Home, history: Batch) -> None:
    ended = world.call("calls", "trace", "waits")
    assert (ended.code, ended.err) == (0, "no call was made for it\n")


# ------------------------------------------------------------ audit


def test_audit_of_a_ledger_that_balances_ends_with_0(world: Home, history: Batch) -> None:
    printed = world.json("audit")
    assert_closed(AuditShape, printed)
    assert (printed["balanced"], printed["documents"], printed["attempts"]) == (True, 6, 4)
    assert world.call("audit", "june").out.endswith("everything adds up\n")


def test_audit_of_a_ledger_that_does_not_ends_with_4_and_says_what(
    world: Home, history: Batch
) -> None:
    world.sql("UPDATE budget SET settled_nusd = settled_nusd + 1")
    ended = world.call("audit", "--json")
    assert (ended.code, ended.json()["balanced"]) == (Exit.UNBALANCED, False)
    assert "problem: " in world.call("audit").out
    world.sql("UPDATE budget SET settled_nusd = settled_nusd - 1")
