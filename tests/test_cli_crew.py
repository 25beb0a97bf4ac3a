"""Worker children of a run: heard, restarted, given up, drained, and never left behind."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runner import processes
from runner.cli.crew import GIVE_UP_AFTER, Crew
from runner.cli.work import Talk
from runner.errors import RunnerError
from tests.command_lines import clean_env

PATIENCE_S = 100.0


@pytest.fixture(autouse=True)
def _quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RESTART_MAX_S", 0.01)


def until(what: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.02)


def crew_of(home: Path, *arguments: str, said: list[str], **env: str) -> Crew:
    return Crew(
        count=1,
        arguments=arguments,
        env=clean_env(RUNNER_HOME=str(home), **env),
        on_line=said.append,
    )


def tend_until(crew: Crew, what: Callable[[], bool]) -> None:
    def tended() -> bool:
        crew.tend()
        return what()

    until(tended)


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.is_running() and "runner.cli" in child.cmdline()
    ]


def test_a_child_that_refuses_its_settings_is_given_up_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    with crew_of(tmp_path, said=said, RUNNER_CONFIG="nowhere.toml") as crew:
        crew.start()
        with pytest.raises(RunnerError, match=r"no worker can start: config file nowhere\.toml"):
            tend_until(crew, lambda: False)


def test_children_that_fail_alike_again_and_again_are_given_up_with_their_words(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    (tmp_path / "ledger.db").mkdir()  # no file can be made of it
    with crew_of(tmp_path, said=said) as crew:
        crew.start()
        with pytest.raises(RunnerError, match="no worker can start: ledger sqlite"):
            tend_until(crew, lambda: False)
    assert said == []
    assert children() == []


def test_a_child_that_is_killed_is_replaced_however_often(tmp_path: Path) -> None:
    said: list[str] = []
    with crew_of(tmp_path, said=said) as crew:
        crew.start()
        for _ in range(GIVE_UP_AFTER + 1):
            (pid,) = crew.pids()
            os.kill(pid, signal.SIGKILL)
            until(lambda: not crew.pids())
            tend_until(crew, lambda: bool(crew.pids()))
    told = "a worker ended (killed by SIGKILL); starting another one"
    assert said == [told] * (GIVE_UP_AFTER + 1)
    assert children() == []


def test_leaving_a_crew_leaves_no_child_and_no_pipe_behind(tmp_path: Path) -> None:
    said: list[str] = []
    crew = crew_of(tmp_path, said=said)
    with crew:
        crew.start()
        assert len(children()) == 1
    assert children() == []
    assert crew.ended


def test_a_crew_that_was_never_started_has_ended(tmp_path: Path) -> None:
    with crew_of(tmp_path, said=[]) as crew:
        crew.tend()
        assert crew.ended
    assert not (tmp_path / "ledger.db").exists()


def _hear(crew: Crew, *lines: str) -> None:
    talk = Talk.through(crew.pipe)
    for line in lines:
        talk.write(line + "\n")
    crew.tend()
    os.close(talk.fileno())


def test_what_differs_only_in_ids_and_numbers_is_shown_once(tmp_path: Path) -> None:
    said: list[str] = []
    with crew_of(tmp_path, said=said) as crew:
        _hear(
            crew,
            "runner: internal error on d4pvyyhvhs5ywcidxo52doa76: after 12 ms",
            "runner: internal error on dzbwsfuihltawqcywa7d3qqlx: after 340 ms",
            "runner: \x1b[31mRedis away\u202e",
        )
    assert said == [
        "runner: internal error on d4pvyyhvhs5ywcidxo52doa76: after 12 ms",
        "runner: Redis away",
    ]


def test_of_a_traceback_only_the_last_line_is_shown(tmp_path: Path) -> None:
    said: list[str] = []
    trace = 'Traceback (most recent call last):\n  File "x", line 1\n    boom()\nValueError: odd'
    with crew_of(tmp_path, said=said) as crew:
        _hear(crew, *trace.split("\n"))
    assert said == ["ValueError: odd"]


def test_a_pipe_that_is_full_or_left_by_its_reader_disturbs_nobody(tmp_path: Path) -> None:
    with crew_of(tmp_path, said=[]) as crew:
        talk = Talk.through(crew.pipe)
        for _ in range(100):
            assert talk.write("x" * 10_000) == 10_000
    assert talk.write("nobody reads this") == len("nobody reads this")
    os.close(talk.fileno())


def test_a_full_disk_under_the_log_of_a_worker_disturbs_nothing() -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        talk = Talk(full.fileno())
        assert talk.write("lost\n") == 5
        talk.flush()
