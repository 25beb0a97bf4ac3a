"""The commands about jobs and the machine: new, prompt, doctor, and what submit puts in."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from redis import Redis

from runner.cli import checks
from runner.cli.exits import Exit
from runner.cli.shapes import prompts as prompt_shapes
from runner.cli.shapes.base import Shape
from runner.cli.shapes.batches import SubmittedShape
from runner.cli.shapes.home import CheckShape, DoctorShape, NewShape
from runner.servers.valkey import server_binary
from tests.command_lines import RUNNER, TIMEOUT_S, call, clean_env, spawn

SILENT_REDIS = {"RUNNER_REDIS_URL": "redis://:s3cret@127.0.0.1:1/0"}


def assert_closed(shape: type[Shape], printed: Any) -> None:
    """What was printed has exactly the fields of the model, in their order."""
    assert list(printed) == list(shape.model_fields)


@pytest.fixture
def own_job(tmp_path: Path) -> dict[str, str]:
    """A folder with a job of one's own, as the environment names it."""
    folder = tmp_path / "own"
    ended = call("new", "receipt", "--folder", str(folder), "--json", home=tmp_path / "home")
    assert ended.code == 0, ended.err
    assert_closed(NewShape, ended.json())
    return {"RUNNER_JOBS": str(folder)}


# ------------------------------------------------------------ new, prompt


