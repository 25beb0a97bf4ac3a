"""One home with its real processes: the command line, workers, Redis, and the three histories."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config import Settings
from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import AttemptRow, list_calls
from runner.ledger.engine import sqlite_url
from runner.ledger.standing import state_counts
from runner.model import DocumentState
from runner.testing.book import Entry
from runner.testing.control import ProviderProcess
from runner.testing.documents import generate_documents
from scripts.campaign.histories import compare, read_histories
from tests import command_lines
from tests.command_lines import RUNNER, Ended, clean_env

KEY = "test-key-of-no-worth"
PATIENCE_S = 100.0  # what takes five seconds alone, on a machine that does much else
# Prices must be those of the `provider` fixture: both sides compute, neither copies.
CONFIG = """
[models."gpt-5-mini"]
input_usd_per_mtok = 0.25
cached_usd_per_mtok = 0.025
output_usd_per_mtok = 2.0
timeout_s = 20

[models."gpt-5"]
input_usd_per_mtok = 0.25
cached_usd_per_mtok = 0.025
output_usd_per_mtok = 2.0
timeout_s = 20
"""


@dataclass
class Road:
    """Starts commands in one home and ends what is left of them."""

    folder: Path
    base_url: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    more_env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write the settings."""
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the settings, with more tables at their end."""
        (self.folder / "runner.toml").write_text(CONFIG + more, encoding="utf-8")

    @property
    def home(self) -> Path:
        """RUNNER_HOME."""
        return self.folder / "home"

    @property
    def jobs(self) -> Path:
        """A folder for jobs of this test's own."""
        folder = self.folder / "own-jobs"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def env(self) -> dict[str, str]:
        """The environment of every command."""
        own = {
            "RUNNER_HOME": str(self.home),
            "RUNNER_CONFIG": str(self.folder / "runner.toml"),
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": KEY,
            "RUNNER_JOBS": str(self.jobs),
        }
        return clean_env(**own | self.more_env)

    def write_documents(self, count: int, *, seed: int = 1) -> Path:
        """A .jsonl of generated invoices."""
        path = self.folder / "documents.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for name, text in generate_documents(count, seed=seed, size="small"):
                lines.write(json.dumps({"id": name, "text": text}) + "\n")
        return path

    def start(self, *arguments: str, command: Sequence[str] = RUNNER) -> "subprocess.Popen[str]":
        """Start a command; it is killed at the test's end if it still runs."""
        process = subprocess.Popen(
            [*command, *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def call(
        self, *arguments: str, command: Sequence[str] = RUNNER, timeout_s: float = PATIENCE_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        process = self.start(*arguments, command=command)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def ask(self, *arguments: str) -> Ended:
        """Run a command to its end in this process: starting one takes longer than most looks."""
        return command_lines.call(*arguments, home=self.home, env=self.env)

    def json(self, *arguments: str, codes: Iterable[int] = (0,)) -> Any:
        """What a command asked in this process says with --json; fails on another exit code."""
        ended = self.ask(*arguments, "--json")
        assert ended.code in codes, ended
        return ended.json()

    def end(self) -> None:
        """Kill what was started and still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger, opened beside the processes."""
        opened = Ledger(sqlite_url(Settings.load(env=self.env).ledger_path))
        try:
            yield opened
        finally:
            opened.close()

    def counts(self) -> dict[DocumentState, int]:
        """Documents by state."""
        with self.ledger() as ledger, ledger.snapshot() as connection:
            return state_counts(connection, None)

    def attempts(self) -> list[AttemptRow]:
        """Every attempt."""
        with self.ledger() as ledger, ledger.snapshot() as connection:
            return list_calls(connection, CallFilter(limit=1_000_000))

    def workers(self) -> list[int]:
        """Pids of the living workers."""
        return [worker["pid"] for worker in self.json("status")["workers"]]


def wait_until(condition: Callable[[], bool], *, timeout_s: float = PATIENCE_S, what: str) -> float:
    """Poll until it holds; how many seconds that took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < timeout_s, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.05)
    return time.monotonic() - began_s


def assert_three_histories_agree(
    road: Road, provider: ProviderProcess, *, submitted: int, entries: list[Entry] | None = None
) -> None:
    """What was submitted, what the provider saw, and what the ledger says are one story."""
    with road.ledger() as ledger:
        histories = read_histories(ledger, entries or provider.book(), submitted=submitted)
    judged = compare(histories)
    assert judged.holds, judged.problems


def calls_of_documents(entries: Iterable[Entry]) -> dict[str, int]:
    """How often the provider saw each document."""
    seen: dict[str, int] = {}
    for entry in entries:
        assert entry.document_key is not None
        seen[entry.document_key] = seen.get(entry.document_key, 0) + 1
    return seen


def kill(pid: int) -> None:
    """Kill -9."""
    import os  # noqa: PLC0415 - only here

    os.kill(pid, signal.SIGKILL)
