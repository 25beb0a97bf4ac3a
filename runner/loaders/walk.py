"""Folders and globs: the files of a tree, in sorted order, never outside it."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from runner.loaders.kinds import KINDS, kind_of

OnSkipped = Callable[[str, str], None]  # path, why

_MAGIC = frozenset("*?[")
_ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder and the pattern, relative to it, that its files match; no pattern means all."""

    root: Path
    pattern: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """One entry of a folder on the way; `taken` when it or a folder above it matched."""

    path: Path
    parts: tuple[str, ...]
    taken: bool


def is_glob(name: str) -> bool:
    """Whether a name has glob characters."""
    return not _MAGIC.isdisjoint(name)


def tree_of_glob(name: str) -> Tree:
    """The tree of a glob: its root is the folder before the first part with a glob character."""
    parts = Path(name).parts
    fixed = next(number for number, part in enumerate(parts) if is_glob(part))
    pattern = [
        part
        for number, part in enumerate(parts[fixed:], start=fixed)
        if not (part == _ANY_DEPTH == parts[number - 1] and number > fixed)  # `**/**` is `**`
    ]
    return Tree(Path(*parts[:fixed]), tuple(pattern))


def walk(tree: Tree, *, on_skipped: OnSkipped) -> Iterator[Path]:
    """The files of known kinds in a tree, depth first, each folder's entries sorted by name.

    A folder that a glob matches gives all its files, as a shell would pass it on. Hidden entries
    (`.name`) and lock files of Office (`~$name`) are passed over in silence. Everything else that
    was asked for and is not given is reported to `on_skipped`: unknown kinds, links that lead
    outside the root or to a folder, folders that cannot be listed, pipes and devices.
    Memory: the entries of the folders between the root and the present one.
    """
    taken = not tree.pattern or _matches((), tree.pattern)
    pending = _listing(_Place(tree.root, (), taken), tree, on_skipped)
    while pending:
        place = pending.pop()
        kind = _entry_kind(place, tree, on_skipped)
        if kind == "folder" and (place.taken or _may_hold_matches(place.parts, tree.pattern)):
            pending.extend(_listing(place, tree, on_skipped))
        elif kind == "file" and place.taken and _is_loadable(place.path, on_skipped):
            yield place.path


def _listing(folder: _Place, tree: Tree, on_skipped: OnSkipped) -> list[_Place]:
    """The visible entries of a folder, last name first."""
    try:
        with os.scandir(folder.path) as entries:
            names = sorted((entry.name for entry in entries), reverse=True)
    except OSError as error:
        on_skipped(str(folder.path), f"the folder cannot be listed: {error.strerror}")
        return []
    return [
        _Place(folder.path / name, parts, folder.taken or _matches(parts, tree.pattern))
        for name in names
        if not name.startswith((".", "~$"))
        for parts in [(*folder.parts, name)]
    ]


def _entry_kind(place: _Place, tree: Tree, on_skipped: OnSkipped) -> str:
    """`folder`, `file`, or `skipped` when it is neither or a link that is not followed."""
    try:
        mode = place.path.lstat().st_mode
    except OSError as error:
        on_skipped(str(place.path), f"cannot be looked at: {error.strerror}")
        return "skipped"
    if stat.S_ISLNK(mode):
        return _link_kind(place, tree, on_skipped)
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    if place.taken:
        on_skipped(str(place.path), "neither a file nor a folder")
    return "skipped"


def _link_kind(place: _Place, tree: Tree, on_skipped: OnSkipped) -> str:
    # realpath, unlike Path.resolve, does not raise on a loop
    target = Path(os.path.realpath(place.path))
    is_folder = target.is_dir()
    if not target.is_relative_to(os.path.realpath(tree.root)):
        why = f"a link that leads outside {tree.root}"
    elif is_folder:
        why = "a link to a folder; its files are read in their own place"
    elif not target.is_file():
        why = "a link to nothing that is a file"
    else:
        return "file"
    if place.taken or is_folder:
        on_skipped(str(place.path), why)
    return "skipped"


def _is_loadable(path: Path, on_skipped: OnSkipped) -> bool:
    if kind_of(path) is not None:
        return True
    on_skipped(str(path), f"unknown kind {path.suffix!r}; read are {' '.join(KINDS)}")
    return False


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match the parts of a glob; `**` is any number of folders."""
    if not pattern:
        return False
    if pattern[0] == _ANY_DEPTH:
        rest = pattern[1:]
        return not rest or any(_matches(parts[start:], rest) for start in range(len(parts)))
    if not parts or not fnmatchcase(parts[0], pattern[0]):
        return False
    return len(parts) == len(pattern) == 1 or _matches(parts[1:], pattern[1:])


def _may_hold_matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return _ANY_DEPTH in pattern or len(parts) < len(pattern)
