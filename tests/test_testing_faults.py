"""Rules hit the same documents every time, never two at once, and only as often as they say."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from runner.testing import FAULTS, FaultPlan, document_key
from runner.testing.answers import compile_schema
from runner.testing.faults import ContentFault, Occasion

KEYS = [document_key(f"document {number}") for number in range(4_000)]
OCCASION = Occasion(
    instructions="Extract the total.",
    document_key=KEYS[0],
    document="Total: 5",
    model="m",
    api_key="k",
    nth_of_document=1,
    nth_request=1,
)


def plan(*rules: dict[str, Any], seed: int = 7) -> FaultPlan:
    return FaultPlan.model_validate({"rules": rules, "seed": seed})


def hit(faults: FaultPlan, occasion: Occasion) -> str | None:
    rule = faults.rule_for(occasion)
    return rule.fault if rule else None


def test_common_rules_share_the_documents_out_by_their_rates() -> None:
    rules = ({"fault": "hang", "rate": 0.1}, {"fault": "drip", "rate": 0.2})
    first = [hit(plan(*rules), replace(OCCASION, document_key=key)) for key in KEYS]
    assert first == [hit(plan(*rules), replace(OCCASION, document_key=key)) for key in KEYS]
    assert first != [hit(plan(*rules, seed=8), replace(OCCASION, document_key=key)) for key in KEYS]
    counts = Counter(first)
    assert 0.08 < counts["hang"] / len(KEYS) < 0.12
    assert 0.17 < counts["drip"] / len(KEYS) < 0.23


def test_first_lets_a_document_recover_and_no_other_rule_takes_its_place() -> None:
    faults = plan({"fault": "hang", "rate": 0.5, "first": 2}, {"fault": "drip", "rate": 0.5})
    key = next(key for key in KEYS if (faults.common_rule(key) or faults.rules[1]).fault == "hang")
    seen = [
        hit(faults, replace(OCCASION, document_key=key, nth_of_document=nth)) for nth in (1, 2, 3)
    ]
    assert seen == ["hang", "hang", None]


def test_targeted_rules_look_at_text_model_key_and_time() -> None:
    faults = plan(
        {"fault": "refusal", "match": "poison"},
        {"fault": "model_not_found_404", "models": ["old"]},
        {"fault": "invalid_api_key_401", "keys": ["bad"]},
        {"fault": "unavailable_503", "from_request": 10, "to_request": 20},
        {"fault": "dropped_row", "instructions": "sloppily"},
    )
    sloppy = replace(OCCASION, instructions="Extract sloppily.")
    assert hit(faults, sloppy) == "dropped_row"
    assert hit(faults, OCCASION) is None
    assert hit(faults, replace(OCCASION, document="some poison here")) == "refusal"
    assert hit(faults, replace(OCCASION, model="old")) == "model_not_found_404"
    assert hit(faults, replace(OCCASION, api_key="bad")) == "invalid_api_key_401"
    times = [hit(faults, replace(OCCASION, nth_request=nth)) for nth in (9, 10, 20, 21)]
    assert times == [None, "unavailable_503", "unavailable_503", None]


def test_a_targeted_rule_with_a_rate_draws_for_itself() -> None:
    faults = plan({"fault": "hang", "rate": 0.5, "models": ["m"]}, {"fault": "drip", "rate": 0.5})
    seen = Counter(hit(faults, replace(OCCASION, document_key=key)) for key in KEYS)
    assert 0.45 < seen["hang"] / len(KEYS) < 0.55
    assert 0.2 < seen["drip"] / len(KEYS) < 0.3


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([{"fault": "no_such_fault"}], "no fault is called"),
        ([{"fault": "hang", "rate": 0.7}, {"fault": "drip", "rate": 0.7}], "above 1"),
        ([{"fault": "hang", "rate": 2}], "less than or equal"),
        ([{"fault": "hang", "rates": 0.1}], "Extra inputs"),
    ],
)
def test_impossible_rules_are_refused(rules: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        plan(*rules)


SHAPE = compile_schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "day": {"type": "string", "format": "date"},
            "total": {"type": "number"},
            "rows": {
                "type": "array",
                "items": {"type": "object", "properties": {"n": {"type": "integer"}}},
            },
        },
    }
)


@pytest.mark.parametrize(
    ("fault", "altered", "text"),
    [
        ("swapped_digits", "total", '"total": 21.3'),
        ("invented_value", "name", '"name": "Northwind Imaginary Holdings"'),
        ("dropped_row", "rows.1", '"rows": [{"n": 7}]'),
        ("missing_field", "day", '{"name": "Ann", "total": 12.3'),
        ("wrong_type", "day", '"day": {"wrong": "type"}'),
        ("nan_number", "rows.0.n", '[{"n": NaN}'),
    ],
)
def test_a_wrong_answer_differs_in_the_one_place_it_names(
    fault: str, altered: str, text: str
) -> None:
    value = {"name": "Ann", "day": "2026-01-02", "total": 12.3, "rows": [{"n": 7}, {"n": 88}]}
    effect = FAULTS[fault]
    assert isinstance(effect, ContentFault)
    spoiled = effect.spoiler(value, SHAPE, 1)
    assert spoiled.altered == altered
    assert text in spoiled.text
