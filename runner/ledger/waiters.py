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


def _note_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-waiters")


@contextmanager
def waiting(database: Path) -> Iterator[None]:
    """Until this ends, `someone_waits` is true for everybody."""
    with suppress(OSError):
        descriptor = os.open(_note_of(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # who looks holds it for a moment only, and one that cannot be had now is no loss
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)
        return
    yield


def someone_waits(database: Path) -> bool:
    """Whether anybody waits to write to this database, in this process or another one."""
    try:
        descriptor = os.open(_note_of(database), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
