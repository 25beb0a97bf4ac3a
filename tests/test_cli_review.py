"""The commands of the review queue, over a real ledger, and once over the whole road."""

import json
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.cli.excerpts import LINES_MAX, excerpt, line_number
from runner.cli.exits import Exit
from runner.cli.review_estimate import percent
from runner.cli.shapes import review as review_shapes
from runner.cli.shapes.base import Shape
from runner.cli.shapes.calls import CallShape
from runner.cli.shapes.documents import EvidenceShape
from runner.gold import read_gold
from runner.ledger.submission import Batch
from runner.ledger.work import load
from runner.model import Dead, Done, Evidence, Failure, Fault, FieldError, How, Outcome, Review
from runner.pinned import PinnedJobs
from runner.testing.control import ProviderProcess
from tests.command_lines import RUNNER, Ended, call, clean_env
from tests.jobfolders import make_job
from tests.ledgers import POSTGRES_URL, World, open_world
from tests.roads import Road

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)

TEXT = "first\nTotal: -5 \x1b[2J\nlast"
WRONG = Review(
    "check_failed",
    Failure(Fault.CHECK_FAILED, "must not be below 0", (FieldError("total", "is below 0"),)),
    data_json='{"total":-5}',
)
NO_ANSWER = Review("ambiguous", Failure(Fault.AMBIGUOUS, "timed out"))


