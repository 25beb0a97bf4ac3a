"""How commands are made: groups that import lazily, help with an example and the exit codes."""

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from importlib import import_module
from types import ModuleType
from typing import Any

import click

from runner.cli.endings import exit_code_of
from runner.cli.exits import MEANINGS, Exit
from runner.log import begin

ALWAYS = (Exit.DONE, Exit.FAILED, Exit.USAGE)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout, for machines."
)


def together(*options: Decorator) -> Decorator:
    """One decorator of several options, which stand in the help in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How many workers, and how much each does at once: the same for `run` and `work`."""
    processes = click.option(
        "--processes",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        help="Worker processes; of several, one that dies is started again.",
    )
    concurrency = click.option(
        "--concurrency",
        type=click.IntRange(1, 10_000),
        default=100,
        show_default=True,
        help="Documents at once in each process.",
    )
    unsafe_redis = click.option(
        "--allow-unsafe-redis",
        is_flag=True,
        help="Work with a Redis that may evict keys: ids then vanish, and come back late.",
    )
    return processes(concurrency(unsafe_redis(command)))


class Command(click.Command):
    """A command whose help ends with an example and with the exit codes it may end with."""

    def __init__(
        self, *args: Any, example: Sequence[str], exits: Sequence[Exit] = ALWAYS, **extra: Any
    ) -> None:
        super().__init__(*args, **extra)
        self.example = example
        self.exits = exits

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example and the exit codes, each on a line of its own."""
        with formatter.section("Example"):
            for line in self.example:
                formatter.write(f"  {line}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), MEANINGS[code]) for code in self.exits])


def leave(code: Exit) -> None:
    """End the command with this exit code."""
    click.get_current_context().exit(int(code))


def _imported(name: str) -> ModuleType:
    """Import a module without looking for garbage meanwhile, of which imports make hardly any.

    Looking for it takes a seventh of the time (measured). What was made stays with the process
    and is looked through never again.
    """
    if name in sys.modules:
        return sys.modules[name]
    was_looking = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if was_looking:
            gc.freeze()
            gc.enable()


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the module of the one that is called.

    `table` maps a command's name to (module, attribute, one line of help).
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str, str]], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.table = table

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(self.table)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.table:
            return None
        module, attribute, _ = self.table[cmd_name]
        found: click.Command = getattr(_imported(module), attribute)
        return found

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, and name close ones when there is none."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name needs it

            close = get_close_matches(args[0], self.table, n=2)
            advice = f"; did you mean {' or '.join(close)}?" if close else ""
            ctx.fail(f"no command {args[0]!r}{advice}")
        return super().resolve_command(ctx, args)


class TopGroup(LazyGroup):
    """The outermost group: whatever goes wrong below ends as a message and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and leave the process with the exit code; commands find what was typed in `obj`."""
        typed = args[0] if args else extra.get("args")
        extra |= {"standalone_mode": False, "prog_name": "runner"}
        extra["obj"] = tuple(sys.argv[1:] if typed is None else typed)
        run = super().main

        def spoken() -> Any:
            begin(os.environ)
            return run(*args, **extra)

        sys.exit(exit_code_of(spoken))
