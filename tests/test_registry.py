"""Jobs are found, loaded once, and explained when they cannot be; a new one's skeleton works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner.registry
from runner.errors import JobError
from runner.jsonschema import strict_schema
from runner.model import Fault
from runner.promptlock import read_lock, verify_lock
from runner.registry import job_names, load_job
from runner.skeleton import create_job
from runner.validate import validate

ROOT = Path(runner.registry.__file__).parent.parent
NOON = 1_790_000_000.0  # 2026-09-21 UTC

SMALL_JOB = '''\
"""A small job."""

from pydantic import BaseModel

from runner.job import Job


class Note(BaseModel):
    """A note."""

    text: str


JOB = Job(schema=Note, models=("m",), description="{description}")
'''


def write_job(folder: Path, name: str, code: str = SMALL_JOB) -> Path:
    (folder / name).mkdir(parents=True)
    init = folder / name / "__init__.py"
    init.write_text(code)
    return init


def test_the_repositorys_jobs_are_found_without_any_folder() -> None:
    assert {"contract", "invoice", "ticket"} <= set(job_names(folders=()))
    loaded = load_job("invoice", folders=())
    assert loaded.job.schema.__name__ == "Invoice"
    assert (loaded.folder / "prompts" / "v1.md").is_file()


def test_a_job_of_an_extra_folder_is_found_and_loaded_once(tmp_path: Path) -> None:
    write_job(tmp_path, "memo")
    assert "memo" in job_names(folders=(tmp_path,))
    first, second = (load_job("memo", folders=(tmp_path,)) for _ in range(2))
    assert first.job is second.job
    assert first.folder == tmp_path / "memo"


def test_the_first_folder_that_has_the_name_wins(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        write_job(folder, "memo", SMALL_JOB.replace("{description}", folder.name))
    assert load_job("memo", folders=(one, two)).job.description == "one"
    assert load_job("memo", folders=(two, one)).job.description == "two"
    write_job(one, "invoice", SMALL_JOB)
    assert load_job("invoice", folders=(one,)).job.schema.__name__ == "Invoice"


def test_a_job_may_import_its_own_files(tmp_path: Path) -> None:
    write_job(tmp_path, "memo", SMALL_JOB.replace("JOB =", "from .words import NAME\n\nJOB ="))
    (tmp_path / "memo" / "words.py").write_text('"""Words."""\nNAME = 1\n')
    assert load_job("memo", folders=(tmp_path,)).name == "memo"


def test_an_unknown_name_is_answered_with_close_names_and_the_folders_searched(
    tmp_path: Path,
) -> None:
    with pytest.raises(JobError, match="did you mean invoice") as caught:
        load_job("invoise", folders=(tmp_path,))
    assert str(tmp_path) in str(caught.value)
    assert str(ROOT / "jobs") in str(caught.value)
    with pytest.raises(JobError, match="there are: contract, invoice, ticket"):
        load_job("zzz", folders=())


@pytest.mark.parametrize("name", ["../invoice", "invoice.prompts", "", "Invoice", "evidence"])
def test_a_name_that_is_no_job_is_never_imported(name: str) -> None:
    with pytest.raises(JobError, match="no job named"):
        load_job(name, folders=())


NO_MODELS = """\
from runner.job import Job

JOB = Job(
    schema=int, models=(), description=""
)
"""
NO_CEILING = """\
from runner.job import Job

JOB = Job(
    schema=int, models=("a",), description="", ceiling_usd=0
)
"""
NO_SHARE = """\
from runner.job import Job

JOB = Job(
    schema=int, models=("a",), description="", audit_percent=101
)
"""
NO_SUCH_TYPE = """\
from pydantic import BaseModel
class A(BaseModel):
    x: "Nope"
