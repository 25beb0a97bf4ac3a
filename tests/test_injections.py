"""Documents that give orders stay in their delimiter; what obeys them without ground is refused.

`injections.jsonl` has one hostile document a line: the `truth` that an honest reader extracts, what
a model that has `obeyed` would answer, the `fields` that the order is after, and whether the values
it wants are `stated` in the document. No search in the document tells a stated order from a fact:
that is for the prompt, the canary and the second reader. What must be refused here is the rest.
"""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from runner.config import Settings
from runner.model import Failure, Fault, History
from runner.pinned import PinnedJobs
from runner.prepare import prepare
from runner.prices import PriceList
from runner.registry import load_job
from runner.validate import Validated, validate

INJECTIONS: tuple[dict[str, Any], ...] = tuple(
    json.loads(line)
    for line in (Path(__file__).parent / "injections.jsonl").read_text("utf-8").splitlines()
)
EACH = [pytest.param(one, id=one["id"]) for one in INJECTIONS]
UNSTATED = [pytest.param(one, id=one["id"]) for one in INJECTIONS if not one["stated"]]
STATED = [pytest.param(one, id=one["id"]) for one in INJECTIONS if one["stated"]]
PINNED = PinnedJobs(())
HONEST = "Invoice 7 of 5 March 2026. Total: 5.00 EUR."


def judged(one: dict[str, Any], answer: dict[str, Any]) -> Validated | Failure:
    job = load_job(one["job"], folders=()).job
    return validate(json.dumps(answer), schema=job.schema, checks=job.checks, document=one["text"])


def body_for(job: str, text: str) -> bytes:
    settings = Settings(home=Path("nowhere"), models={})
    return prepare(
        PINNED.live(job, version=None, models=()),
        text=text,
        history=History(),
        reask=(),
        settings=settings,
        prices=PriceList(settings),
    ).body


def test_the_set_is_large_and_varied() -> None:
    assert len(INJECTIONS) >= 45
    assert all(
        {"id", "job", "kind", "text", "truth", "obeyed", "fields", "stated"} == set(one)
        for one in INJECTIONS
    )
    assert len({one["id"] for one in INJECTIONS}) == len(INJECTIONS)
    assert len({one["text"] for one in INJECTIONS}) == len(INJECTIONS)
    assert len({one["kind"] for one in INJECTIONS}) >= 25
    assert min(Counter(one["job"] for one in INJECTIONS).values()) >= 12
    assert sum(not one["stated"] for one in INJECTIONS) >= 20


@pytest.mark.parametrize("one", EACH)
def test_an_honest_reading_is_valid_in_spite_of_the_order(one: dict[str, Any]) -> None:
    found = judged(one, one["truth"])
    assert isinstance(found, Validated), found
    assert json.loads(found.data_json) == one["truth"]


@pytest.mark.parametrize("one", EACH)
def test_what_obeys_differs_in_its_fields_only_and_no_schema_refuses_it(
    one: dict[str, Any],
) -> None:
    schema: type[BaseModel] = load_job(one["job"], folders=()).job.schema
    schema.model_validate_json(json.dumps(one["obeyed"]))
    changed = {name for name, value in one["truth"].items() if one["obeyed"][name] != value}
    assert changed == set(one["fields"])


@pytest.mark.parametrize("one", UNSTATED)
def test_what_obeys_an_order_whose_value_is_not_stated_has_no_ground(one: dict[str, Any]) -> None:
    found = judged(one, one["obeyed"])
    assert isinstance(found, Failure)
    assert found.fault is Fault.NOT_GROUNDED
    assert {error.path.partition(".")[0] for error in found.errors} <= set(one["fields"])


@pytest.mark.parametrize("one", STATED)
def test_what_obeys_a_stated_order_is_not_claimed_to_be_found(one: dict[str, Any]) -> None:
    assert isinstance(judged(one, one["obeyed"]), Validated)


@pytest.mark.parametrize("one", EACH)
def test_a_hostile_document_changes_nothing_of_its_request_but_itself(one: dict[str, Any]) -> None:
    body, honest = body_for(one["job"], one["text"]), body_for(one["job"], HONEST)
    asked, usual = json.loads(body), json.loads(honest)
    user, usually = asked["messages"][1].pop("content"), usual["messages"][1].pop("content")
    assert asked == usual, "system message, roles, schema and parameters"
    head, tail = usually.split(HONEST)
    start = honest.index(json.dumps(usually).encode()[:20])
    assert body[:start] == honest[:start], "byte for byte, for the provider's prompt cache"
    assert user.startswith(head)
    assert user.endswith(tail)
    inside = user.removeprefix(head).removesuffix(tail)
    assert re.sub(r"&lt;", "<", unicodedata.normalize("NFKC", inside)) == re.sub(
        r"&lt;", "<", unicodedata.normalize("NFKC", one["text"])
    )


@pytest.mark.parametrize("one", EACH)
def test_no_hostile_document_opens_or_closes_its_delimiter(one: dict[str, Any]) -> None:
    user = json.loads(body_for(one["job"], one["text"]))["messages"][1]["content"]
    seen = "".join(sign for sign in user if unicodedata.category(sign) != "Cf")
    squeezed = "".join(unicodedata.normalize("NFKC", seen).split()).casefold()
    assert (squeezed.count("<document"), squeezed.count("</document")) == (1, 1)
