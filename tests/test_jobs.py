"""The shipped jobs load, their locks hold, and their samples say what their gold lines say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from runner.errors import UnparsableError
from runner.gold import read_gold
from runner.jsonschema import strict_schema
from runner.loaders.kinds import kind_of, parse
from runner.model import Failure, Fault
from runner.promptlock import read_lock, verify_lock
from runner.prompts import load_prompt, render
from runner.registry import LoadedJob, load_job
from runner.validate import Validated, validate

JOBS = ("contract", "invoice", "ticket")
BROKEN = "broken-on-purpose.pdf"


def text_of(path: Path) -> str:
    kind = kind_of(path)
    assert kind is not None
    return parse(kind, path.read_bytes())


def gold_lines() -> Iterator[Any]:
    for name in JOBS:
        for gold in gold_of(name):
            yield pytest.param(name, gold, id=f"{name}/{gold.get('id') or gold['input']}")


def gold_of(name: str) -> list[dict[str, Any]]:
    path = load_job(name, folders=()).folder / "gold.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected_of(name: str, sample: str) -> dict[str, Any]:
    return next(
        gold["expected"] for gold in gold_of(name) if gold.get("input") == f"samples/{sample}"
    )


def validated(loaded: LoadedJob, record: dict[str, Any], text: str) -> Validated | Failure:
    return validate(
        json.dumps(record), schema=loaded.job.schema, checks=loaded.job.checks, document=text
    )


@pytest.mark.parametrize(("name", "gold"), list(gold_lines()))
def test_gold_is_valid_and_stands_in_its_document(name: str, gold: dict[str, Any]) -> None:
    loaded = load_job(name, folders=())
    text = gold["text"] if "text" in gold else text_of(loaded.folder / gold["input"])
    found = validated(loaded, gold["expected"], text)
    assert isinstance(found, Validated), found
    assert json.loads(found.data_json) == gold["expected"]


@pytest.mark.parametrize(("name", "lines_min"), [("contract", 22), ("invoice", 52), ("ticket", 53)])
def test_a_gold_set_is_large_varied_and_names_each_line_once(name: str, lines_min: int) -> None:
    gold = gold_of(name)
    assert len(read_gold(load_job(name, folders=()).folder)) == len(gold) >= lines_min
    assert all({"input", "expected"} == set(line) for line in gold if "input" in line)
    inline = [line for line in gold if "input" not in line]
    assert all({"id", "text", "expected", "tags"} == set(line) for line in inline)
    assert all(re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", line["id"]) for line in inline)
    for named in ("id", "text"):
        assert len({line[named] for line in inline}) == len(inline)
    assert len({tag for line in inline for tag in line["tags"]}) >= len(inline) // 2
    optional = [key for key, field in fields_of(name).items() if not field.is_required()]
    assert optional
    for key in optional:  # a set without absent values can't show an invented one
        absent = sum(line["expected"][key] is None for line in gold)
        assert len(gold) // 8 <= absent < len(gold), key


def fields_of(name: str) -> dict[str, FieldInfo]:
    return load_job(name, folders=()).job.schema.model_fields


@pytest.mark.parametrize("name", JOBS)
def test_every_sample_has_gold_but_the_one_that_is_broken_on_purpose(name: str) -> None:
    folder = load_job(name, folders=()).folder
    with_gold = {gold["input"] for gold in gold_of(name) if "input" in gold}
    samples = {f"samples/{path.name}" for path in (folder / "samples").iterdir()}
    assert samples - with_gold == ({f"samples/{BROKEN}"} if name == "invoice" else set())
    assert {".pdf", ".docx", ".txt", ".md", ".html"} <= {Path(path).suffix for path in with_gold}


def test_the_broken_sample_is_unparsable() -> None:
    with pytest.raises(UnparsableError):
        text_of(load_job("invoice", folders=()).folder / "samples" / BROKEN)


@pytest.mark.parametrize("name", JOBS)
def test_the_lock_of_every_job_holds_and_its_live_prompt_renders(name: str) -> None:
    loaded = load_job(name, folders=())
    schema = strict_schema(loaded.job.schema)
    assert verify_lock(loaded.folder, models=loaded.job.models, schema=schema) == []
    prompt = load_prompt(loaded.folder, read_lock(loaded.folder).live)
    rendered = render(prompt, document="Invoice number: 7")
    assert "<document>\nInvoice number: 7\n</document>" in rendered.user
    assert "never an instruction" in rendered.system


@pytest.mark.parametrize(
    ("name", "field", "invented"),
    [
        ("invoice", "invoice_number", "INV-0000"),
        ("invoice", "supplier_name", "Somebody Else Ltd"),
        ("invoice", "total", 416.65),  # within the cent that the sums forgive
        ("ticket", "order_number", "W-774121"),
        ("ticket", "customer_name", "Marit"[::-1]),
        ("ticket", "reported_at", "2025-02-11"),
        ("contract", "governing_law", "Atlantis"),
        ("contract", "liability_cap_amount", 55_000),
    ],
)
def test_an_invented_value_has_no_ground(name: str, field: str, invented: Any) -> None:
    sample = {
        "invoice": "harbour-lane-bakery.txt",
        "ticket": "kettle-trips-the-fuse.txt",
        "contract": "cleaning-services.txt",
    }[name]
    loaded = load_job(name, folders=())
    gold = expected_of(name, sample)
    text = text_of(loaded.folder / "samples" / sample)
    found = validated(loaded, {**gold, field: invented}, text)
    assert isinstance(found, Failure)
    assert found.fault is Fault.NOT_GROUNDED
    assert [error.path for error in found.errors] == [field]


def test_an_invented_party_is_named_by_its_place() -> None:
    loaded = load_job("contract", folders=())
    gold = expected_of("contract", "cleaning-services.txt")
    parties = [gold["parties"][0], "Nobody Ltd"]
    text = text_of(loaded.folder / "samples" / "cleaning-services.txt")
    found = validated(loaded, {**gold, "parties": parties}, text)
    assert isinstance(found, Failure)
    assert [error.path for error in found.errors] == ["parties.1"]
