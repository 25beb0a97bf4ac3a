"""The command line as a whole: help, exit codes, and what becomes of anything that goes wrong."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runner.cli import command_line
from runner.cli.commands import Command, LazyGroup
from runner.cli.endings import exit_code_of
from runner.cli.exits import MEANINGS, Exit
from runner.errors import LedgerError, RoadError, RunnerError
from tests.command_lines import RUNNER, TIMEOUT_S, call, clean_env, spawn

HELP_MAX_S = 1.0  # of a core; it takes 0.1


def _all(group: LazyGroup, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, LazyGroup):
            yield from _all(command, *before, name)
        else:
            yield (*before, name), command


COMMANDS = list(_all(command_line))


@pytest.mark.parametrize(
    ("path", "command"),
    COMMANDS,
    ids=lambda one: " ".join(one[:2]) if isinstance(one, tuple) else "",
)
def test_each_command_has_help_with_an_example_exit_codes_and_json(
    path: tuple[str, ...], command: click.Command, tmp_path: Path
) -> None:
    assert isinstance(command, Command)
    assert command.example
    assert all(line.startswith(("runner " + " ".join(path), "cat ")) for line in command.example)
    assert "--json" in {name for option in command.params for name in option.opts}
    shown = call(*path, "--help", home=tmp_path)
    assert shown.code == 0
    assert command.example[0] in shown.out
    assert all(f"{int(code)}" in shown.out for code in command.exits)
    assert MEANINGS[Exit.USAGE] in shown.out


def test_each_option_says_what_it_does() -> None:
    silent = [
        (path, option.name)
        for path, command in COMMANDS
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_the_table_of_a_group_says_one_line_about_each_command(tmp_path: Path) -> None:
    shown = call("--help", home=tmp_path)
    table = shown.out.partition("Commands:")[2].splitlines()
    assert [line.split()[0] for line in table if line.startswith("  ")] == [
        *("run", "try", "submit", "work", "status", "report", "metrics", "results", "show", "dead"),
        *("review", "batch", "calls", "prune", "erase", "web", "audit", "doctor", "new"),
        *("revalidate", "compare", "eval", "prompt"),
    ]


def children_s() -> float:
    """Seconds of a core that ended children of this process took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_quick_because_it_imports_no_command(tmp_path: Path) -> None:
    before_s = children_s()
    assert spawn("--help", home=tmp_path).code == 0
    assert children_s() - before_s < HELP_MAX_S
    heavy = "[name for name in ('pydantic', 'sqlalchemy', 'rich', 'arq') if name in sys.modules]"
    code = (
        "import sys\nfrom runner.cli import command_line\n"
        f"try: command_line.main(['--help'])\nexcept SystemExit: print({heavy})"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rnu",), "did you mean run?"),
        (("dead", "lsit"), "did you mean list?"),
        (("run",), "Missing argument 'JOB'"),
        (("run", "invoice", "in", "--budget-usd", "-1"), "not an amount of money above 0"),
        (("run", "invoice", "in", "--budget-usd", "NaN"), "not an amount of money above 0"),
        (("run", "invoice", "in", "--processes", "0"), "--processes"),
        (("status", "--nonsense"), "No such option"),
        (("status", "june"), "no ledger at"),
        (("--config", "nowhere.toml", "status"), "nowhere.toml does not exist"),
        (("run", "invioce", "in"), "did you mean invoice?"),
        (("run", "invoice", "nowhere"), "nowhere does not exist"),
        (("run", "invoice", "jobs", "--out", "x.xml"), "unknown result format '.xml'"),
        (("run", "invoice", "jobs", "--out", "nowhere/x.csv"), "does not exist; make it first"),
        (("run", "invoice", "jobs", "--out", "-", "--json"), "give --out a file"),
        (("run", "invoice", "jobs", "--prompt", "v99"), "v99 is not locked"),
        (("run", "invoice", "jobs", "--model", "x-1", "--budget-usd", "1"), "no price is known"),
    ],
)
def test_what_cannot_be_done_as_asked_ends_with_2_and_says_why(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    ended = call(*arguments, home=tmp_path / "home")
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert ended.err.startswith("error: ")
    assert told in ended.err
    assert not (tmp_path / "home").exists()


def test_no_arguments_show_the_help_and_end_with_2(tmp_path: Path) -> None:
    ended = call(home=tmp_path)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "Commands:" in ended.err


def _raises(error: BaseException) -> int:
    def run() -> object:
        raise error

    return exit_code_of(run)


def test_known_troubles_end_with_1_and_their_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (RunnerError("the disk is full"), LedgerError("locked"), RoadError("no Redis")):
        assert _raises(error) == Exit.FAILED
        assert capsys.readouterr().err == f"error: {error}\n"


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert _raises(KeyboardInterrupt()) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_an_unexpected_error_is_one_clear_line_without_the_values_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNNER_DEBUG", raising=False)
    assert _raises(ValueError("odd \x1b[2Jvalue\n[parameters: 'text of a document']")) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: unexpected ValueError at test_cli_commands.py:")
    assert "odd value" in told
    assert "text of a document" not in told
    assert "RUNNER_DEBUG=1" in told


def test_runner_debug_shows_where_an_unexpected_error_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_DEBUG", "1")
    assert _raises(ValueError("odd")) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_trouble(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*RUNNER, "prompt", "list"],
        env=clean_env(RUNNER_HOME=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate(timeout=TIMEOUT_S)
    assert told == ""
    assert process.returncode == Exit.FAILED


def test_hostile_arguments_reach_the_terminal_as_text_only(tmp_path: Path) -> None:
    ended = call("\x1b[2Jrun\u202e", home=tmp_path)
    assert ended.code == Exit.USAGE
    assert "\x1b" not in ended.err
    assert "\u202e" not in ended.err


def test_home_and_config_on_the_command_line_go_before_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    config.write_text('[models."own"]\nbase_url = "http://example.test/v1"\n')
    found = call(
        *("--home", str(tmp_path / "own"), "--config", str(config), "doctor", "--json"),
        home=tmp_path / "other",
        env={"RUNNER_REDIS_URL": "redis://127.0.0.1:1/0"},
    )
    checks = {check["name"]: check for check in json.loads(found.out)["checks"]}
    assert str(tmp_path / "own") in checks["home"]["message"]
    assert "no https address, nor one on this machine" in checks["model own"]["message"]


def test_the_module_is_the_command(tmp_path: Path) -> None:
    ended = spawn("status", "--json", home=tmp_path)
    assert ended.code == 0
    assert ended.json()["batches"] == []
