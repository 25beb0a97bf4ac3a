"""`runner try` as a person has it: a process, a provider, a terminal, a Ctrl-C, a kill -9."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from runner.cli.exits import Exit
from runner.cli.shapes.trying import TryShape
from runner.testing import ProviderProcess, generate_documents
from tests.command_lines import clean_env, running
from tests.test_cli_run import Place, until

KEY = "test-key-of-no-worth"


@pytest.fixture(scope="module")
def one_provider() -> Iterator[ProviderProcess]:
    with ProviderProcess(input_usd_per_mtok="1", output_usd_per_mtok="4") as provider:
        yield provider


@pytest.fixture
def place(tmp_path: Path, one_provider: ProviderProcess) -> Place:
    one_provider.control(heal=True, clear=True, latency_ms=0, streams=True)
    made = Place(tmp_path, one_provider)
    made.env["OPENAI_API_KEY"] = KEY
    ((_, text),) = generate_documents(1, seed=3, size="small")
    (made.inputs / "one.txt").write_text(text)
    return made


def one(place: Place) -> str:
    return str(place.inputs / "one.txt")


def tried(place: Place, *options: str, code: Exit = Exit.DONE) -> Any:
    """What a try says with --json; on stdout stands nothing else."""
    ended = place.call("try", "invoice", one(place), "--json", *options)
    assert ended.code == code, (ended.code, ended.out, ended.err)
    assert "Traceback" not in ended.err
    place.assert_balanced()
    return ended.json()


# ------------------------------------------------------------ a call as any other


def test_a_try_is_a_call_in_the_ledger_as_any_other(place: Place) -> None:
    shape = tried(place)
    assert list(shape) == list(TryShape.model_fields)
    (entry,) = place.provider.book()
    assert (shape["outcome"], shape["state"], shape["streamed"]) == ("done", "done", True)
    assert (entry.attempt_id, entry.cost_nusd) == (
        shape["attempt_id"],
        round(shape["cost_usd"] * 1e9),
    )
    assert 0 <= shape["first_token_s"] <= shape["total_s"]
    call = place.call("calls", "show", shape["attempt_id"], "--json").json()
    request, answer = json.loads(call["request"]), json.loads(call["answer"])
    assert request["stream_options"] == {"include_usage": True}
    assert answer["object"] == "chat.completion"
    assert json.loads(answer["choices"][0]["message"]["content"]).keys() == shape["data"].keys()
    shown = place.call("show", shape["document_id"], "--json").json()
    assert (shown["state"], shown["data"]) == ("done", shape["data"])
    assert [row["path"] for row in shown["evidence"]] == [row["path"] for row in shape["evidence"]]
    assert place.call("status", "--json").json()["batches"] == []
    assert place.call("status", shape["batch"], "--json").json()["batches"][0]["done"] == 1
    assert place.call("status", "--json").json()["workers"] == []


def test_a_second_try_asks_again(place: Place) -> None:
    assert tried(place)["document_id"] != tried(place)["document_id"]
    assert len(place.provider.book()) == 2


def test_without_a_terminal_fields_are_lines_and_then_come_their_marks(place: Place) -> None:
    ended = place.call("try", "invoice", one(place))
    assert ended.code == Exit.DONE, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "invoice_number  SI-2026-000001"
    assert lines.index("✓ exact  invoice_number") > lines.index("currency  GBP")
    facts = dict(line.split("  ", 1) for line in lines[lines.index("") + 1 :])
    assert facts["outcome"].strip() == "done"
    assert {"first token", "in all", "tokens", "cost", "model"} <= facts.keys()
    assert f"`runner show {facts['document'].strip()}`" in ended.err
    assert "\x1b" not in ended.out


def test_the_simulator_is_asked_without_a_key(place: Place) -> None:
    del place.env["OPENAI_API_KEY"]
    ended = place.call("try", "invoice", one(place), "--simulate", "--json")
    assert ended.code == Exit.DONE, ended.err
    shape = ended.json()
    assert (shape["simulated"], shape["streamed"]) == (True, True)
    assert "simulated: answer and cost are made up" in ended.err
    assert place.provider.book() == []


# ------------------------------------------------------------ what does not end well


def test_a_server_that_does_not_stream_is_read_as_it_answers(place: Place) -> None:
    place.provider.control(streams=False)
    shape = tried(place)
    assert (shape["streamed"], shape["first_token_s"]) == (False, None)
    assert shape["data"]["currency"] == "GBP"
    told = place.call("try", "invoice", one(place)).out
    assert "currency  GBP\n" in told
    assert "it was not streamed" in told


@pytest.mark.parametrize(
    ("fault", "code", "reason", "following"),
    [
        ("drop_mid_body", Exit.UNFINISHED, "ambiguous", "again in about"),
        ("malformed_json_200", Exit.UNFINISHED, "not_a_completion", "again in about"),
        ("html_200", Exit.UNFINISHED, "not_a_completion", "again in about"),
        ("invalid_api_key_401", Exit.PAUSED, "bad_key", "pause whatever is called"),
        ("insufficient_quota", Exit.PAUSED, "money_out", "pause whatever is called"),
        ("rate_limited_seconds", Exit.UNFINISHED, "rate_limited", "again in about"),
        ("unavailable_503", Exit.UNFINISHED, "server_error", "again in about"),
        ("bad_request_400", Exit.UNFINISHED, "bad_request", "end it here, too"),
        ("model_not_found_404", Exit.UNFINISHED, "model_gone", "would ask gpt-5 next"),
        ("truncated", Exit.UNFINISHED, "truncated", "twice the output tokens"),
        ("wrong_type", Exit.UNFINISHED, "schema_invalid", "with these errors"),
    ],
)
def test_one_call_is_made_and_what_a_run_would_do_next_is_said(
    place: Place, fault: str, code: Exit, reason: str, following: str
) -> None:
    place.provider.control(faults={"rules": [{"fault": fault}]})
    shape = tried(place, code=code)
    assert shape["reason"] == reason
    assert following in shape["next"]
    assert shape["state"] == ("dead" if shape["outcome"] == "dead" else "cancelled")
    assert len(place.provider.book()) == 1
    status = place.call("status", "--json").json()
    assert (status["paused_keys"], status["today"]["held_usd"]) == ([], 0)
    assert bool(shape["errors"]) == (reason == "schema_invalid")


def test_a_value_that_the_document_does_not_state_is_marked_and_told(place: Place) -> None:
    place.provider.control(faults={"rules": [{"fault": "invented_value"}]})
    shape = tried(place, code=Exit.UNFINISHED)
    assert (shape["reason"], len(shape["no_ground"])) == ("not_grounded", 1)
    (path,) = shape["no_ground"]
    assert path in [error["path"] for error in shape["errors"]]
    shown = place.call("try", "invoice", one(place)).out
    assert f"✗ no ground  {path}\n" in shown


def test_money_that_does_not_suffice_calls_nobody(place: Place) -> None:
    shape = tried(place, "--budget-usd", "0.000001", code=Exit.PAUSED)
    assert (shape["outcome"], shape["reason"]) == ("refused", "budget_spent")
    assert "budget spent (0.0000 of 0.0000 USD" in shape["message"]
    config = Path(place.env["RUNNER_CONFIG"])
    config.write_text(config.read_text() + "[budget]\nday_usd = 0.000001\n")
    shape = tried(place, code=Exit.PAUSED)
    assert "day_usd" in shape["next"]
    assert shape["attempt_id"] is None
    assert place.provider.book() == []


def test_an_input_that_is_not_one_readable_document_is_refused_and_changes_nothing(
    place: Place,
) -> None:
    for name, content, why in (
        ("broken.pdf", b"no PDF", "broken.pdf cannot be read: "),
        ("rows.jsonl", b'{"text": "a"}\n{"text": "b"}\n', "several documents"),
        ("empty.jsonl", b"", "no document"),
    ):
        (place.inputs / name).write_bytes(content)
        ended = place.call("try", "invoice", str(place.inputs / name))
        assert (ended.code, why in ended.err) == (Exit.USAGE, True), ended.err
    assert place.call("try", "nothing", one(place)).code == Exit.USAGE
    assert not (place.home / "ledger.db").exists()


# ------------------------------------------------------------ on a terminal


def test_on_a_terminal_fields_grow_in_place_while_the_answer_comes(place: Place) -> None:
    place.provider.control(latency_ms=1_000)
    shown = place.on_terminal("try", "invoice", one(place))
    shown.expect("waiting for its first token")
    shown.expect(r"issue_date *\x1b\[0m +2026-02-02")
    shown.expect(r"\x1b\[1A")  # the cursor goes up: drawn in place
    shown.expect(r"SI-2026-000001 +✓ exact")
    shown.expect(r"12793\.83 +✓ exact")
    shown.expect(r"outcome +done")
    shown.expect(r"first token +\d+ ms")
    shown.expect(r"`runner show d\w+`")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == Exit.DONE


def test_ctrl_c_ends_the_call_and_counts_it_as_possibly_paid(place: Place) -> None:
    place.provider.control(faults={"rules": [{"fault": "hang_mid_body"}]})
    shown = place.on_terminal("try", "invoice", one(place))
    shown.expect(r"issue_date *\x1b\[0m +2026-02-02")
    assert place.provider.book()[0].finished_s is None, "its fields are seen while it answers"
    shown.sendintr()
    shown.expect(r"not done: ambiguous: aborted during the call")
    shown.expect(r"up to 0\.\d+ USD: nobody knows whether the call was paid")
    shown.expect(r"interrupted; this tries it again:\s+runner try invoice \S+one\.txt")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == Exit.INTERRUPTED
    until(lambda: place.provider.book()[0].finished_s is not None)  # the provider was hung up on
    place.assert_balanced()
    queue = place.call("status", "--json").json()["queue"]
    assert (queue["cancelled"], queue["queued"], queue["running"]) == (1, 0, 0)


# ------------------------------------------------------------ beside workers


@pytest.mark.slow
def test_beside_a_worker_it_is_left_alone_and_what_a_killed_one_leaves_is_swept(
    place: Place,
) -> None:
    env = clean_env(RUNNER_HOME=str(place.home), **place.env)
    with running("work", env=env, stderr=subprocess.PIPE) as worker:
        until(lambda: bool(place.call("status", "--json").json()["workers"]))
        assert tried(place)["outcome"] == "done"
        place.provider.control(latency_ms=60_000, clear=True)
        with (
            (place.inputs / "one.txt").open() as text,
            running(
                "try", "invoice", "-", env=env, stdin=text, stdout=subprocess.DEVNULL
            ) as doomed,
        ):
            until(lambda: len(place.provider.book()) == 1)
            time.sleep(1.5)  # what is seen missing on the road twice, the sweep takes back
            queue = place.call("status", "--json").json()["queue"]
            assert (queue["running"], len(place.provider.book())) == (1, 1)
            os.kill(doomed.pid, signal.SIGKILL)
        place.provider.control(latency_ms=0)
        until(lambda: place.call("status", "--json").json()["queue"]["cancelled"] == 1)
        worker.send_signal(signal.SIGTERM)
        worker.communicate()
    audit = place.call("audit", "--json").json()
    assert (audit["problems"], audit["held_usd"]) == ([], 0)
    assert audit["ambiguous_usd"] > 0
    assert len(place.provider.book()) == 1
