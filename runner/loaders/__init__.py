"""Inputs become texts: folders, globs, files, rows, standard input and Python iterables.

The face of the package. `iter_sources` and `from_iterable` give one `SourceText` a source, in
constant memory; `parse` turns one file's bytes into text and can run in a process of its own.
"""

from runner.loaders.files import KINDS, parse
from runner.loaders.rows import RowFields, from_iterable
from runner.loaders.sources import iter_sources
from runner.loaders.texts import FILE_MAX_BYTES, ROW_MAX_BYTES, TEXT_MAX_BYTES

__all__ = [
    "FILE_MAX_BYTES",
    "KINDS",
    "ROW_MAX_BYTES",
    "TEXT_MAX_BYTES",
    "RowFields",
    "from_iterable",
    "iter_sources",
    "parse",
]
