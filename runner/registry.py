"""Finds a job by name and loads it: from the repository's `jobs` package or from extra folders."""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from types import ModuleType

from runner.errors import JobError
from runner.job import Job
from runner.keys import content_digest

PACKAGE = "jobs"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job with its name and the folder that holds its prompts, lock and samples."""

    name: str
    job: Job
    folder: Path


def is_job_name(name: str) -> bool:
    """Tell whether `name` can name a job: 1 to 40 of a-z, 0-9, _, a letter first, no keyword."""
    return _NAME.fullmatch(name) is not None and not iskeyword(name)


def job_names(*, folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all jobs in the repository and in `folders`, sorted, each once."""
    return tuple(sorted({name for place in _places(folders) for name in _names_in(place)}))


def load_job(name: str, *, folders: Sequence[Path]) -> LoadedJob:
    """Load the job `name`; the repository's own `jobs` come first, then `folders` in their order.

    Loading runs the job's code, once a process. Raises JobError when there is no such job (naming
    the folders searched and close names), when its code fails (naming file, line and cause), and
    when it does not declare `JOB = Job(...)`.
    """
    for place in _places(folders):
        if name in _names_in(place):
            module = _import(name, place, packaged=place in _package_folders())
            return LoadedJob(name, _declared_job(name, module), place / name)
    raise _unknown(name, folders)


def _package_folders() -> list[Path]:
    spec = importlib.util.find_spec(PACKAGE)
    return [Path(found) for found in (spec.submodule_search_locations or ())] if spec else []


def _places(folders: Sequence[Path]) -> list[Path]:
    return [*_package_folders(), *folders]


def _names_in(place: Path) -> Iterator[str]:
    for init in place.glob("*/__init__.py"):
        if is_job_name(init.parent.name):
            yield init.parent.name


def _import(name: str, place: Path, *, packaged: bool) -> ModuleType:
    if packaged:
        return _explained(name, lambda: importlib.import_module(f"{PACKAGE}.{name}"))
    return _explained(name, lambda: _import_from(place / name))


def _import_from(folder: Path) -> ModuleType:
    # the path is part of the module's name, so that two folders may hold jobs of one name
    place = content_digest(str(folder.absolute()).encode()).hex()[:12]
    module_name = f"runner_job_{folder.name}_{place}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(
        module_name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None, "a path that ends in .py always has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before it runs: it may import its own files
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _explained(name: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except Exception as error:
        raise JobError(
            f"job {name} cannot be loaded: {_where(error)}: {type(error).__name__}: {error}"
        ) from error


def _where(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    # the person can mend the job's line, not the runner's or a library's that it led to
    own = [frame for frame in frames if not _is_foreign(frame.filename)]
    last = (own or frames)[-1]
    return f"{last.filename}, line {last.lineno}"


def _is_foreign(filename: str) -> bool:
    return (
        filename.startswith("<")  # the importer's, or generated: a dataclass's __init__
        or "site-packages" in filename
        or Path(filename).parent in (Path(__file__).parent, Path(importlib.__file__).parent)
    )


def _declared_job(name: str, module: ModuleType) -> Job:
    job = getattr(module, "JOB", None)
    if not isinstance(job, Job):
        raise JobError(
            f"job {name}: {module.__file__} must declare JOB = Job(...), "
            f"but JOB is {type(job).__name__ if job is not None else 'missing'}"
        )
    return job


def _unknown(name: str, folders: Sequence[Path]) -> JobError:
    names = job_names(folders=folders)
    close = get_close_matches(name, names, n=3)
    advice = (
        f"did you mean {' or '.join(close)}?"
        if close
        else f"there are: {', '.join(names) or 'none'}; `runner new {name}` makes one"
    )
    searched = ", ".join(str(place) for place in _places(folders)) or "nothing"
    return JobError(
        f"no job named {name!r}: {advice} Searched: {searched}; RUNNER_JOBS adds folders"
    )
