"""What is asked of a submission that cannot be done is refused, and what it would cost is told."""

from decimal import Decimal
from pathlib import Path

import pytest

from runner.batches import Forecast, Request, forecast, plan
from runner.config import ModelSettings, Settings
from runner.errors import UsageError
from runner.pinned import PinnedJobs
from runner.prices import PriceList
from tests.jobfolders import make_job

TEXTS = ("Total: 5", "Total: 6", None)


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


def forecast_of(folder: Path, *, rpm: int | None = None, tpm: int | None = None) -> Forecast:
    """What two documents and an unparsable one would take at these limits."""
    job = make_job(folder)
    served = ModelSettings(input_usd_per_mtok=1, output_usd_per_mtok=2, rpm=rpm, tpm=tpm)
    settings = Settings(home=folder, models={"small": served})
    pinned = PinnedJobs([job.parent]).live("tiny", version=None, models=())
    return forecast(pinned, TEXTS, settings=settings, prices=PriceList(settings))


def test_a_forecast_prices_the_expected_tokens_and_the_worst_of_all_attempts(
    tmp_path: Path,
) -> None:
    found = forecast_of(tmp_path)
    assert (found.documents, found.unparsable) == (2, 1)
    assert found.expected_usd is not None
    assert found.worst_usd is not None
    # input tokens, and of output 64 and a quarter of them for each document
    output_tokens = 2 * (64 + round(found.input_tokens / 2 / 4))
    assert found.expected_usd == Decimal(found.input_tokens + 2 * output_tokens) / 1_000_000
    assert found.worst_usd > 5 * found.expected_usd
    assert (found.expected_s, found.worst_s) == (None, None)


def test_a_forecast_takes_as_long_as_the_tighter_limit_makes_it(tmp_path: Path) -> None:
    by_calls = forecast_of(tmp_path / "calls", rpm=1, tpm=1_000_000)
    assert (by_calls.expected_s, by_calls.worst_s) == (120, 600)
    by_tokens = forecast_of(tmp_path / "tokens", tpm=60)
    tokens = by_tokens.input_tokens
    assert by_tokens.expected_s == tokens + 2 * (64 + round(tokens / 2 / 4))
    # 5 attempts, each with the job's 100 output tokens
    assert by_tokens.worst_s == 5 * (tokens + 2 * 100)
