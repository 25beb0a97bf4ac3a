"""Corrections: what a person types becomes a valid record with its evidence, or is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from runner.corrections import CorrectionError, corrected_record, typed_value, with_values
from runner.errors import UsageError
from runner.fields import Grounded
from runner.job import Job
from runner.ledger.reviews import Waiting
from runner.model import BatchState, FieldError, Stratum

TEXT = "Invoice 77\nTotal: 12.50 EUR\n"


class Bill(BaseModel):
    """What is extracted."""

    number: Grounded[str]
    total: float


def total_is_positive(found: Bill, text: str) -> Iterator[FieldError]:
    """A check of the job."""
    if found.total <= 0:
        yield FieldError("total", "must be above 0")


JOB = Job(schema=Bill, models=("small",), description="", checks=(total_is_positive,))
LOOKED_AT = Waiting(
    document_id="d1",
    batch_id="b1",
    batch_name="june",
    batch_state=BatchState.ACTIVE,
    job="bill",
    source="77.txt",
    stratum=Stratum.FLAGGED,
    reason="not_grounded",
    message="",
    errors=(),
    data_json='{"number":"78","total":12.5}',
    flags=(),
    evidence=(),
    attempt_id="a1",
    model="small",
    prompt_id="p1",
    since_us=0,
    text_bytes=len(TEXT),
    has_text=True,
)


def correct(data_json: str, *, text: str | None = TEXT, despite_checks: bool = False) -> Any:
    return corrected_record(LOOKED_AT, data_json, job=JOB, text=text, despite_checks=despite_checks)


def test_a_person_gives_a_grounded_value_without_a_quote_and_it_gets_its_evidence() -> None:
    found = correct('{"number": "77", "total": 12.5}')
    assert (found.data_json, found.flags) == ('{"number":"77","total":12.5}', ())
    assert [(one.path, TEXT[one.start : one.end]) for one in found.evidence] == [("number", "77")]


def test_a_value_that_the_document_does_not_have_needs_insisting() -> None:
    data_json = '{"number": "79", "total": 12.5}'
    with pytest.raises(CorrectionError, match="--despite-checks") as caught:
        correct(data_json)
    assert [error.path for error in caught.value.errors] == ["number"]
    assert correct(data_json, despite_checks=True).flags == ("despite_checks",)


def test_nothing_makes_up_for_what_the_schema_refuses() -> None:
    for data_json in ("{", '{"number": "77"}', '{"number": "77", "total": "many"}'):
        with pytest.raises(CorrectionError) as caught:
            correct(data_json, despite_checks=True)
        assert "--despite-checks" not in str(caught.value)


def test_a_document_without_text_is_corrected_unchecked_or_not_at_all() -> None:
    data_json = '{"number": "77", "total": -1}'
    with pytest.raises(UsageError, match="no text any more"):
        correct(data_json, text=None)
    found = correct(data_json, text=None, despite_checks=True)
    assert (found.evidence, found.flags) == ((), ("despite_checks",))


# ------------------------------------------------------------ values at paths

RECORD: Any = {"number": "78", "due": None, "lines": [{"amount": 5}, {"amount": 6}]}


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ([("number", "79")], {"number": "79"}),
        ([("number", "null")], {"number": None}),
        ([("number", '"79"')], {"number": "79"}),
        ([("number", "true")], {"number": "true"}),
        ([("due", "2026-03-01")], {"due": "2026-03-01"}),
        ([("due", "79")], {"due": 79}),
        ([("lines.1.amount", "12.5")], {"lines": [{"amount": 5}, {"amount": 12.5}]}),
        ([("lines", "[]")], {"lines": []}),
        (
            [("lines.2", '{"amount": 1}'), ("lines.2.amount", "7")],
            {"lines": [{"amount": 5}, {"amount": 6}, {"amount": 7}]},
        ),
        ([("new", "x y=z")], {"new": "x y=z"}),
        ([("due", "NaN")], {"due": "NaN"}),
    ],
)
def test_values_are_set_at_their_paths(
    typed: list[tuple[str, str]], changed: dict[str, Any]
) -> None:
    assert with_values(RECORD, typed, read=typed_value) == RECORD | changed
    assert RECORD["lines"] == [{"amount": 5}, {"amount": 6}], "the record itself stays"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("lines.3.amount", "'lines.3' leads nowhere in the record: the list has 2 elements"),
        ("lines.3", "the list has 2 elements, counted from 0"),
        ("lines.-1", "the list has 2 elements"),
        ("lines.first", "the list has 2 elements"),
        ("line.0", "'line' leads nowhere in the record: there are number, due, lines"),
        ("number.0", "has no parts"),
    ],
)
def test_a_path_that_leads_nowhere_is_named_with_what_there_is(path: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        with_values(RECORD, [(path, "1")], read=typed_value)
