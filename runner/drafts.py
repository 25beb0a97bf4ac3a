"""Begins a prompt version as a copy of another, and tells how two versions differ."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from runner.errors import JobError
from runner.promptlock import Lock, LockedVersion, changed_parts, find_lock, freeze
from runner.prompts import (
    check_version_name,
    load_prompt,
    prompt_path,
    read_text,
    versions_in,
)

_NUMBERED = re.compile(r"v(\d+)")
# What the prompt id covers and no prompt file shows.
_OF_THE_JOB = ("models", "schema", "repair")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version that was begun; nothing is locked."""

    version: str
    copied_from: str
    path: Path


def begin_version(folder: Path, version: str | None, *, source: str | None) -> Draft:
    """Copy a version's file, the live one's by default, to a new one, by default the next number.

    Raises JobError when the new version exists, or ever did in the lock, or when there is nothing
    to copy.
    """
    lock = find_lock(folder)
    known = {*versions_in(folder), *(lock.versions if lock is not None else ())}
    copied_from = source or (lock.live if lock is not None else None)
    if copied_from is None:
        raise JobError(
            f"job {folder.name} has no live version to copy; --from names one of: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    load_prompt(folder, copied_from)
    begun = version or _next_number(known)
    check_version_name(begun)
    path = prompt_path(folder, begun)
    if begun in known:
        raise JobError(f"prompt {folder.name}/{begun} exists already; choose another name")
    with path.open("xb") as file:
        file.write(prompt_path(folder, copied_from).read_bytes())
    return Draft(version=begun, copied_from=copied_from, path=path)


def _next_number(known: set[str]) -> str:
    numbers = [int(found[1]) for one in known if (found := _NUMBERED.fullmatch(one))]
    return f"v{max(numbers, default=0) + 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a version differs from another one."""

    before_id: str
    after_id: str
    changed: tuple[str, ...]  # parts of the prompt id
    unknown: tuple[str, ...]  # parts that cannot be compared
    diff: str


def compare_versions(
    folder: Path,
    before: str,
    after: str,
    *,
    models: tuple[str, ...],
    schema: Mapping[str, Any],
) -> Comparison:
    """Compare the files of two versions, and what each asks: as locked, or else as it is now.

    Raises JobError when one of them does not exist or is malformed.
    """
    lock = find_lock(folder)
    one, other = (
        _asked(folder, version, lock, models=models, schema=schema) for version in (before, after)
    )
    known = set(one.parts or {}) & set(other.parts or {})
    return Comparison(
        before_id=one.prompt_id,
        after_id=other.prompt_id,
        changed=changed_parts(one, other),
        unknown=()
        if one.prompt_id == other.prompt_id
        else tuple(name for name in _OF_THE_JOB if name not in known),
        diff=_diff(prompt_path(folder, before), prompt_path(folder, after)),
    )


def _asked(
    folder: Path,
    version: str,
    lock: Lock | None,
    *,
    models: tuple[str, ...],
    schema: Mapping[str, Any],
) -> LockedVersion:
    """A version with the parts of its id: those of its lock, or of now where it asks the same."""
    now = freeze(load_prompt(folder, version), models=models, schema=schema)
    locked = lock.versions.get(version) if lock is not None else None
    if locked is None or locked.prompt_id == now.prompt_id:
        return now
    if locked.parts is not None:
        return locked
    of_its_file = {
        name: part for name, part in (now.parts or {}).items() if name not in _OF_THE_JOB
    }
    same_file = locked.content_hash == now.content_hash
    return locked.model_copy(update={"parts": of_its_file if same_file else None})


def _diff(before: Path, after: Path) -> str:
    one, other = (read_text(path).splitlines() for path in (before, after))
    names = (f"prompts/{before.name}", f"prompts/{after.name}")
    return "".join(f"{line}\n" for line in unified_diff(one, other, *names, lineterm=""))
