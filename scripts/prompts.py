"""Fail when a job of the repository does not hold to its prompts.lock.

    .venv/bin/python -m scripts.prompts --check

A locked version never changes: its file must be what was locked, and the live version and the
canary must ask with the schema and the models that were locked with them. Without --check what
differs is only told.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from runner.errors import JobError
from runner.jsonschema import strict_schema
from runner.promptlock import verify_lock
from runner.registry import job_names, load_job


def problems(folders: tuple[Path, ...] = ()) -> Iterator[str]:
    """What does not match its lock, of the jobs of the repository and of these folders."""
    for name in job_names(folders=folders):
        try:
            loaded = load_job(name, folders=folders)
            schema = strict_schema(loaded.job.schema)
        except JobError as error:
            yield str(error)
            continue
        yield from verify_lock(loaded.folder, models=loaded.job.models, schema=schema)


def main() -> None:
    """Exit 1 with --check when something differs."""
    found = list(problems())
    for problem in found:
        print(problem)
    if found and "--check" in sys.argv:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
