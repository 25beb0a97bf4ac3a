"""The shipped jobs load, their locks hold, and their samples say what their gold lines say."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.evidence import amount_occurs, occurs
from runner.errors import UnparsableError
from runner.jsonschema import strict_schema
from runner.loaders.kinds import kind_of, parse
from runner.model import FieldError
from runner.promptlock import read_lock, verify_lock
from runner.prompts import load_prompt, render
from runner.registry import LoadedJob, load_job

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


def failed_checks(loaded: LoadedJob, record: BaseModel, text: str) -> list[FieldError]:
    return [error for check in loaded.job.checks for error in check(record, text)]


@pytest.mark.parametrize(("name", "document", "expected"), list(gold_lines()))
def test_the_schema_and_the_checks_accept_the_gold_of_every_sample(
    name: str, document: str, expected: dict[str, Any]
) -> None:
    loaded = load_job(name, folders=())
    record = loaded.job.schema.model_validate_json(json.dumps(expected))
    assert failed_checks(loaded, record, text_of(loaded.folder / document)) == []
    assert record.model_dump(mode="json") == expected


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
def test_an_invented_value_fails_the_check_of_its_field(
    name: str, field: str, invented: Any
) -> None:
    sample = {
        "invoice": "harbour-lane-bakery.txt",
        "ticket": "kettle-trips-the-fuse.txt",
        "contract": "cleaning-services.txt",
    }[name]
    loaded = load_job(name, folders=())
    gold = next(case.values[2] for case in gold_lines() if case.values[1] == f"samples/{sample}")
    record = loaded.job.schema.model_validate_json(json.dumps({**gold, field: invented}))
    errors = failed_checks(loaded, record, text_of(loaded.folder / "samples" / sample))
    assert [error.path for error in errors] == [field]


def test_an_invented_party_is_named_by_its_place() -> None:
    loaded = load_job("contract", folders=())
    gold = next(case.values[2] for case in gold_lines() if case.values[0] == "contract")
    parties = [gold["parties"][0], "Nobody Ltd"]
    record = loaded.job.schema.model_validate_json(json.dumps({**gold, "parties": parties}))
    text = text_of(loaded.folder / "samples" / "cleaning-services.txt")
    assert "parties.1" in {error.path for error in failed_checks(loaded, record, text)}


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("Acme Ltd", "sold by ACME\n  Ltd, today", True),
        ("Acme Ltd", "| **Acme** Ltd |", True),
        ("INV-1", "INV-10", False),
        ("Stra\u00dfe 1", "STRASSE 1", True),
        ("*", "a * b", False),
    ],
)
def test_a_name_occurs_as_whole_words_whatever_its_case_and_breaks(
    value: str, text: str, *, found: bool
) -> None:
    assert occurs(value, text) is found


@pytest.mark.parametrize(
    "text",
    ["1234.50", "1,234.50", "1.234,50", "1 234,50", "1'234.5", "EUR 1234,50.", "(1\u202f234,50)"],
)
def test_an_amount_is_found_in_any_usual_writing(text: str) -> None:
    assert amount_occurs(Decimal("1234.5"), text)
    assert amount_occurs(Decimal("-1234.50"), text)


@pytest.mark.parametrize("text", ["11234.50", "1234.51", "1,234.505", "234.50", "12.34,50"])
def test_a_near_amount_is_not_taken_for_the_amount(text: str) -> None:
    assert not amount_occurs(Decimal("1234.50"), text)


def test_an_amount_without_cents_may_be_written_without_them() -> None:
    assert all(amount_occurs(Decimal(900), text) for text in ("900", "900.00", "900,-", "CHF 900"))
    assert not any(amount_occurs(Decimal(900), text) for text in ("900.10", "1,900", "9000"))
