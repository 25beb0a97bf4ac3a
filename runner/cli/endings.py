"""How a command ends: what went wrong becomes one message on stderr and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable

import click

from runner.cli.exits import Exit
from runner.cli.terminal import ERROR, hush_stdout, plain, talk
from runner.errors import RunnerError, UsageError

MESSAGE_CHARS_MAX = 300


def exit_code_of(run: Callable[[], object]) -> int:
    """Run a command; its exit code, after whatever went wrong has been said.

    RUNNER_DEBUG=1 shows the traceback of an error that nobody expected.
    """
    try:
        code = run()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the top: each gets a line
        return _say(error)
    return code if isinstance(code, int) else Exit.DONE


def _say(error: BaseException) -> int:
    code: int = Exit.FAILED
    match error:
        case BrokenPipeError():
            hush_stdout()
        case click.exceptions.NoArgsIsHelpError():
            talk(error.format_message())
            code = Exit.USAGE
        case click.ClickException():
            _say_usage(error)
            code = error.exit_code
        case click.Abort() | KeyboardInterrupt():
            talk("interrupted")
            code = Exit.INTERRUPTED
        case UsageError():
            talk(f"error: {error}", event=ERROR)
            code = Exit.USAGE
        case RunnerError():
            talk(f"error: {error}", event=ERROR)
        case _:
            _say_unexpected(error)
    return code


def _say_usage(error: click.ClickException) -> None:
    talk(f"error: {error.format_message()}", event=ERROR)
    context = getattr(error, "ctx", None)
    if context is not None:
        talk(f"`{context.command_path} --help` shows how it is called")


def _say_unexpected(error: BaseException) -> None:
    if os.environ.get("RUNNER_DEBUG") == "1":
        talk("".join(traceback.format_exception(error)), event=ERROR)
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    # only the first line: what follows in some libraries' errors are the values they were given
    first = plain((str(error).splitlines() or [""])[0], chars_max=MESSAGE_CHARS_MAX)
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119 - a name, no file
    talk(
        f"error: unexpected {type(error).__name__} at {where}: {first}\n"
        "this is a fault of the runner; RUNNER_DEBUG=1 shows where it comes from",
        event=ERROR,
    )
