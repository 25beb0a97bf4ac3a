"""The inputs a person named become a stream of sources: all checked first, then read lazily."""

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO, assert_never, cast

from runner.errors import InputError, UnparsableError
from runner.loaders.files import FileUnderway, begin_file, open_regular, plain_text
from runner.loaders.kinds import KINDS, kind_of
from runner.loaders.limits import (
    FILE_MAX_BYTES,
    FILES_UNDERWAY,
    ROWS_READ_BYTES,
    ParseLimits,
)
from runner.loaders.parsers import Parsers
from runner.loaders.rows import RowFields, jsonl_sources
from runner.loaders.table import check_table, csv_sources
from runner.loaders.texts import clean_name, over_cap, unreadable
from runner.loaders.walk import OnSkipped, Tree, is_glob, tree_of_glob, walk
from runner.model import SourceText

STDIN = "-"

Rows = Callable[[BinaryIO], Iterator[SourceText]]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path


@dataclass(frozen=True, slots=True)
class _Stdin:
    stream: BinaryIO


_Input = _File | _Stdin | Tree


@dataclass(frozen=True, slots=True)
class _Reading:
    """How every input of one call is read."""

    fields: RowFields
    on_skipped: OnSkipped
    parsers: Parsers


def iter_sources(
    inputs: Sequence[str],
    *,
    text_field: str | None = None,
    id_field: str | None = None,
    stdin: IO[bytes] | None = None,
    limit: int | None = None,
    on_skipped: OnSkipped | None = None,
    parse_limits: ParseLimits = ParseLimits(),  # noqa: B008 - frozen
) -> Iterator[SourceText]:
    """The sources of all inputs in the order named, at most `limit`, a few documents in memory.

    An input is a folder (every file of a known kind in it), a glob (`**` too; it is expanded here
    when the shell did not), a file, or `-` for standard input: JSON lines when `text_field` is
    given, else one plain text as a whole. `.jsonl` and `.csv` files give one source a row, named
    `file#id` or `file#number`; `text_field` is `text` for JSON lines when not given, and may be
    left out for a CSV with a single column.

    Raises InputError before the first source, when an input does not exist, is a file of an
    unknown kind, a glob that matches nothing, or a CSV whose header does not have the fields.
    What exists but cannot be read or parsed is a source with `error` set and no text.
    PDF, DOCX and HTML are parsed in processes of their own, within `parse_limits`: what one of them
    does to its parser is its own error. Those processes end with the iterator, or with this one.
    Raises RunnerError when none can be started.
    `on_skipped(path, why)` hears of the entries of folders that are not read.
    """
    if not inputs:
        raise InputError("no input named: give a folder, a glob, files, or - for standard input")
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1, not {limit}")
    if list(inputs).count(STDIN) > 1:
        raise InputError("standard input (-) is named twice and can be read only once")
    fields = RowFields(text=text_field, id=id_field)
    checked = [_checked(name, fields=fields, stdin=stdin) for name in inputs]
    reading = _Reading(fields, on_skipped or _unheard, Parsers(parse_limits))
    return _stream(checked, reading, limit=limit)


def _unheard(_path: str, _why: str) -> None:
    """Nobody asked which entries are passed over."""


def _checked(name: str, *, fields: RowFields, stdin: IO[bytes] | None) -> _Input:
    if name == STDIN:
        return _Stdin(cast("BinaryIO", stdin or sys.stdin.buffer))
    path = Path(name)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(f"{name}: cannot be looked at: {error.strerror}") from error
    if not name or (not exists and not is_glob(name)):
        raise InputError(f"{name or 'an empty input name'} does not exist; mend the path")
    if is_folder:
        return _checked_folder(path)
    return _checked_file(path, fields) if exists else _checked_glob(name)


def _checked_folder(path: Path) -> Tree:
    try:
        os.scandir(path).close()
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be listed: {error.strerror}") from error
    return Tree(path)


def _checked_glob(name: str) -> Tree:
    tree = tree_of_glob(name)
    if next(walk(tree, on_skipped=_unheard), None) is None:
        raise InputError(f"{name} matches no file of a known kind ({' '.join(KINDS)})")
    return tree


def _checked_file(path: Path, fields: RowFields) -> _File:
    kind = kind_of(path)
    if kind is None:
        raise InputError(
            f"{path}: unknown kind of file {path.suffix!r}; known are {' '.join(KINDS)} "
            "(a plain text of another name goes through standard input: -)"
        )
    if kind == "csv":
        try:
            with open_regular(path) as stream:
                check_table(stream, fields)
        except UnparsableError as error:
            raise InputError(f"{path}: {error}") from error
        except OSError:
            pass  # reading it gives a source with this error
    return _File(path)


def _stream(
    inputs: list[_Input], reading: _Reading, *, limit: int | None
) -> Generator[SourceText, None, None]:
    with closing(reading.parsers):
        yield from _finished(islice(_all_sources(inputs, reading), limit))


def _finished(begun: Iterable[SourceText | FileUnderway]) -> Iterator[SourceText]:
    """Each source in its place; while one is waited for, the next is being parsed already."""
    underway: deque[SourceText | FileUnderway] = deque()
    for one in begun:
        if not underway and isinstance(one, SourceText):
            yield one
            continue
        underway.append(one)
        while underway and (isinstance(underway[0], SourceText) or len(underway) >= FILES_UNDERWAY):
            yield _finish(underway.popleft())
    for one in underway:
        yield _finish(one)


def _finish(one: SourceText | FileUnderway) -> SourceText:
    return one if isinstance(one, SourceText) else one.finish()


def _all_sources(inputs: list[_Input], reading: _Reading) -> Iterator[SourceText | FileUnderway]:
    for named in inputs:
        match named:
            case _File(path):
                yield from _file_sources(path, reading)
            case Tree():
                for path in walk(named, on_skipped=reading.on_skipped):
                    yield from _file_sources(path, reading)
            case _Stdin(stream):
                yield from _stdin_sources(stream, reading)
            case _:
                assert_never(named)


def _file_sources(path: Path, reading: _Reading) -> Iterator[SourceText | FileUnderway]:
    source = clean_name(str(path))
    kind = KINDS[path.suffix.lower()]
    match kind:
        case "jsonl":
            rows = partial(jsonl_sources, container=source, fields=reading.fields)
            yield from _row_sources(source, path, rows)
        case "csv":
            rows = partial(csv_sources, container=source, fields=reading.fields)
            yield from _row_sources(source, path, rows)
        case _:
            yield begin_file(source=source, path=path, kind=kind, parsers=reading.parsers)


def _row_sources(source: str, path: Path, rows: Rows) -> Iterator[SourceText]:
    """The rows of a file; what ends the reading early is a source too, so that it is not missed."""
    try:
        with open_regular(path, read_bytes=ROWS_READ_BYTES) as stream:
            yield from rows(stream)
    except OSError as error:
        yield unreadable(source, f"cannot be read any further: {error.strerror}")
    except UnparsableError as error:
        yield unreadable(source, str(error))


def _stdin_sources(stream: BinaryIO, reading: _Reading) -> Iterator[SourceText]:
    if reading.fields.text is not None:
        yield from jsonl_sources(stream, container=STDIN, fields=reading.fields)
        return
    content = stream.read(FILE_MAX_BYTES + 1)
    if len(content) > FILE_MAX_BYTES:
        yield unreadable(STDIN, over_cap("the text", FILE_MAX_BYTES))
    else:
        yield plain_text(source=STDIN, content=content)