A(x=1)
"""


@pytest.mark.parametrize(
    ("code", "line", "cause"),
    [
        ("\n\nimport nowhere_at_all\n", 3, "ModuleNotFoundError"),
        ("\ndef (:\n", 2, "SyntaxError"),
        (NO_MODELS, 3, "at least one model"),
        (NO_CEILING, 3, "ceiling_usd must be an amount above 0, not 0"),
        (NO_SHARE, 3, "audit_percent must be from 0 to 100, not 101"),
        (NO_SUCH_TYPE, 4, "not fully defined"),
    ],
)
def test_a_job_whose_code_fails_is_refused_with_file_line_and_cause(
    tmp_path: Path, code: str, line: int, cause: str
) -> None:
    init = write_job(tmp_path, "memo", code)
    for _ in range(2):  # a failed import leaves nothing behind that would hide the cause
        with pytest.raises(JobError, match=cause) as caught:
            load_job("memo", folders=(tmp_path,))
        assert f"job memo cannot be loaded: {init}, line {line}:" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "found"), [('"""Doc."""\n', "missing"), ('"""Doc."""\nJOB = 1\n', "int")]
)
def test_a_job_that_declares_no_job_is_refused(tmp_path: Path, code: str, found: str) -> None:
    write_job(tmp_path, "memo", code)
    with pytest.raises(JobError, match=f"must declare JOB = Job.*but JOB is {found}"):
        load_job("memo", folders=(tmp_path,))


def ruff(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("ruff")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_passes_ruff(folder: Path) -> None:
    # where the job stands beside the runner, ruff sees by itself that both are the repository's
    first_party = 'lint.isort.known-first-party = ["runner", "schemas"]'
    settings = ("--config", str(ROOT / "pyproject.toml"), "--no-cache", str(folder))
    ruff("check", "--config", first_party, *settings)
    ruff("format", "--check", *settings)


def test_a_new_job_loads_is_locked_and_passes_ruff(tmp_path: Path) -> None:
    written = create_job("lab_report", tmp_path, clock_s=lambda: NOON)
    assert (
        sorted(
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
        == written
    )
    assert_passes_ruff(tmp_path)
    loaded = load_job("lab_report", folders=(tmp_path,))
    schema = strict_schema(loaded.job.schema)
    assert verify_lock(loaded.folder, models=loaded.job.models, schema=schema) == []
    assert str(read_lock(loaded.folder).versions["v1"].locked_at) == "2026-09-21"


def test_a_new_jobs_check_accepts_its_gold_line_and_refuses_an_invention(tmp_path: Path) -> None:
    create_job("memo", tmp_path)
    loaded = load_job("memo", folders=(tmp_path,))
    (gold,) = map(json.loads, (loaded.folder / "gold.jsonl").read_text().splitlines())
    text = (loaded.folder / gold["input"]).read_text()
    record = loaded.job.schema.model_validate_json(json.dumps(gold["expected"]))
    (check,) = loaded.job.checks
    assert list(check(record, text)) == []
    swallowed = record.model_copy(update={"title": "Minutes\nWritten"})
    assert [error.path for error in check(swallowed, text)] == ["title"]
    answer = json.dumps(gold["expected"])
    for document, fault in ((text, None), ("another text", Fault.NOT_GROUNDED)):
        found = validate(answer, schema=loaded.job.schema, checks=(check,), document=document)
        assert getattr(found, "fault", None) is fault


def test_a_new_job_in_a_repository_has_its_schema_in_the_schemas_package(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    for package in (jobs, tmp_path / "schemas"):
        package.mkdir()
        (package / "__init__.py").write_text('"""A package."""\n')
    code = (
        "from pathlib import Path; from runner.skeleton import create_job;"
        "from runner.registry import load_job; create_job('memo', Path('jobs'));"
        "print(load_job('memo', folders=()).job.schema.__module__)"
    )
    # a process of its own: `jobs` and `schemas` name the new packages there
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "schemas.memo\n", done.stderr
    assert_passes_ruff(tmp_path)


@pytest.mark.parametrize("name", ["Memo", "1st", "a-b", "class", "", "../x", "a" * 41])
def test_a_bad_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError, match="cannot name a job"):
        create_job(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is a job invoice already"):
        create_job("invoice", tmp_path)
    create_job("memo", tmp_path)
    with pytest.raises(JobError, match="there is a job memo already"):
        create_job("memo", tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(JobError, match="taken exists already"):
        create_job("taken", tmp_path)
    (tmp_path / "words.py").touch()
    with pytest.raises(JobError, match=r"words\.py exists already"):
        create_job("words", tmp_path)
