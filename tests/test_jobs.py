"""The shipped jobs load, their locks hold, and their samples say what their gold lines say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UnparsableError
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
        folder = load_job(name, folders=()).folder
        for line in (folder / "gold.jsonl").read_text(encoding="utf-8").splitlines():
            gold = json.loads(line)
            yield pytest.param(name, gold["input"], gold["expected"], id=f"{name}/{gold['input']}")


def validated(loaded: LoadedJob, record: dict[str, Any], text: str) -> Validated | Failure:
    return validate(
        json.dumps(record), schema=loaded.job.schema, checks=loaded.job.checks, document=text
    )


@pytest.mark.parametrize(("name", "document", "expected"), list(gold_lines()))
def test_gold_is_valid_and_stands_in_its_document(
    name: str, document: str, expected: dict[str, Any]
) -> None:
    loaded = load_job(name, folders=())
    found = validated(loaded, expected, text_of(loaded.folder / document))
    assert isinstance(found, Validated), found
    assert json.loads(found.data_json) == expected


@pytest.mark.parametrize("name", JOBS)
def test_every_sample_has_gold_but_the_one_that_is_broken_on_purpose(name: str) -> None:
    folder = load_job(name, folders=()).folder
    lines = (folder / "gold.jsonl").read_text(encoding="utf-8").splitlines()
    with_gold = {json.loads(line)["input"] for line in lines}
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
    gold = next(case.values[2] for case in gold_lines() if case.values[1] == f"samples/{sample}")
    text = text_of(loaded.folder / "samples" / sample)
    found = validated(loaded, {**gold, field: invented}, text)
    assert isinstance(found, Failure)
    assert found.fault is Fault.NOT_GROUNDED
    assert [error.path for error in found.errors] == [field]


def test_an_invented_party_is_named_by_its_place() -> None:
    loaded = load_job("contract", folders=())
    gold = next(case.values[2] for case in gold_lines() if case.values[0] == "contract")
    parties = [gold["parties"][0], "Nobody Ltd"]
    text = text_of(loaded.folder / "samples" / "cleaning-services.txt")
    found = validated(loaded, {**gold, "parties": parties}, text)
    assert isinstance(found, Failure)
    assert [error.path for error in found.errors] == ["parties.1"]
