"""What is asked of a submission and cannot be done is refused before anything is written."""

from decimal import Decimal

import pytest

from runner.batches import Request, plan
from runner.errors import UsageError
from runner.pinned import PinnedJobs


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(job="invoice", inputs=("-",)), "give it one with --batch"),
        (Request(job="invoice", inputs=("a",), models=("gpt-5", " ")), "name is empty"),
        (Request(job="invoice", inputs=("a",), budget_usd=Decimal(0)), "above 0 USD"),
    ],
)
def test_a_request_that_cannot_be_kept_is_refused_by_name(request_: Request, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(request_, PinnedJobs(()))


def test_the_same_request_finds_the_same_batch_and_another_one_does_not() -> None:
    jobs = PinnedJobs(())
    first, _ = plan(Request(job="invoice", inputs=("a", "b")), jobs)
    again, _ = plan(Request(job="invoice", inputs=("a", "b"), budget_usd=Decimal(1)), jobs)
    other, _ = plan(Request(job="invoice", inputs=("b", "a")), jobs)
    assert first.name == again.name != other.name
