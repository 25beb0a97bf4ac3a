"""A tiny job on disk, locked, for tests of what reads jobs: one number, one check, two models."""

from pathlib import Path

from runner.jsonschema import strict_schema
from runner.prompts import lock_version
from runner.registry import load_job

CODE = '''"""A job of one number."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from runner.job import Job
from runner.model import FieldError


class Total(BaseModel):
    """What is extracted."""

    total: int


def total_is_positive(found: Total, text: str) -> Iterator[FieldError]:
    """A check of the job; a file beside it makes it fail as a bug would, a word kills it."""
    if "POISON" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if Path(__file__).with_name("broken").exists():
        raise KeyError(text)
    if found.total < 0:
        yield FieldError("total", "must not be below 0")


JOB = Job(
    schema=Total,
    models=("small", "large"),
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


def make_job(folder: Path, name: str = "tiny") -> Path:
    """Write the job into `folder`, with prompt v1 locked; its own folder."""
    job = folder / name
    (job / "prompts").mkdir(parents=True)
    (job / "__init__.py").write_text(CODE)
    (job / "prompts" / "v1.md").write_text(PROMPT)
    lock(job)
    return job


def lock(job: Path, version: str = "v1") -> None:
    """Lock a version of a job's prompt."""
    loaded = load_job(job.name, folders=[job.parent]).job
    lock_version(job, version, models=loaded.models, schema=strict_schema(loaded.schema))
