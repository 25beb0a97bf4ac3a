"""What processes say: text for a person by default, one JSON object a line for a machine."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from runner import log
from runner.errors import ConfigError
from runner.keys import trace_id
from runner.ledger.calls import events
from runner.testing.control import ProviderProcess
from tests.command_lines import call
from tests.jobfolders import make_job
from tests.roads import KEY, Road, wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    log.begin({})


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_text_is_the_default_and_details_are_for_machines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.begin({})
    log.log("happened", "it has\x1b[2J happened", document_id="d1")
    log.detail("small", "not worth a word")
    assert capsys.readouterr().err == "runner: it has [2J happened\n"


def test_an_event_is_one_line_of_json_with_what_it_is_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.begin({"RUNNER_LOG": "json"})
    log.of_worker("w7")
    log.log("happened", "one\ntwo \x1b]0;t\x07 \u202e \x7f", document_id="d1", fault=None)
    said = capsys.readouterr().err
    assert said.isascii()
    assert said.strip().isprintable()
    (event,) = events_of(said)
    assert TIME.fullmatch(event.pop("time"))
    assert event.pop("pid") > 0
    assert event == {
        "level": "warning",
        "event": "happened",
        "message": "one\ntwo \x1b]0;t\x07 \u202e \x7f",
        "worker": "w7",
        "document_id": "d1",
        "trace_id": trace_id("d1"),
    }


def test_what_libraries_warn_of_is_told_without_its_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.begin({"RUNNER_LOG": "json"})
    log.begin({"RUNNER_LOG": "json"})
    logging.getLogger("some.library").warning("lost %s", "the document's text")
    (event,) = events_of(capsys.readouterr().err)
    assert (event["event"], event["library"], event["message"]) == (
        "library",
        "some.library",
        "lost %s",
    )


def test_another_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="RUNNER_LOG is 'xml'; it is text or json"):
        log.begin({"RUNNER_LOG": "xml"})


def test_an_error_of_a_command_is_an_event_too(tmp_path: Any) -> None:
    ended = call("show", "nothing", home=tmp_path, env={"RUNNER_LOG": "json"})
    (event,) = events_of(ended.err)
    assert (ended.code, event["event"], event["level"]) == (2, "error", "error")
    assert call("show", "nothing", home=tmp_path, env={"RUNNER_LOG": "xml"}).code == 2


def test_a_run_and_its_workers_speak_json_and_tell_no_text(
    road: Road, provider: ProviderProcess
) -> None:
    road.more_env["RUNNER_LOG"] = "json"
    provider.control(faults={"rules": [{"fault": "content_filter", "rate": 0.3}]})
    inputs = road.write_documents(20)
    done = road.call("run", "invoice", str(inputs), "--batch", "june")
    assert done.returncode == 3, done.stderr
    events = events_of(done.stderr)
    ended = [one for one in events if one["event"] == "turn_ended"]
    dead = [one for one in ended if one["outcome"] == "dead"]
    assert dead, "void"
    assert len(ended) == len(road.attempts())
    assert {one["fault"] for one in dead} == {"filtered"}
    assert all(one["trace_id"] == trace_id(one["document_id"]) for one in ended)
    assert all(one["worker"].startswith("w") and one["attempt_id"] for one in ended)
    assert {"worker_started", "worker_stopped"} <= {one["event"] for one in events}
    texts = [json.loads(line)["text"] for line in inputs.read_text().splitlines()]
    lines = {line for text in texts for line in text.splitlines() if len(line) > 25}
    assert not [line for line in lines if line in done.stderr]
    assert KEY not in done.stderr


def test_a_worker_of_its_own_tells_a_bug_with_its_document(road: Road) -> None:
    make_job(road.jobs)
    (road.jobs / "tiny" / "broken").touch()
    (road.folder / "one.txt").write_text("the total is 5")
    road.more_env["RUNNER_LOG"] = "json"
    submitted = road.call("submit", "tiny", str(road.folder / "one.txt"), "--model", "gpt-5-mini")
    assert submitted.returncode == 0, submitted.stderr
    worker = road.start("work")
    with road.ledger() as ledger:

        def tripped() -> bool:
            with ledger.snapshot() as connection:
                return any(one.kind == "internal_error" for one in events(connection))

        wait_until(tripped, what="the bug")
    worker.terminate()
    _, said = worker.communicate(timeout=100)
    bugs = [one for one in events_of(said) if one["event"] == "internal_error"]
    assert bugs[0]["level"] == "error"
    assert bugs[0]["document_id"].startswith("d")
    assert "the total is 5" not in said
