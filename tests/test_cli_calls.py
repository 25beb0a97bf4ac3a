"""`runner calls`: which calls are listed and found, and what is shown of each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.exits import Exit
from runner.cli.shapes.call import CallDetailShape
from runner.cli.shapes.search import HitShape, SearchShape
from runner.ledger.ends import Settlement
from runner.model import Again, AttemptState, Charge, Done, Failure, Fault
from tests.call_history import INVALID, SEARCH, Calls, completion, open_calls
from tests.ledgers import COST_NUSD, HOLD_NUSD, POSTGRES_URL, Lease

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)

DROPPED = Again(
    delay_s=3_600,
    charge=Charge.ATTEMPT,
    failure=Failure(Fault.AMBIGUOUS, "the connection was lost"),
    ladder_step=0,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Calls]:
    with open_calls(tmp_path) as calls:
        yield calls


@pytest.fixture
def history(world: Calls) -> dict[str, Lease]:
    """A call that was good, one that was not valid; one of another batch and job was dropped."""
    leases = {
        "good": world.says("Invoice of Acme\x1b[2J", {"seller": "Acme"}),
        "bad": world.says("Letter", {"seller": 7}, INVALID),
    }
    other = world.batch("other", job="letter", prompt_version="v2", prompt_id="p2")
    world.add(other, "dropped")
    (ticket,) = world.feed(world.me)
    dropped = world.claim(ticket, world.me, model="large", prompt_id="p2")
    settled = Settlement(
        attempt_id=dropped.attempt_id,
        state=AttemptState.AMBIGUOUS,
        cost_nusd=None,
        ambiguous_nusd=HOLD_NUSD,
    )
    assert world.finish_all([world.end_with(dropped, DROPPED, settled)]) == [True]
    return leases | {"dropped": dropped}


def listed(world: Calls, history: dict[str, Lease], *options: str) -> list[str]:
    """Names of the calls that are listed, newest first."""
    names = {lease.attempt_id: name for name, lease in history.items()}
    return [names[one["attempt_id"]] for one in world.json("calls", "list", *options)["calls"]]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ["dropped", "bad", "good"]),
        (("--limit", "1"), ["dropped"]),
        (("--job", "invoice"), ["bad", "good"]),
        (("--job", "nothing"), []),
        (("--batch", "other"), ["dropped"]),
        (("--prompt", "v1"), ["bad", "good"]),
        (("--prompt", "p2"), ["dropped"]),
        (("--prompt", "v2", "--job", "invoice"), []),
        (("--model", "large"), ["dropped"]),
        (("--fault", "schema_invalid"), ["bad"]),
        (("--error", "any"), ["dropped", "bad"]),
        (("--document", "Letter"), ["bad"]),
        (("--since", "2023-11-14"), ["dropped", "bad", "good"]),
        (("--since", "1h"), []),
        (("--until", "2023-11-14"), []),
        (("--until", "1h"), ["dropped", "bad", "good"]),
        # what may have been billed counts at its worst
        (("--min-cost-usd", f"{HOLD_NUSD / 1e9:.9f}"), ["dropped"]),
        (("--min-cost-usd", f"{COST_NUSD / 1e9:.9f}"), ["dropped", "bad", "good"]),
    ],
    ids=" ".join,
)
def test_each_filter_narrows_the_list(
    world: Calls, history: dict[str, Lease], options: tuple[str, ...], names: list[str]
) -> None:
    assert listed(world, history, *options) == names


def test_filters_go_by_the_moment(world: Calls, history: dict[str, Lease]) -> None:
    at = next(
        one["at"]
        for one in world.json("calls", "list")["calls"]
        if one["attempt_id"] == history["bad"].attempt_id
    )
    assert listed(world, history, "--since", at) == ["dropped", "bad"]
    assert listed(world, history, "--until", at) == ["good"]


def test_a_version_that_only_some_documents_were_asked_with_is_known_too(
    world: Calls, history: dict[str, Lease]
) -> None:
    world.sql(
        "UPDATE document SET prompt_version = 'v9', prompt_id = 'p1' WHERE id = :id",
        id=history["bad"].ticket.document_id,
    )
    assert listed(world, history, "--prompt", "v9") == ["bad", "good"]
    canary = json.dumps({"version": "v8", "prompt_id": "p2", "percent": 5})
    world.sql("UPDATE batch SET canary_json = :it WHERE name = 'b'", it=canary)
    assert listed(world, history, "--prompt", "v8", "--job", "invoice") == ["dropped"] * 0
    assert listed(world, history, "--prompt", "v8") == ["dropped"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--since", "soon"), "--since 'soon' is no time"),
        (("--until", "later"), "--until 'later' is no time"),
        (("--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("--batch", "nothing"), "no batch 'nothing'"),
        (("--document", "nothing"), "no document 'nothing'"),
        (("--min-cost-usd", "-1"), "not an amount of money above 0"),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("search", "word")], ids=" ".join)
def test_a_filter_that_cannot_be_meant_is_refused_by_name(
    world: Calls,
    history: dict[str, Lease],
    command: tuple[str, ...],
    options: tuple[str, ...],
    told: str,
) -> None:
    ended = world.command("calls", *command, *options)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert told in ended.err


@pytest.mark.parametrize(
    ("answer", "outcome", "output", "problem"),
    [
        (completion({"seller": "Acme"}), None, {"seller": "Acme"}, None),
        (
            completion({"seller": 7}),
            INVALID,
            {"seller": 7},
            'schema_invalid: total: not a decimal; got "abc"',
        ),
        (completion('```json\n{"a": 1}\n```'), INVALID, {"a": 1}, "schema_invalid: total: "),
        (completion("I cannot."), INVALID, "I cannot.", "schema_invalid: total: "),
        (b"<html>gateway</html>", INVALID, None, "schema_invalid: total: "),
    ],
    ids=["valid", "not valid", "fenced", "words", "no completion"],
)
def test_show_tells_what_was_read_from_the_answer_or_why_it_gave_no_record(
    world: Calls, answer: bytes, outcome: Any, output: Any, problem: str | None
) -> None:
    world.add(world.batch(), "text")
    lease = world.call_for()
    world.store(lease, answer)
    world.finish(lease, outcome or Done('{"seller": "Acme"}'))
    printed = world.json("calls", "show", lease.attempt_id)
    assert list(printed) == list(CallDetailShape.model_fields)
    assert printed["output"] == output
    assert (printed["output_problem"] or "").startswith(problem or "")
    assert (printed["output_problem"] is None) is (problem is None)
    people = world.command("calls", "show", lease.attempt_id).out
    assert ("(no record: schema_invalid" in people) is (problem is not None)


def test_search_prints_closed_shapes_and_marks_hits(
    world: Calls, history: dict[str, Lease]
) -> None:
    printed = world.json(*SEARCH, "acme", "--batch", "b")
    assert list(printed) == list(SearchShape.model_fields)
    (hit,) = printed["calls"]
    assert list(hit) == list(HitShape.model_fields)
    good = history["good"]
    assert (hit["attempt_id"], hit["document_id"]) == (good.attempt_id, good.ticket.document_id)
    assert (hit["batch"], hit["state"], hit["cost_usd"]) == ("b", "done", COST_NUSD / 1e9)
    assert [hit["snippet"][start:end] for start, end in hit["marks"]] == ["Acme"]
    assert (printed["behind"], printed["complete"], printed["read_back_to"]) == (0, True, None)


def test_search_for_people_is_a_table_that_a_terminal_only_shows(
    world: Calls, history: dict[str, Lease]
) -> None:
    ended = world.command(*SEARCH, "invoice")
    assert "[Invoice] of Acme" in ended.out
    assert "\x1b" not in ended.out
    dropped = world.command(*SEARCH, "connection lost", "--error", "any")
    assert "up to 0.000001 USD" in dropped.out
    none = world.command(*SEARCH, "zzyzx")
    assert (none.code, none.out, none.err) == (0, "", "no call has these words\n")


def test_a_search_that_had_no_time_for_all_that_is_new_says_what_is_missing(world: Calls) -> None:
    for number in range(51):
        world.says(f"Invoice {number}", {})
    behind = world.command("calls", "search", "invoice", "--catch-up-s", "0", "--limit", "1")
    assert "the index is 1 call behind" in behind.err
    assert "--catch-up-s 60" in behind.err
    nearly = world.command("calls", "search", "invoice", "--catch-up-s", "0", "--limit", "1")
    assert "the index is a few ends of calls or names behind" in nearly.err
    whole = world.command(*SEARCH, "invoice", "--limit", "1")
    assert whole.err == ""


@pytest.mark.parametrize("words", ['"open', "--", "a*", "*"])
def test_words_that_cannot_be_searched_for_end_with_2(
    world: Calls, history: dict[str, Lease], words: str
) -> None:
    ended = world.command(*SEARCH, "--", words)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert ended.err.startswith("error: ")
