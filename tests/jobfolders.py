"""A tiny job on disk, locked, for tests of what reads jobs: one number, one check, two models."""

from pathlib import Path

from runner.deployment import lock_version
from runner.jsonschema import strict_schema
from runner.registry import load_job

CODE = '''"""A job of one number."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from runner.job import Job, SecondRead
from runner.model import FieldError


class Total(BaseModel):
    """What is extracted."""

    total: int


def _eat_memory() -> None:
    status = Path("/proc/self/statm").read_text()
    now_bytes = int(status.split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + 100_000_000, before[1]))
    try:
        eaten = []
        while True:
            eaten.append(bytearray(10_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def total_is_positive(found: Total, text: str) -> Iterator[FieldError]:
    """A check of the job; a file beside it makes it fail as a bug would, words kill it, keep it
    for ever, or let it eat memory until the limit.
    """
    if "POISON" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    while "ENDLESS" in text:
        pass
    if "GREEDY" in text:
        _eat_memory()
    if Path(__file__).with_name("broken").exists():
        raise KeyError(text)
    if found.total < 0:
        yield FieldError("total", "must not be below 0")


JOB = Job(
    schema=Total,
    models=("small", "large"),
    # more
    description="One number.",
    checks=(total_is_positive,),
    max_output_tokens=100,
)
'''
PROMPT = """+++
+++
# system

Extract the total.

# user

<document>
{{ document }}
</document>
"""


def make_job(folder: Path, name: str = "tiny", *, extra: str = "") -> Path:
    """Write the job into `folder`, with prompt v1 locked and `extra` said of it; its own folder."""
    job = folder / name
    (job / "prompts").mkdir(parents=True, exist_ok=True)
    (job / "__init__.py").write_text(CODE.replace("    # more\n", f"    {extra}\n"))
    (job / "prompts" / "v1.md").write_text(PROMPT)
    lock(job)
    return job


def lock(job: Path, version: str = "v1") -> None:
    """Lock a version of a job's prompt."""
    loaded = load_job(job.name, folders=[job.parent]).job
    lock_version(job, version, models=loaded.models, schema=strict_schema(loaded.schema))
