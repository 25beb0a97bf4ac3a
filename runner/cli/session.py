"""What every command shares: the settings it was started with, and the ledger they lead to."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.errors import LedgerError, NotFoundError

if TYPE_CHECKING:
    from runner.config import Settings
    from runner.ledger import Ledger
    from runner.ledger.submission import Batch


@dataclass(frozen=True)
class Session:
    """One call of the command line: `--config`, `--home`, and the environment around them."""

    config: Path | None = None
    home: Path | None = None
    typed: tuple[str, ...] = ()  # the command line, to print the one that goes on
    surroundings: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @cached_property
    def env(self) -> dict[str, str]:
        """The environment that worker children get: the same home and config as this process."""
        env = dict(self.surroundings)
        if self.home is not None:
            env["RUNNER_HOME"] = str(self.home.absolute())
        if self.config is not None:
            env["RUNNER_CONFIG"] = str(self.config.absolute())
        return env

    @cached_property
    def settings(self) -> "Settings":
        """The settings, read once. Raises ConfigError."""
        from runner.config import Settings  # noqa: PLC0415 - 0.1 s that `--help` need not spend

        return Settings.load(env=self.env)

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger to read; one on PostgreSQL is taken to be there."""
        return self.settings.ledger_url is not None or self.settings.ledger_path.is_file()

    @contextmanager
    def ledger(self, *, create: bool = False) -> Iterator["Ledger"]:
        """The ledger of these settings; only a command that submits or works creates one.

        Raises NotFoundError when there is none, LedgerError when it cannot be opened or used.
        """
        if not create and not self.has_ledger:
            raise NotFoundError(
                f"no ledger at {self.settings.ledger_path}: nothing was submitted from here; "
                "RUNNER_HOME or --home names another home"
            )
        # a quarter of a second that `--help` and `runner new` need not spend
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - see above

        from runner.ledger import Ledger  # noqa: PLC0415 - see above
        from runner.ledger.engine import sqlite_url  # noqa: PLC0415 - see above

        ledger = Ledger(self.settings.ledger_url or sqlite_url(self.settings.ledger_path))
        try:
            yield ledger
        except DBAPIError as error:
            # its own text would quote the statement's parameters, which may be documents
            raise LedgerError(f"the ledger could not be read or written: {error.orig}") from error
        finally:
            ledger.close()


pass_session = click.make_pass_decorator(Session)


def find_batch(ledger: "Ledger", id_or_name: str) -> "Batch":
    """The batch of this id or name. Raises NotFoundError with names that come close."""
    from runner.ledger.control import batch_names  # noqa: PLC0415 - as in `ledger`
    from runner.ledger.submission import find_batch as find  # noqa: PLC0415 - as in `ledger`

    with ledger.snapshot() as connection:
        found = find(connection, id_or_name)
        if found is not None:
            return found
        from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name needs it

        close = get_close_matches(id_or_name, batch_names(connection), n=3)
    advice = f"did you mean {' or '.join(close)}?" if close else "`runner batch list` shows them"
    raise NotFoundError(f"no batch {id_or_name!r}: {advice}")
