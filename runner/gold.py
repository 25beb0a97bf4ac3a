"""Gold documents of a job: what each is, and what a right extraction of it says.

`gold.jsonl` in the job's folder has one JSON object a line, of a file beside it or of a text:

    {"input": "samples/x.pdf", "expected": {...}}
    {"id": "row 7", "text": "...", "expected": {...}, "tags": ["hostile"]}

`id` is the input's path when a line with an input has none; `tags` may stand in either. The text of
an input is made of its bytes by the loaders, when it is evaluated.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runner.errors import JobError
from runner.keys import content_digest
from runner.loaders import FILE_MAX_BYTES, TEXT_MAX_BYTES
from runner.prompts import problems_of

GOLD_FILE = "gold.jsonl"
CASES_MAX = 100_000
ID_CHARS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldCase:
    """One document with its right extraction: either `text` or the file at `path`."""

    id: str
    text: str | None
    path: Path | None
    expected: Mapping[str, Any]
    tags: tuple[str, ...]
    digest: str  # of all that makes the case what it is: id, content, expected, tags


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str | None = Field(default=None, min_length=1, max_length=ID_CHARS_MAX)
    input: str | None = Field(default=None, min_length=1, max_length=ID_CHARS_MAX)
    text: str | None = Field(default=None, min_length=1, max_length=TEXT_MAX_BYTES)
    expected: dict[str, Any]
    tags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_content(self) -> "_Line":
        if (self.input is None) == (self.text is None):
            raise ValueError("give either `input`, a file of the job, or `text`")
        if self.text is not None and self.id is None:
            raise ValueError("a line with `text` needs an `id`")
        return self


def read_gold(folder: Path) -> tuple[GoldCase, ...]:
    """The gold documents of the job in `folder`, in the order of their lines; blank ones are none.

    Raises JobError naming file and line when there is no such file, a line is malformed, an input
    is missing, outside the folder or too large, or two lines have one id; and when there is none.
    """
    path = folder / GOLD_FILE
    cases: dict[str, GoldCase] = {}
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        if len(cases) >= CASES_MAX:
            raise JobError(f"{where}: more than {CASES_MAX:,} gold documents; take a sample")
        case = _case(folder, line, where)
        if case.id in cases:
            raise JobError(f"{where}: another line has the id {case.id!r} already; name it anew")
        cases[case.id] = case
    if not cases:
        raise JobError(f"{path} has no gold document: a line each, with `input` and `expected`")
    return tuple(cases.values())


def gold_digest(cases: Iterable[GoldCase]) -> str:
    """The digest of a gold set: `sha256:` and 64 digits.

    It changes with any id, byte of a document, expected value or tag, and not with the order of
    lines, of keys, or with blanks.
    """
    listed = "\n".join(sorted(case.digest for case in cases))
    return "sha256:" + content_digest(listed.encode()).hex()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise JobError(
            f"{path} does not exist: write a line for each document whose right extraction is "
            'known, such as {"input": "samples/x.pdf", "expected": {...}}'
        )
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise JobError(f"{path}, line {number}: not UTF-8 text: {error.reason}") from error
            if text.strip():
                yield number, text


def _case(folder: Path, text: str, where: str) -> GoldCase:
    try:
        line = _Line.model_validate(json.loads(text, object_pairs_hook=_once))
    except json.JSONDecodeError as error:
        raise JobError(f"{where}: not valid JSON: {error}") from error
    except ValidationError as error:
        raise JobError(f"{where}: {problems_of(error)}") from error
    except ValueError as error:
        raise JobError(f"{where}: {error}") from error
    path = None if line.input is None else _input_path(folder, line.input, where)
    content = (line.text or "").encode() if path is None else path.read_bytes()
    id_ = line.id or line.input
    assert id_ is not None, "a line has an id or an input"
    known_as = [id_, content_digest(content).hex(), line.expected, line.tags]
    return GoldCase(
        id=id_,
        text=line.text,
        path=path,
        expected=line.expected,
        tags=line.tags,
        digest=content_digest(json.dumps(known_as, sort_keys=True).encode()).hex(),
    )


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose every key stands once: of two expected values nobody knows which is right."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return made


def _input_path(folder: Path, name: str, where: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise JobError(f"{where}: input {name!r} lies outside of {folder}; copy it in there")
    if not path.is_file():
        raise JobError(f"{where}: input {path} does not exist; mend the path or remove the line")
    if path.stat().st_size > FILE_MAX_BYTES:
        raise JobError(f"{where}: input {path} is larger than {FILE_MAX_BYTES // 1_000_000} MB")
    return path
