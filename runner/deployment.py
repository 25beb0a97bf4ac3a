"""Changes what is locked, live or a canary: the one writer of a job's prompts.lock.

Each change is made alone (a lock on the job's folder) and replaces the file as a whole: whoever
reads it, and whatever crashes, there is the old lock or the new one. What a person wrote into the
file, such as comments, stays.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Float, Item, Trivia

from runner.errors import JobError, RunnerError
from runner.promptlock import (
    LOCK_FILE,
    CanaryShare,
    Deployment,
    Evidence,
    Lock,
    changes_of,
    find_lock,
    freeze,
    parse_lock,
    read_lock,
    refuse_changed,
)
from runner.prompts import load_prompt, prompt_path, read_text

_HEADER = "Written by `runner prompt`; locked versions never change."
_TIGHT_HEADER = re.compile(r"(?<=[^\n])\n(?=\[)")  # the header of a table right below a line


def lock_version(
    folder: Path,
    version: str,
    *,
    models: tuple[str, ...],
    schema: Mapping[str, Any],
    clock_s: Callable[[], float] = time.time,
) -> Lock:
    """Freeze a version in prompts.lock; the first version ever locked becomes the live one.

    Locking the same thing again changes nothing. Raises JobError when the version is locked already
    and its text, the schema or the model ladder has changed since.
    """
    prompt = load_prompt(folder, version)
    at = _now(clock_s)
    new = freeze(prompt, models=models, schema=schema, locked_at=at.date())
    with _changing(folder) as change:
        lock = change.lock
        if lock is None:
            first = Deployment(at=at, what="lock", version=version)
            return change.to(Lock(live=version, versions={version: new}, deployments=(first,)))
        if version not in lock.versions:
            return change.to(lock.model_copy(update={"versions": {**lock.versions, version: new}}))
        if changes := changes_of(lock.versions[version], new):
            raise JobError(
                f"prompt {folder.name}/{version} is locked and its {changes}: locked versions never"
                f" change; write the new one to {prompt_path(folder, 'v<next>')} and lock that"
            )
        return lock


def promote(
    folder: Path,
    version: str,
    *,
    evidence: Evidence,
    ceiling_usd: Decimal | None,
    percent: int | None = None,
    clock_s: Callable[[], float] = time.time,
) -> Lock:
    """Make a locked version live, or with `percent` the canary, and keep what it was judged on.

    Promoting what is so already changes nothing but the evidence. A promotion to live ends any
    canary. Raises JobError when the version is not locked, was changed, or is live and is to become
    a canary.
    """
    with _changing(folder) as change:
        lock = _with_locked(folder, change.lock, version)
        judged = lock.versions[version].model_copy(
            update={"evaluation": evidence, "ceiling_usd": ceiling_usd}
        )
        lock = lock.model_copy(update={"versions": {**lock.versions, version: judged}})
        if percent is None:
            return change.to(_made_live(lock, version, at=_now(clock_s)))
        if version == lock.live:
            raise JobError(
                f"prompt {folder.name}/{version} is live already: every document is asked with it"
            )
        return change.to(_made_canary(lock, version, percent, at=_now(clock_s)))


def _made_live(lock: Lock, version: str, *, at: datetime) -> Lock:
    if version == lock.live and lock.canary is None:
        return lock
    made = Deployment(at=at, what="promote", version=version, instead_of=lock.live)
    return lock.model_copy(
        update={"live": version, "canary": None, "deployments": (*lock.deployments, made)}
    )


def _made_canary(lock: Lock, version: str, percent: int, *, at: datetime) -> Lock:
    canary = CanaryShare(version=version, percent=percent)
    if canary == lock.canary:
        return lock
    made = Deployment(at=at, what="canary", version=version, percent=percent)
    return lock.model_copy(update={"canary": canary, "deployments": (*lock.deployments, made)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What a rollback does: `bad` is asked no more, `good` is live."""

    bad: str
    good: str
    of_canary: bool  # it withdraws a canary; the live version stays


def withdrawal(folder: Path) -> Withdrawal:
    """What a rollback would do now: withdraw the canary, or else put the previous live back.

    Raises JobError when there is nothing to go back to, or when the file of the version to go back
    to is not what was locked.
    """
    lock = read_lock(folder)
    good = lock.live if lock.canary is not None else lock.previous_live
    if good is None:
        raise JobError(
            f"job {folder.name}: no version was live before {lock.live}, so there is nothing to go "
            f"back to; `runner prompt new {folder.name}` begins another one"
        )
    _with_locked(folder, lock, good)
    return Withdrawal(bad=_newest(lock), good=good, of_canary=lock.canary is not None)


