"""Asks before something that cannot be undone, or that costs money."""

import sys

import click

from runner.cli.terminal import plain
from runner.errors import UsageError

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, *, yes: bool, needed_without_terminal: bool = True) -> None:
    """Ask on a terminal; `yes` answers beforehand.

    Where nobody can be asked: raises UsageError that tells of --yes, or goes ahead when the command
    is harmless enough for scripts. Raises click.Abort when the answer is no.
    """
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(plain(question), abort=True, err=True)
    elif needed_without_terminal:
        raise UsageError(f"{question} nobody can be asked here: add --yes")
