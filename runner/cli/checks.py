"""What `doctor` checks of the machine: Python, packages, home, disk, ledger."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from runner.cli.session import Session
from runner.cli.shapes.home import CheckShape
from runner.errors import RunnerError

PYTHON_MIN = (3, 11)
DISK_WARN_BYTES = 2 * 1024**3
DISK_FAIL_BYTES = 100 * 1024**2
GIB = 1024**3
_MODULES = (
    *("aiolimiter", "alembic", "arq", "docx", "genai_prices", "jinja2", "openai", "psutil"),
    *("pydantic", "pypdfium2", "redis", "rich", "selectolax", "sqlalchemy", "tomlkit", "zstandard"),
)
_SHOWN = ("arq", "openai", "pydantic", "redis", "sqlalchemy")


def verdict(name: str, found: Literal["ok", "warn", "fail"], message: str) -> CheckShape:
    """One line of `doctor`."""
    return CheckShape(name=name, verdict=found, message=message)


def python() -> CheckShape:
    """Whether Python is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON_MIN:
        return verdict("python", "fail", f"{found}: 3.11 or newer is needed")
    return verdict("python", "ok", f"{found} at {sys.executable}")


def packages() -> CheckShape:
    """Whether every package that the runner imports is there."""
    missing = [module for module in _MODULES if find_spec(module) is None]
    if missing:
        names = ", ".join(missing)
        return verdict("packages", "fail", f"not installed: {names}; scripts/setup installs them")
    return verdict("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in _SHOWN))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def home(folder: Path) -> Iterator[CheckShape]:
    """Whether the home can be written, and by its owner only."""
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield verdict("home", "fail", f"{folder} cannot be written; RUNNER_HOME names another one")
        return
    if there != folder:
        yield verdict("home", "ok", f"{folder} will be made by the first submission")
        return
    yield verdict("home", "ok", str(folder))
    open_to_others = [
        str(path) for path in (folder, *folder.glob("ledger.db*")) if path.stat().st_mode & 0o077
    ]
    if open_to_others:
        yield verdict(
            "permissions",
            "warn",
            f"others can look into {', '.join(open_to_others)}: "
            f"chmod go= {' '.join(open_to_others)}",
        )
    else:
        yield verdict("permissions", "ok", "home and ledger are open to their owner only")


def disk(folder: Path) -> CheckShape:
    """Whether there is room for the ledger to grow."""
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    words = f"{free / GIB:.1f} GiB free where the home is"
    if free < DISK_FAIL_BYTES:
        return verdict("disk", "fail", f"{words}: work pauses when the ledger cannot be written")
    if free < DISK_WARN_BYTES:
        return verdict("disk", "warn", f"{words}; a thousand documents take 10 to 100 MB")
    return verdict("disk", "ok", words)


def ledger(session: Session) -> CheckShape:
    """Whether the ledger opens, and keeps what it acknowledges."""
    if not session.has_ledger:
        return verdict("ledger", "ok", "none yet; the first submission makes it")
    try:
        with session.ledger() as found, found.snapshot() as connection:
            if connection.dialect.name != "sqlite":
                return verdict("ledger", "ok", f"{connection.dialect.name}, id {found.id}")
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            path = session.settings.ledger_path
    except RunnerError as error:
        return verdict("ledger", "fail", str(error))
    if mode != "wal":
        return verdict(
            "ledger", "fail", f"{path}: journal mode {mode}, not wal: is it on a network disk?"
        )
    return verdict("ledger", "ok", f"SQLite, journal mode wal, id {found.id}")
