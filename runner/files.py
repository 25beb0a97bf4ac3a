"""Writes files that appear whole or not at all, readable by their owner alone."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runner.errors import InputError, RunnerError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and is gone otherwise.

    It has mode 0600, and is on disk when it appears; links are followed.
    Raises InputError when the path cannot be used, RunnerError when writing fails.
    """
    target = _checked_target(path)
    try:
        with _atomic_file(target) as stream:
            yield stream
    except OSError as error:
        raise RunnerError(
            f"{path} was not written: {error.strerror or error}; nothing was left behind: "
            "make room or choose another place and write it again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text as `whole_file` does."""
    with whole_file(path) as stream:
        stream.write(text.encode())


def _checked_target(path: Path) -> Path:
    """The file behind `path` (links followed), which is replaced as a whole."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is not a file; name a file, or - for standard output")
    if not target.parent.is_dir():
        raise InputError(f"{path}: the folder {target.parent} does not exist; create it first")
    return target


@contextmanager
def _atomic_file(target: Path) -> Iterator[BinaryIO]:
    """A new file that takes its place when the block ends well, and is gone when it does not."""
    # mkstemp: mode 0600, and a name that no other export has
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
