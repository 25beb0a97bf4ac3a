"""Calls of the `runner` command, in this process and as a process of its own, for tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from runner.cli import command_line

RUNNER = (sys.executable, "-m", "runner.cli")
TIMEOUT_S = 100.0
# what must not leak in from the machine the tests run on
_OWN = ("RUNNER_", "OPENAI_")


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, when that is one JSON document."""
        return json.loads(self.out)


def clean_env(**changes: str) -> dict[str, str]:
    """The environment without settings of the runner, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return kept | changes


def call(*arguments: str, home: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Call a command in this process."""
    own = {name: None for name in os.environ if name.startswith(_OWN)}
    overrides: dict[str, str | None] = {**own, "RUNNER_HOME": str(home), **(env or {})}
    ended = CliRunner().invoke(command_line, arguments, env=overrides)
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def spawn(*arguments: str, home: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Call a command as a process of its own."""
    ended = subprocess.run(
        [*RUNNER, *arguments],
        env=clean_env(RUNNER_HOME=str(home), **(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@contextmanager
def running(
    *arguments: str, env: Mapping[str, str], **streams: Any
) -> "Iterator[subprocess.Popen[bytes]]":
    """A command as a process that is killed at the end, so that no failed test waits for it."""
    with subprocess.Popen([*RUNNER, *arguments], env=env, **streams) as process:
        try:
            yield process
        finally:
            process.kill()