class Home(World):
    """A world with one batch of the tiny job, whose ledger the commands open."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """Where the tiny job is, and who is logged in."""
        return {"RUNNER_JOBS": str(self.folder / "jobs"), "LOGNAME": "ann"}

    def call(self, *arguments: str) -> Ended:
        """Call a command over this world."""
        return call(*arguments, home=self.folder / "home", env=self.env)

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json; it must end well."""
        ended = self.call(*arguments, "--json")
        assert ended.code == 0, ended.err
        return ended.json()

    def refused(self, *arguments: str) -> str:
        """What is said when a command does nothing."""
        ended = self.call(*arguments)
        assert (ended.code, ended.out) == (Exit.USAGE, "")
        return ended.err

    def june(self) -> Batch:
        """The batch."""
        pinned = PinnedJobs([self.folder / "jobs"]).live("tiny", version=None, models=())
        return self.batch("june", job="tiny", prompt_id=pinned.prompt_id, models=pinned.models)

    def through(self, *texts: str, outcome: Outcome = WRONG) -> None:
        """New documents of the batch through one turn."""
        batch = self.june()
        self.sql("DELETE FROM leader")
        worker = self.worker()
        self.add(batch, *texts, first_position=len(self.rows(batch)))
        self.turn(worker, outcome)

    def state(self, source: str) -> str:
        """Where a document is."""
        return str(self.json("show", source)["state"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Home]:
    make_job(tmp_path / "jobs")
    with open_world(tmp_path) as found:
        home = Home(found.ledger)
        home.folder = tmp_path
        yield home


def assert_closed(shape: type[Shape], printed: Any) -> None:
    """What was printed has exactly the fields of the model, in their order."""
    assert list(printed) == list(shape.model_fields)


# ------------------------------------------------------------ list, show


def test_what_waits_is_listed_oldest_first_and_counted(world: Home) -> None:
    world.through("one", TEXT)
    world.through("right", outcome=Done('{"total":5}'))
    world.json("review", "sample", "june", "--percent", "100")
    printed = world.json("review", "list", "june")
    assert_closed(review_shapes.ReviewListShape, printed)
    assert_closed(review_shapes.WaitingShape, printed["reviews"][0])
    assert (printed["flagged"], printed["sampled"]) == (2, 1)
    assert [one["source"] for one in printed["reviews"]] == ["one", TEXT, "right"]
    assert printed["reviews"][0]["errors"] == [{"path": "total", "message": "is below 0"}]
    (sampled,) = world.json("review", "list", "--sampled")["reviews"]
    assert (sampled["source"], sampled["stratum"], sampled["reason"]) == ("right", "sampled", None)
    reasons = world.json("review", "list", "--reason", "check_failed", "--limit", "1")
    assert (reasons["flagged"], len(reasons["reviews"])) == (2, 1)
    people = world.call("review", "list", "--limit", "2")
    assert "check_failed" in people.out
    assert "\x1b" not in people.out
    assert "1 record more" in people.err
    assert (
        world.call("review", "list", "--reason", "ambiguous").err == "nothing waits for a person\n"
    )


def test_a_record_is_shown_with_what_speaks_against_it_and_what_to_type(world: Home) -> None:
    there = Evidence("total", 13, 15, How.EXACT)
    world.through(TEXT, outcome=replace(WRONG, evidence=(there,)))
    printed = world.json("review", "show", TEXT)
    assert_closed(review_shapes.ReviewShape, printed)
    assert_closed(EvidenceShape, printed["evidence"][0])
    assert_closed(CallShape, printed["calls"][0])
    assert (printed["data"], printed["text"]) == ({"total": -5}, TEXT)
    people = world.call("review", "show", TEXT)
    assert "total  is below 0" in people.out
    assert "total  line 2: -5" in people.out
    assert "1  first\n2  Total: -5 \n3  last" in people.out
    assert f"runner review accept {printed['document_id']}" in people.err
    assert "\x1b" not in people.out
    assert "text\nfirst" in world.call("review", "show", TEXT, "--full").out


def test_a_review_without_an_answer_says_so_and_cannot_be_accepted(world: Home) -> None:
    world.through("one", outcome=NO_ANSWER)
    people = world.call("review", "show", "one")
    assert "no record" in people.out
    assert "review accept" not in people.err
    assert "--data FILE" in world.refused("review", "accept", "one")
    assert "--data FILE" in world.refused("review", "correct", "one", "--set", "total=1")


def test_lines_around_places_have_their_numbers_and_a_bound() -> None:
    text = "\n".join(f"line {number}" for number in range(1, 201))
    assert line_number(text, text.index("line 12\n")) == 12
    places = [(text.index("line 3\n"), 0), (text.index("line 9\n"), 0), (len(text) + 5, 0)]
    assert excerpt(text, places) == [
        *(" 2  line 2", " 3  line 3", " 4  line 4"),
        *("…", " 8  line 8", " 9  line 9", "10  line 10"),
    ]
    every = [(place, place + 1) for place in range(0, len(text), 5)]
    assert len(excerpt(text, every)) == LINES_MAX + 1
    assert excerpt(text, []) == []


# ------------------------------------------------------------ decisions


def test_accepted_records_are_done_under_the_login_name(world: Home) -> None:
    world.through("one", "two")
    printed = world.json("review", "accept", "one", "two", "--note", "fine")
    assert_closed(review_shapes.DecidedShape, printed)
    assert (printed["decision"], printed["reviewer"]) == ("accepted", "ann")
    assert len(printed["documents"]) == 2
    shown = world.json("show", "one")
    assert (shown["state"], shown["flags"]) == ("done", ["accepted"])
    assert shown["events"][0]["message"] == "accepted by ann: fine"
    assert world.json("audit")["balanced"]


def test_a_command_decides_on_all_of_its_documents_or_on_none(world: Home) -> None:
    world.through("one", "two")
    world.json("review", "reject", "two", "--reviewer", "bob")
    told = world.refused("review", "accept", "one", "two")
    assert "is dead: it was rejected by bob at 20" in told
    assert world.state("one") == "review"


def test_what_waits_for_nobody_is_refused_by_name(world: Home) -> None:
    world.through("one", outcome=Done('{"total":5}'))
    assert "waits for nobody's decision" in world.refused("review", "show", "one")
    assert "waits for nobody's decision" in world.refused("review", "reject", "one")
    assert "no document 'nothing'" in world.refused("review", "accept", "nothing")


def test_nobody_decides_without_a_name(world: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    world.through("one")
    monkeypatch.setattr("getpass.getuser", nobody)
    assert "--reviewer NAME" in world.refused("review", "accept", "one")
    assert world.json("review", "accept", "one", "--reviewer", "bob")["reviewer"] == "bob"


def test_a_correction_must_hold_by_schema_and_checks(world: Home) -> None:
    world.through("one")
    told = world.refused("review", "correct", "one", "--set", "total=-3")
    assert "total: must not be below 0\n--despite-checks" in told
    told = world.refused("review", "correct", "one", "--set", "total=many", "--set", "sum=1")
    assert "total: Input should be a valid integer" in told
    assert "despite" not in told
    assert world.state("one") == "review"
    world.json("review", "correct", "one", "--set", "total=5")
    shown = world.json("show", "one")
    assert (shown["state"], shown["data"], shown["flags"]) == (
        *("done", {"total": 5}),
        ["corrected"],
    )
    assert world.json("audit")["balanced"]


def test_a_document_that_is_itself_at_fault_can_be_recorded_as_it_is(world: Home) -> None:
    world.through("one")
    world.json("review", "correct", "one", "--set", "total=-3", "--despite-checks")
    shown = world.json("show", "one")
    assert (shown["data"], shown["flags"]) == ({"total": -3}, ["corrected", "despite_checks"])


def test_a_correction_that_changes_nothing_is_an_acceptance(world: Home) -> None:
    world.through("one")
    told = world.refused("review", "correct", "one", "--set", "total=-5", "--despite-checks")
    assert "runner review accept" in told


def test_a_whole_record_comes_from_a_file_or_from_standard_input(world: Home) -> None:
    world.through("one", outcome=NO_ANSWER)
    world.through("two")
    (world.folder / "right.json").write_text('{"total": 7}')
    world.json("review", "correct", "one", "--data", str(world.folder / "right.json"))
    piped = subprocess.run(
        [*RUNNER, "review", "correct", "two", "--data", "-"],
        env=clean_env(RUNNER_HOME=str(world.folder / "home"), **world.env),
        input='{"total": 8}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.returncode == 0, piped.stderr
    assert [world.json("show", one)["data"]["total"] for one in ("one", "two")] == [7, 8]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--data FILE"),
        (("--data", "x.json", "--set", "total=1"), "or its values with --set"),
        (("--set", "total"), "is no PATH=VALUE"),
        (("--set", "=5"), "is no PATH=VALUE"),
        (("--set", "lines.0.amount=5"), "'lines' leads nowhere in the record: there are total"),
        (("--set", "total.0=5"), "what stands before it has no parts"),
        (("--data", "nowhere.json"), "nowhere.json cannot be read"),
        (("--set", "total=1e400"), "not valid JSON"),
        (("--set", "total=NaN"), "valid integer"),
    ],
)
def test_a_correction_that_cannot_be_understood_changes_nothing(
    world: Home, arguments: tuple[str, ...], told: str
) -> None:
    world.through("one")
    assert told in world.refused("review", "correct", "one", *arguments)
    assert world.state("one") == "review"


def test_a_check_that_breaks_on_a_correction_is_named(world: Home) -> None:
    world.through("one")
    (world.folder / "jobs" / "tiny" / "broken").touch()
    told = world.refused("review", "correct", "one", "--set", "total=5")
    assert "a check of job tiny failed on the correction with KeyError" in told


def test_a_rejected_document_is_a_dead_letter_like_others(world: Home) -> None:
    world.through("one")
    world.json("review", "reject", "one", "--note", "a delivery note")
    (group,) = world.json("dead", "list", "--reason", "rejected_in_review")["groups"]
    assert group["signature"] == "rejected_in_review: check_failed"
    assert world.json("dead", "show", "one")["message"] == "rejected by ann: a delivery note"
    assert world.json("dead", "retry", "one")["retried"] == 1
    assert world.json("audit")["balanced"]


def test_a_document_is_asked_for_again_priced_first_and_with_other_pins(world: Home) -> None:
    world.through("one")
    planned = world.call("review", "again", "one", "--model", "gpt-5-mini", "--dry-run", "--json")
    assert_closed(review_shapes.RunAgainShape, planned.json())
    assert (planned.json()["documents"], planned.json()["worst_usd"] > 0) == ([], True)
    assert "expected cost" in planned.err
    assert world.state("one") == "review"
    assert "v99 is not locked" in world.refused("review", "again", "one", "--prompt", "v99")
    queued = world.call("review", "again", "one", "--model", "gpt-5-mini")
    assert (queued.code, queued.out) == (0, "queued 1\n")
    assert "no worker is running" in queued.err
    world.now_us = world.ledger.clock.us() + 1_000_000
    world.sql("DELETE FROM leader")
    (ticket,) = world.feed(world.worker())
    with world.ledger.snapshot() as connection:
        (work,) = load(connection, [ticket])
    assert work is not None
    assert work.models == ("gpt-5-mini",)
    assert "waits for nobody's decision" in world.refused("review", "again", "one")


def test_of_two_people_at_once_one_decides_and_the_other_is_told_by_whom(world: Home) -> None:
    world.through("one")
    env = clean_env(RUNNER_HOME=str(world.folder / "home"), **world.env)
    both = [
        subprocess.Popen(
            [*RUNNER, "review", what, "one", "--reviewer", who],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for what, who in (("accept", "ann"), ("reject", "bob"))
    ]
    told = [one.communicate(timeout=60)[1] for one in both]
    codes = [one.returncode for one in both]
    assert sorted(codes) == [Exit.DONE, Exit.USAGE]
    first = "accepted by ann" if codes[0] == Exit.DONE else "rejected by bob"
    assert first in told[codes.index(Exit.USAGE)]
    assert world.state("one") == ("done" if codes[0] == Exit.DONE else "dead")


# ------------------------------------------------------------ sample


def test_a_sample_is_drawn_once_and_audited(world: Home) -> None:
    world.through("one", "two", outcome=Done('{"total":5}'))
    world.through("dead", outcome=Dead("bad_request", Failure(Fault.BAD_REQUEST, "no")))
    printed = world.json("review", "sample", "june", "--percent", "100")
    assert_closed(review_shapes.SampleShape, printed)
    assert (printed["done"], printed["added"], printed["in_sample"]) == (2, 2, 2)
    again = world.call("review", "sample", "june", "--percent", "100")
    assert again.out == "drawn 0\n"
    assert "runner review list june --sampled" in again.err
    assert world.call("review", "sample", "june", "--percent", "0").code == Exit.USAGE
    assert "only what is in review" in world.refused("review", "again", "one")
    world.json("review", "correct", "one", "--set", "total=6")
    world.json("review", "accept", "two")
    assert world.json("review", "list")["reviews"] == []
    assert world.json("show", "one")["data"] == {"total": 6}


# ------------------------------------------------------------ estimate, gold


def test_an_estimate_is_told_in_words_once_there_are_enough_reviews(world: Home) -> None:
    texts = [f"text {number}" for number in range(40)]
    world.through(*texts, outcome=Done('{"total":5}'))
    world.through("unsure 1", "unsure 2")
    early = world.call("review", "estimate", "june")
    assert "no estimate of those that were not flagged: 0 of at least 30 are audited" in early.out
    assert "`runner review sample june --percent P`" in early.out
    world.json("review", "sample", "june", "--percent", "100")
    world.json("review", "accept", *texts[:29])
    still = world.call("review", "estimate", "june").out
    assert "29 of at least 30 are audited; `runner review list june --sampled` shows 11" in still
    assert "no estimate of the flagged ones: 0 of at least 2 are reviewed" in still
    world.json("review", "correct", texts[29], "--set", "total=6")
    world.json("review", "accept", "unsure 1")
    world.json("review", "reject", "unsure 2")
    printed = world.json("review", "estimate", "june")
    assert_closed(review_shapes.EstimateShape, printed)
    assert_closed(review_shapes.StratumShape, printed["flagged"])
    assert (printed["flagged"]["rate"], printed["flagged"]["high"]) == (0.5, 0.5)
    assert printed["not_flagged"]["rate"] == pytest.approx(1 / 30)
    assert (printed["records"], printed["waiting"]) == (42, 10)
    assert printed["rate"] == pytest.approx((40 / 30 + 1) / 42)
    told = world.call("review", "estimate", "--job", "tiny").out
    assert "Of the 40 records that were not flagged, about 3.3 % have something wrong" in told
    assert "1 of 30 drawn at random had" in told
    assert "Of all 42 records, as they were before anybody looked, about 5.6 %" in told
    world.json("review", "accept", *texts[30:])
    assert "All 40 records that were not flagged were audited: 1 had" in (
        world.call("review", "estimate", "june").out
    )


def test_an_estimate_of_nothing_says_so(world: Home) -> None:
    world.june()
    assert world.call("review", "estimate", "june").err == "june has no records yet\n"
    assert "name a batch" in world.refused("review", "estimate")
    assert "name a batch" in world.refused("review", "gold", "june", "--job", "tiny")
    assert "job nothing has no batch" in world.refused("review", "estimate", "--job", "nothing")


@pytest.mark.parametrize(
    ("share", "told"),
    [
        *((0, "0"), (1, "100"), (0.00001, "less than 0.01"), (0.0012, "0.12")),
        *((0.0179, "1.8"), (0.256, "26")),
    ],
)
def test_shares_have_as_many_digits_as_say_something(share: float, told: str) -> None:
    assert percent(share) == told


def test_what_people_confirmed_becomes_gold_candidates(world: Home) -> None:
    world.through("right", "wrong", "none")
    world.json("review", "accept", "right")
    world.json("review", "correct", "wrong", "--set", "total=5")
    world.json("review", "reject", "none")
    lines = [json.loads(line) for line in world.call("review", "gold", "june").out.splitlines()]
    assert_closed(review_shapes.GoldLine, lines[0])
    found = {line["text"]: (line["expected"], line["tags"]) for line in lines}
    assert found == {
        "right": ({"total": -5}, ["reviewed"]),
        "wrong": ({"total": 5}, ["reviewed"]),
    }
    out = world.folder / "gold.jsonl"
    printed = world.json("review", "gold", "--job", "tiny", "--out", str(out))
    assert printed == {"file": str(out), "candidates": 2}
    assert [json.loads(line) for line in out.read_text().splitlines()] == lines
    assert {case.id for case in read_gold(world.folder)} == {line["id"] for line in lines}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "--json goes with --out FILE" in world.refused("review", "gold", "june", "--json")


# ------------------------------------------------------------ the whole road


def test_what_is_unsure_and_what_is_drawn_meets_a_person_on_the_whole_road(
    road: Road, provider: ProviderProcess
) -> None:
    def ask(*arguments: str) -> Any:
        ended = call(*arguments, "--json", home=road.home, env=road.env)
        assert ended.code == 0, ended.err
        return ended.json()

    road.configure("[review]\naudit_percent = 100\n")
    provider.control(faults={"rules": [{"fault": "invented_value", "match": "."}]})
    ended = road.call("run", "invoice", str(road.write_documents(6)), "--batch", "june")
    assert ended.returncode == Exit.UNFINISHED, ended.stderr
    assert "`runner review list june`" in ended.stderr
    waiting = ask("review", "list", "june")
    assert waiting["flagged"] > 0
    assert waiting["flagged"] + waiting["sampled"] == 6
    flagged = [one for one in waiting["reviews"] if one["stratum"] == "flagged"]
    assert all(one["errors"] for one in flagged)
    provider.control(heal=True)
    ask("review", "again", *(one["document_id"] for one in flagged))
    assert road.call("work", "--until-empty").returncode == 0
    drawn = ask("review", "list", "june", "--sampled")["reviews"]
    assert len(drawn) == 6
    ask("review", "accept", drawn[0]["document_id"])
    ask("review", "reject", drawn[1]["document_id"])
    assert ask("audit")["balanced"]
    counts = ask("status", "june")["batches"][0]
    assert (counts["done"], counts["review"], counts["dead"]) == (5, 0, 1)