def roll_back(
    folder: Path, planned: Withdrawal, *, clock_s: Callable[[], float] = time.time
) -> Lock:
    """Do what `withdrawal` planned; there is no canary then.

    Raises JobError when the lock was changed since: nothing is rolled back twice.
    """
    with _changing(folder) as change:
        lock = _with_locked(folder, change.lock, planned.good)
        if _newest(lock) != planned.bad:
            raise JobError(
                f"job {folder.name}: somebody changed its lock meanwhile; "
                f"`runner prompt status {folder.name}` shows how it stands"
            )
        done = Deployment(
            at=_now(clock_s), what="rollback", version=planned.good, instead_of=planned.bad
        )
        return change.to(
            lock.model_copy(
                update={
                    "live": planned.good,
                    "canary": None,
                    "deployments": (*lock.deployments, done),
                }
            )
        )


def _newest(lock: Lock) -> str:
    """The version that a rollback withdraws."""
    return lock.live if lock.canary is None else lock.canary.version


def _with_locked(folder: Path, lock: Lock | None, version: str) -> Lock:
    """The lock, when it has this version and the version's file is what was locked."""
    if lock is None or version not in lock.versions:
        raise JobError(
            f"prompt {folder.name}/{version} is not locked; "
            f"`runner prompt lock {folder.name} {version}` locks it"
        )
    refuse_changed(folder, lock, load_prompt(folder, version))
    return lock


def _now(clock_s: Callable[[], float]) -> datetime:
    return datetime.fromtimestamp(clock_s(), UTC).replace(microsecond=0)


# ------------------------------------------------------------ writing


@dataclass(frozen=True, slots=True)
class _Change:
    """A lock that nobody else changes now."""

    folder: Path
    lock: Lock | None

    def to(self, new: Lock) -> Lock:
        """Write the new lock, unless it is the old one."""
        if new != self.lock:
            _write(self.folder / LOCK_FILE, new)
        return new


@contextmanager
def _changing(folder: Path) -> Iterator[_Change]:
    """Nobody else changes this job's lock meanwhile; readers are not kept waiting."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _Change(folder, find_lock(folder))
    finally:
        os.close(descriptor)


def _write(path: Path, lock: Lock) -> None:
    """Make the file say this lock, keeping what else it says. Raises RunnerError when it cannot."""
    if path.exists():
        document = tomlkit.parse(read_text(path))
    else:
        document = tomlkit.document()
        document.add(tomlkit.comment(_HEADER))
    _merge(document, lock.model_dump(exclude_none=True))
    text = _TIGHT_HEADER.sub("\n\n", tomlkit.dumps(document))
    assert parse_lock(text, path) == lock, "a lock that says something else is never written"
    try:
        _replace(path, text)
    except OSError as error:
        raise RunnerError(
            f"{path}: cannot be written: {error.strerror}; mend that and repeat the command"
        ) from error


def _merge(table: MutableMapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for gone in [name for name in table if name not in wanted]:
        del table[gone]
    for name, value in wanted.items():
        present = table.get(name)
        if isinstance(value, Mapping) and isinstance(present, MutableMapping):
            _merge(present, value)
        elif present != value:
            table[name] = _item(value)


def _item(value: Any) -> Item:
    item: Item
    match value:
        case Mapping():
            only_tables = all(isinstance(one, Mapping) for one in value.values())
            item = tomlkit.table(is_super_table=only_tables)
            for name, one in value.items():
                item.append(name, _item(one))
        case [Mapping(), *_]:
            item = tomlkit.aot()
            for one in value:
                item.append(_item(one))
        case Decimal():
            exact = f"{value.normalize():f}"
            item = Float(float(value), Trivia(), exact if "." in exact else f"{exact}.0")
        case tuple():
            item = tomlkit.item(list(value))
        case _:
            item = tomlkit.item(value)
    return item


def _replace(path: Path, text: str) -> None:
    """A crash, of this process or of the machine, leaves the old file or the new one."""
    draft = path.with_suffix(".lock.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
