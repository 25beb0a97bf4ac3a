"""Gold documents: read strictly, named by line, known by a digest of all that they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import JobError
from runner.gold import GOLD_FILE, gold_digest, read_gold
from runner.registry import load_job

FILE = {"input": "samples/a.txt", "expected": {"total": 1, "parts": [1, 2]}}
ROW = {"id": "row", "text": "Total: 2", "expected": {"total": 2}, "tags": ["plain"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.txt").write_text("Total: 1")
    write(tmp_path, FILE, ROW)
    return tmp_path


def write(folder: Path, *lines: Any) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / GOLD_FILE).write_text("".join(f"{text}\n" for text in texts))


def digest(folder: Path) -> str:
    return gold_digest(read_gold(folder))


def test_a_line_is_a_file_of_the_job_or_a_text(folder: Path) -> None:
    of_file, of_text = read_gold(folder)
    assert (of_file.id, of_file.text, of_file.path) == (
        "samples/a.txt",
        None,
        folder / "samples" / "a.txt",
    )
    assert (of_file.expected, of_file.tags) == (FILE["expected"], ())
    assert (of_text.id, of_text.text, of_text.path) == ("row", "Total: 2", None)
    assert of_text.tags == ("plain",)


def test_the_gold_of_every_shipped_job_is_read() -> None:
    for name in ("contract", "invoice", "ticket"):
        cases = read_gold(load_job(name, folders=()).folder)
        assert len(cases) >= 6
        assert gold_digest(cases).startswith("sha256:")


def test_the_digest_knows_nothing_of_order_blanks_and_writing(folder: Path) -> None:
    before = digest(folder)
    reordered = {"expected": {"parts": [1, 2], "total": 1}, "input": "samples/a.txt"}
    write(folder, json.dumps(ROW, indent=None, separators=(" , ", " : ")), "", reordered)
    assert digest(folder) == before


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (FILE, {"expected": {"total": 1, "parts": [2, 1]}}),
        (FILE, {"tags": ["hard"]}),
        (FILE, {"id": "other"}),
        (ROW, {"text": "Total: 3"}),
        (ROW, {"tags": []}),
    ],
)
def test_the_digest_changes_with_every_part_of_a_line(
    folder: Path, line: dict[str, Any], value: dict[str, Any]
) -> None:
    before = digest(folder)
    write(folder, *(one | value if one is line else one for one in (FILE, ROW)))
    assert digest(folder) != before


def test_the_digest_changes_with_a_byte_of_an_input_and_with_a_case_less(folder: Path) -> None:
    before = digest(folder)
    (folder / "samples" / "a.txt").write_text("Total: 1 ")
    after = digest(folder)
    write(folder, FILE)
    assert len({before, after, digest(folder)}) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ('{"input": "samples/a.txt", "expected": {"a": 1, "a": 2}}', "the key 'a' stands there tw"),
        ({"expected": {}}, "either `input`, a file of the job, or `text`"),
        ({"input": "samples/a.txt", "text": "a", "expected": {}}, "either `input`"),
        ({"text": "a", "expected": {}}, "needs an `id`"),
        ({"input": "samples/a.txt"}, "expected: Field required"),
        ({"input": "samples/a.txt", "expected": []}, "expected: Input should be"),
        ({"input": "samples/a.txt", "expected": {}, "tag": "x"}, "tag: Extra inputs"),
        ({"input": "samples/none.txt", "expected": {}}, "none.txt does not exist"),
        ({"input": "../a.txt", "expected": {}}, "lies outside"),
        ({"id": "row", "text": "again", "expected": {}}, "another line has the id 'row' already"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(folder: Path, line: Any, message: str) -> None:
    write(folder, FILE, ROW, "", line)
    with pytest.raises(JobError, match=rf"{GOLD_FILE}, line 4: ") as caught:
        read_gold(folder)
    assert message in str(caught.value)


def test_a_job_without_gold_is_told_how_to_write_some(folder: Path) -> None:
    (folder / GOLD_FILE).write_text("\n")
    with pytest.raises(JobError, match="has no gold document"):
        read_gold(folder)
    (folder / GOLD_FILE).unlink()
    with pytest.raises(JobError, match="does not exist: write a line for each"):
        read_gold(folder)
