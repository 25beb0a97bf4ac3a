"""Who waits to write: a note beside a SQLite ledger, so that a long transaction can end early.

SQLite does not tell a writer that others wait for its lock. Who waits holds a shared lock on a file
of its own beside the database; who writes much looks whether anybody does. It only makes things
quicker: where the file cannot be had, writers wait for one another as SQLite lets them.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def waiting(database: Path) -> Iterator[None]:
    """Until this ends, `someone_waits` is true for everybody."""
    descriptor = _opened(database, os.O_CREAT)
    try:
        if descriptor is not None:
            # who looks holds it for a moment only, and one that cannot be had now is no loss
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def someone_waits(database: Path) -> bool:
    """Whether anybody waits to write to this database, in this process or another one."""
    descriptor = _opened(database)
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opened(database: Path, flags: int = 0) -> int | None:
    """The note's file, or None where it is missing or cannot be had."""
    note = database.with_name(f"{database.name}-waiters")
    try:
        return os.open(note, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError:
        return None
