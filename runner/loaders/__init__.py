"""Inputs become texts: folders, globs, files, rows, standard input and Python iterables.

The face of the package. `iter_sources` and `from_iterable` give one `SourceText` a source, in
constant memory; what cannot be trusted is parsed in processes of their own (`parsers.py`).
"""

from runner.loaders.kinds import KINDS, parse
from runner.loaders.limits import FILE_MAX_BYTES, ROW_MAX_BYTES, TEXT_MAX_BYTES, ParseLimits
from runner.loaders.rows import RowFields, from_iterable
from runner.loaders.sources import iter_sources

__all__ = [
    "FILE_MAX_BYTES",
    "KINDS",
    "ROW_MAX_BYTES",
    "TEXT_MAX_BYTES",
    "ParseLimits",
    "RowFields",
    "from_iterable",
    "iter_sources",
    "parse",
]
