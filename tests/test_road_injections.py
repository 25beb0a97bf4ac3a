"""Documents that give orders, and a model that obeys them all: what ends as done (S7)."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.ledger.results import results
from runner.ledger.submission import find_batch
from runner.testing.documents import generate_invoices
from tests.roads import Road

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("injections.jsonl").read_text("utf-8").splitlines()
]
NEIGHBOURS = 15


def numbered(place: int, case: dict[str, Any]) -> str:
    """The hostile document under a number by which the provider knows it."""
    return f"Scan no. {place:04}\n{case['text']}"


def obedience(place: int, case: dict[str, Any]) -> dict[str, Any]:
    """The rule by which the provider answers as the document orders, however often it is asked."""
    return {
        "fault": "scripted",
        "match": rf"\AScan no\. {place:04}\n",
        "answer": json.dumps(case["obeyed"]),
    }


@pytest.mark.parametrize("job", ["invoice", "contract", "ticket"])
def test_an_obeyed_order_without_ground_is_never_done_and_no_neighbour_changes(
    road: Road, provider: Any, job: str
) -> None:
    hostile = {place: case for place, case in enumerate(CASES) if case["job"] == job}
    rules = [obedience(place, case) for place, case in hostile.items()]
    provider.control(clear=True, faults={"rules": rules})
    neighbours = {one.name: one for one in generate_invoices(NEIGHBOURS, seed=9, size="small")}
    lines = [{"id": str(place), "text": numbered(place, case)} for place, case in hostile.items()]
    if job == "invoice":
        lines += [{"id": one.name, "text": one.text} for one in neighbours.values()]
    inputs = road.folder / "documents.jsonl"
    inputs.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = road.call("run", job, str(inputs), "--id-field", "id", "--batch", "hostile")
    assert done.returncode in (0, 3), done.stderr
    with road.ledger() as ledger, ledger.snapshot() as connection:
        batch = find_batch(connection, "hostile")
        assert batch is not None
        found = {one.source.rpartition("#")[2]: one for one in results(connection, batch.id)}
    assert len(found) == len(lines), "one line each, whatever the documents order"
    for place, case in hostile.items():
        ended = found[str(place)]
        if not case["stated"]:
            assert ended.state in ("review", "dead"), (case["id"], ended.state, ended.data)
    if job == "invoice":
        for name, one in neighbours.items():
            assert (found[name].state, found[name].data) == ("done", one.record), name
    assert all(call.model == "gpt-5-mini" for call in road.attempts()), "nothing chose its model"
