"""Notes the one document whose job's code a worker is running, where a crash leaves it to be read.

A few bytes of a mapped file: what is written there is still there after a kill -9, an abort or
the memory limit, and costs no system call. So a crash is charged to the document that was being
rendered or checked, and not to its neighbours.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

FOLDER = "suspects"
SIZE_BYTES = 64


class Suspect:
    """This process's note in its home; made once, closed at the end."""

    def __init__(self, home: Path) -> None:
        self._path = _path(home, os.getpid())
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, SIZE_BYTES)
            self._note = mmap.mmap(descriptor, SIZE_BYTES)
        finally:
            os.close(descriptor)

    @contextmanager
    def running(self, document_id: str) -> Iterator[None]:
        """Name the document while its job's code runs; one at a time, as that code is not async."""
        self._note[:SIZE_BYTES] = document_id.encode().ljust(SIZE_BYTES, b"\0")
        try:
            yield
        finally:
            self._note[0] = 0

    def close(self) -> None:
        """Remove the note: this process ended well."""
        self._note.close()
        self._path.unlink(missing_ok=True)


def suspect_of(home: Path, pid: int) -> str | None:
    """The document whose code a process of this home was running when it fell silent."""
    try:
        noted = _path(home, pid).read_bytes()
    except FileNotFoundError:
        return None
    return noted.partition(b"\0")[0].decode() or None


def clear_suspect(home: Path, pid: int) -> None:
    """Clear the note once it is charged; that of a process that lives on stays its own."""
    with suppress(FileNotFoundError):
        if not psutil.pid_exists(pid):
            _path(home, pid).unlink()
            return
        with _path(home, pid).open("r+b") as note:
            note.write(b"\0")


def _path(home: Path, pid: int) -> Path:
    return home / FOLDER / str(pid)
