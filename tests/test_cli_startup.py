"""What commands that only look something up must not load: a person waits for them to start."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.call_history import INVALID, Calls, open_calls
from tests.command_lines import clean_env
from tests.ledgers import POSTGRES_URL

pytestmark = pytest.mark.skipif(
    POSTGRES_URL is not None, reason="these commands find their ledger by the home folder"
)

WORKING = {"redis", "arq", "openai", "httpx2", "aiolimiter", "runner.limiter", "runner.worker"}
PRICING = {"genai_prices", "runner.prices", "toktok", "runner.tokens", "runner.prompts"}
READING = {"runner.loaders", "lxml", "docx", "pypdfium2", "selectolax", "numpy", "pyarrow"}
SHOWING = {"starlette", "uvicorn", "jinja2", "rich", "runner.web", "runner.pages"}
MIGRATING = {"alembic", "sqlalchemy.dialects.postgresql", "sqlalchemy.orm"}
WATCHING = {"prometheus_client", "opentelemetry", "psutil"}
READING_ANSWERS = {"runner.completion", "runner.outputs", "runner.search", "difflib"}
HEAVY = WORKING | PRICING | READING | SHOWING | MIGRATING | WATCHING

# runs a command, then tells on stderr's last line what was loaded
PROBE = """
import json, sys
from runner.cli import command_line
try:
    command_line.main(sys.argv[1:])
except SystemExit as end:
    print("\\n" + json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    with open_calls(tmp_path_factory.mktemp("startup")) as calls:
        calls.says("Invoice of Acme", {"seller": "Acme"})
        calls.says("Letter", {"seller": 7}, INVALID)
        yield calls


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "status --json",
        "report",
        "report --json",
        "calls list",
        "calls search acme",
        "calls trace {document}",
        "calls show {attempt}",
        "dead list",
        "dead list --all --json",
        "dead show {document}",
        "show {document}",
        "audit",
        "batch list",
        "batch list --json",
    ],
)
def test_a_command_that_looks_something_up_loads_nothing_heavy(world: Calls, command: str) -> None:
    (letter,) = world.json("dead", "list", "--all")["letters"]
    (call_,) = world.json("calls", "trace", letter["document_id"])["calls"]
    ids = {"document": letter["document_id"], "attempt": call_["attempt_id"]}
    code, loaded = _loaded_by(*command.format(**ids).split(), home=world.home)
    assert code == 0
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("command", ["status", "report", "calls list", "dead list", "batch list"])
def test_a_list_does_not_load_what_reads_answers(world: Calls, command: str) -> None:
    code, loaded = _loaded_by(*command.split(), home=world.home)
    assert code == 0
    assert loaded & READING_ANSWERS == set()


def test_the_probe_sees_what_a_command_loads(world: Calls) -> None:
    code, loaded = _loaded_by("dead", "retry", "--dry-run", home=world.home)
    assert code == 0
    assert {"genai_prices", "runner.prices"} <= loaded


def _loaded_by(*arguments: str, home: Path) -> tuple[int, set[str]]:
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        env=clean_env(RUNNER_HOME=str(home)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(ended.stderr.splitlines()[-1])
    return code, set(loaded)
