"""The one exception tree of the runner.

    RunnerError
    ├── UsageError            the person can mend it by typing something else (exit 2)
    │   ├── ConfigError       runner.toml or an environment variable
    │   ├── JobError          a job's folder, schema or prompt
    │   ├── InputError        an input that cannot be read at all
    │   └── NotFoundError     a batch, document or attempt that the ledger does not know
    ├── UnparsableError       one document's content cannot become text (dead `unparsable`)
    ├── LedgerError           the ledger cannot be opened or written
    └── RoadError             Redis, or a server that the runner starts, cannot be reached

A message says what, which, and what to do next; `str(error)` is shown to the person as it is.
Failures of a provider call are values (`runner.model.Failure`), not exceptions.
"""


class RunnerError(Exception):
    """Something the runner knows how to explain; its text is the message for the person."""


class UsageError(RunnerError):
    """What was asked for cannot be done as asked; nothing was changed."""


class ConfigError(UsageError):
    """A setting is missing, unknown or out of bounds."""


class JobError(UsageError):
    """A job cannot be found or loaded, or its prompts do not match its lock."""


class InputError(UsageError):
    """An input does not exist or is of a kind that no loader reads."""


class NotFoundError(UsageError):
    """The ledger has nothing under that name."""


class UnparsableError(RunnerError):
    """This content cannot be turned into text; its neighbours are not affected."""


class LedgerError(RunnerError):
    """The ledger cannot be opened, migrated or written."""


class RoadError(RunnerError):
    """Redis, or a server that the runner starts by itself, cannot be reached."""
