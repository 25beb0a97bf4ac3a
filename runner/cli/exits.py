"""The exit codes of every command, and what each means."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended; scripts rely on these numbers."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNFINISHED = 3
    UNBALANCED = 4
    PAUSED = 5
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "all done",
    Exit.FAILED: "failed; the message says why",
    Exit.USAGE: "not as asked; nothing was changed",
    Exit.UNFINISHED: "finished, with dead letters or reviews; a try: without a record",
    Exit.UNBALANCED: "the ledger does not balance",
    Exit.PAUSED: "paused (budget, key, or nothing finished for --max-wait)",
    Exit.INTERRUPTED: "interrupted; the message has the command that goes on",
}