def test_new_says_what_it_wrote_and_what_to_try(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    ended = call("new", "receipt", "--folder", str(folder), home=tmp_path / "home")
    assert ended.code == 0
    assert all(Path(line).is_file() for line in ended.out.splitlines())
    assert "runner run receipt" in ended.err
    assert f"export RUNNER_JOBS={folder}" in ended.err
    again = call("new", "receipt", "--folder", str(folder), home=tmp_path / "home")
    assert again.code == Exit.USAGE


def test_prompts_are_listed_shown_and_locked(own_job: dict[str, str], tmp_path: Path) -> None:
    def ask(*arguments: str) -> Any:
        ended = call("prompt", *arguments, "--json", home=tmp_path / "home", env=own_job)
        assert ended.code == 0, ended.err
        return ended.json()

    listed = ask("list", "receipt")
    assert_closed(prompt_shapes.PromptListShape, listed)
    assert_closed(prompt_shapes.PromptRowShape, listed["prompts"][0])
    prompts = Path(own_job["RUNNER_JOBS"]) / "receipt" / "prompts"
    (prompts / "v2.md").write_text((prompts / "v1.md").read_text() + "\nBe quick.\n")
    states = {row["version"]: (row["state"], row["live"]) for row in ask("list")["prompts"]}
    assert states["v2"] == ("unlocked", False)
    locked = ask("lock", "receipt", "v2")
    assert (locked["state"], locked["live"]) == ("locked", False)
    assert ask("lock", "receipt", "v2") == locked
    shown = ask("show", "receipt", "v2")
    assert_closed(prompt_shapes.PromptShape, shown)
    assert shown["user"].endswith("Be quick.")
    assert ask("show", "receipt")["version"] == "v1"
    (prompts / "v2.md").write_text((prompts / "v1.md").read_text() + "\nBe quicker.\n")
    assert ask("list", "receipt")["prompts"][1]["state"] == "changed"
    (prompts / "v2.md").unlink()
    assert ask("list", "receipt")["prompts"][1]["state"] == "missing"


def test_a_changed_locked_version_cannot_be_locked_again(
    own_job: dict[str, str], tmp_path: Path
) -> None:
    prompt = Path(own_job["RUNNER_JOBS"]) / "receipt" / "prompts" / "v1.md"
    prompt.write_text(prompt.read_text() + "\nBe quick.\n")
    ended = call("prompt", "lock", "receipt", "v1", home=tmp_path / "home", env=own_job)
    assert (ended.code, "locked versions never change" in ended.err) == (Exit.USAGE, True)


# ------------------------------------------------------------ submit


def test_submit_prints_what_it_added_and_adds_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in {"a.txt": "one", "b.txt": "two", "copy.txt": "one"}.items():
        (folder / name).write_text(text)
    (folder / "broken.pdf").write_bytes(b"no PDF")
    (folder / "program.exe").write_bytes(b"MZ")

    def submit() -> Any:
        ended = call("submit", "invoice", str(folder), "--json", home=tmp_path / "home")
        assert ended.code == 0, ended.err
        assert "program.exe" in ended.err
        return ended.json()

    first = submit()
    assert_closed(SubmittedShape, first)
    counts = {name: first[name] for name in ("accepted", "duplicate", "rejected", "unparsable")}
    assert counts == {"accepted": 3, "duplicate": 1, "rejected": 1, "unparsable": 1}
    again = submit()
    assert (again["batch"], again["accepted"], again["rejected"]) == (first["batch"], 0, 1)


def test_rows_on_standard_input_are_documents_of_their_own(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"id": n, "body": f"text {n}"}) + "\n" for n in range(5))
    arguments = ("ticket", "-", "--text-field", "body", "--id-field", "id", "--limit", "4")
    ended = subprocess.run(
        [*RUNNER, "submit", *arguments, "--batch", "rows", "--json"],
        env=clean_env(RUNNER_HOME=str(tmp_path / "home")),
        input=rows,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert json.loads(ended.stdout)["accepted"] == 4
    named = call("results", "rows", home=tmp_path / "home").out.splitlines()
    assert [json.loads(line)["source"] for line in named] == ["-#0", "-#1", "-#2", "-#3"]


def test_a_batch_goes_on_with_the_fields_that_it_was_begun_with(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    home = tmp_path / "home"
    rows.write_text('{"body": "one"}\n')
    begun = ("submit", "ticket", str(rows), "--batch", "rows")
    assert call(*begun, "--text-field", "body", home=home).code == 0
    rows.write_text('{"body": "one"}\n{"body": "two"}\n')
    assert call(*begun, "--json", home=home).json()["accepted"] == 1
    conflict = call(*begun, "--text-field", "other", home=home)
    assert (conflict.code, "pinned to text_field" in conflict.err) == (Exit.USAGE, True)


# ------------------------------------------------------------ doctor


def doctor(home: Path, env: dict[str, str], *options: str) -> tuple[int, dict[str, Any]]:
    ended = call("doctor", "--json", *options, home=home, env=env)
    printed = ended.json()
    assert_closed(DoctorShape, printed)
    for check in printed["checks"]:
        assert_closed(CheckShape, check)
    return ended.code, {check["name"]: check for check in printed["checks"]}


def verdicts(found: dict[str, Any], *names: str) -> list[str]:
    return [found[name]["verdict"] for name in names]


class Models(BaseHTTPRequestHandler):
    """Answers a question for models as it is told to, and keeps what it was asked and how."""

    status = 200
    location = ""
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.status)
        self.send_header("Location", self.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def listed_models(*, status: int, location: str = "") -> Iterator[tuple[str, type[Models]]]:
    """A provider that answers the question for its models in this way, and its base URL."""

    class Own(Models):
        asked: ClassVar[list[tuple[str, str | None]]] = []

    Own.status, Own.location = status, location
    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", Own
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


KEY = "sk-canary-0123456789"


def test_doctor_on_a_good_machine_finds_nothing(tmp_path: Path) -> None:
    with listed_models(status=200) as (base_url, provider):
        env = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
        code, found = doctor(tmp_path / "home", env, "--online")
    assert code == Exit.DONE
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert {"redis", "redis eviction", "ledger", "reach gpt-5-mini"} <= set(found)
    assert KEY not in json.dumps(found)
    assert set(provider.asked) == {("/v1/models", f"Bearer {KEY}")}


def test_doctor_asks_no_provider_unless_told_to(tmp_path: Path) -> None:
    with listed_models(status=200) as (base_url, provider):
        env = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
        doctor(tmp_path / "home", env | SILENT_REDIS)
    assert provider.asked == []


def test_doctor_says_that_a_key_is_not_accepted(tmp_path: Path) -> None:
    with listed_models(status=401) as (base_url, _):
        env = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
        code, found = doctor(tmp_path / "home", env | SILENT_REDIS, "--online")
    assert (code, found["reach gpt-5"]["verdict"]) == (Exit.FAILED, "fail")
    assert "the key is not accepted" in found["reach gpt-5"]["message"]


def test_doctor_sends_the_key_to_no_other_place_than_the_configured_one(tmp_path: Path) -> None:
    with (
        listed_models(status=200) as (elsewhere, other),
        listed_models(status=302, location=f"{elsewhere}/models") as (base_url, provider),
    ):
        env = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
        _, found = doctor(tmp_path / "home", env | SILENT_REDIS, "--online")
    assert "302" in found["reach gpt-5"]["message"]
    assert provider.asked
    assert other.asked == []


@pytest.mark.parametrize(("budget", "judged"), [("", "warn"), ("[budget]\nday_usd = 5\n", "fail")])
def test_doctor_minds_an_unknown_price_more_where_a_budget_of_the_day_needs_it(
    tmp_path: Path, budget: str, judged: str
) -> None:
    config = tmp_path / "runner.toml"
    config.write_text(f'{budget}[models."nobody-knows-it"]\nrpm = 60\n', encoding="utf-8")
    env = SILENT_REDIS | {"RUNNER_CONFIG": str(config)}
    _, found = doctor(tmp_path / "home", env)
    assert found["price nobody-knows-it"]["verdict"] == judged


def test_doctor_names_what_is_wrong_and_shows_no_secret(tmp_path: Path) -> None:
    code, found = doctor(tmp_path / "home", SILENT_REDIS)
    assert code == Exit.FAILED
    assert verdicts(found, "redis", "model gpt-5-mini") == ["fail", "fail"]
    assert "set OPENAI_API_KEY" in found["model gpt-5-mini"]["message"]
    assert "s3cret" not in json.dumps(found)
    assert not (tmp_path / "home" / "ledger.db").exists()


@pytest.fixture
def evicting_redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that evicts keys and keeps no file."""
    socket = tmp_path / "r.sock"
    server = subprocess.Popen(
        [str(server_binary()), "--port", "0", "--unixsocket", str(socket), "--save", "",
         "--maxmemory-policy", "allkeys-lru", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not socket.exists():
            assert server.poll() is None
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait()


def test_doctor_refuses_a_redis_that_evicts_and_warns_of_one_that_forgets(
    evicting_redis: str, tmp_path: Path
) -> None:
    _, found = doctor(tmp_path / "home", {"RUNNER_REDIS_URL": evicting_redis})
    assert verdicts(found, "redis", "redis eviction", "redis persistence") == ["ok", "fail", "warn"]
    assert "CONFIG SET maxmemory-policy noeviction" in found["redis eviction"]["message"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_refuses_a_redis_that_evicts(
    evicting_redis: str, tmp_path: Path, processes: str
) -> None:
    env = {"RUNNER_REDIS_URL": evicting_redis}
    refused = spawn("work", "--processes", processes, home=tmp_path / "home", env=env)
    assert refused.code == Exit.USAGE
    assert "maxmemory-policy allkeys-lru" in refused.err
    assert "--allow-unsafe-redis" in refused.err


def test_a_worker_that_is_told_to_works_with_any_redis_and_warns_of_one_that_forgets(
    evicting_redis: str, tmp_path: Path
) -> None:
    env = {"RUNNER_REDIS_URL": evicting_redis}
    options = ("work", "--until-empty")
    assert spawn(*options, "--allow-unsafe-redis", home=tmp_path / "home", env=env).code == 0
    with Redis.from_url(evicting_redis) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
    warned = spawn(*options, home=tmp_path / "home", env=env)
    assert (warned.code, warned.err) == (
        0,
        "runner: Redis keeps no append-only file: its restart delays documents by seconds\n",
    )


def test_doctor_sees_a_prompt_that_changed_after_its_lock(
    own_job: dict[str, str], tmp_path: Path
) -> None:
    prompt = Path(own_job["RUNNER_JOBS"]) / "receipt" / "prompts" / "v1.md"
    _, before = doctor(tmp_path / "home", own_job | SILENT_REDIS)
    prompt.write_text(prompt.read_text() + "\nBe quick.\n")
    _, after = doctor(tmp_path / "home", own_job | SILENT_REDIS)
    assert (before["job receipt"]["verdict"], after["job receipt"]["verdict"]) == ("ok", "fail")


def test_doctor_sees_a_job_that_does_not_load(own_job: dict[str, str], tmp_path: Path) -> None:
    broken = Path(own_job["RUNNER_JOBS"]) / "broken"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ValueError('no')\n")
    _, found = doctor(tmp_path / "home", own_job | SILENT_REDIS)
    assert found["job broken"]["verdict"] == "fail"
    assert found["job receipt"]["verdict"] == "ok"


def test_doctor_warns_of_a_home_that_others_can_enter(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    found = {check.name: check for check in checks.home(home)}
    assert (found["home"].verdict, found["permissions"].verdict) == ("ok", "warn")
    home.chmod(0o700)
    assert [check.verdict for check in checks.home(home)] == ["ok", "ok"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_doctor_refuses_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert [check.verdict for check in checks.home(tmp_path / "home")] == ["fail"]
