"""How much may wait for a model's limits: the least time in which so many calls can start."""

import pytest

from runner.config import ModelSettings
from runner.limiter import time_to_start_s


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({}, 0.0),
        ({"rpm": 600}, 2.0),  # 20 documents at 10 a second
        ({"tpm": 60_000}, 5.0),  # 250 tokens each at 1,000 a second
        ({"max_concurrency": 5}, 4.0),
        ({"rpm": 600, "tpm": 60_000, "max_concurrency": 5}, 5.0),
    ],
)
def test_the_tightest_limit_tells_how_long_small_documents_take(
    limits: dict[str, int], seconds: float
) -> None:
    limited = ModelSettings.model_validate(limits)
    assert time_to_start_s(limited, documents=20, text_bytes=0) == pytest.approx(seconds)


def test_long_texts_take_longer_where_tokens_are_limited_and_nowhere_else() -> None:
    of_tokens, of_requests = ModelSettings(tpm=60_000), ModelSettings(rpm=600)
    for limits, seconds in ((of_tokens, 15.0), (of_requests, 2.0)):
        assert time_to_start_s(limits, documents=20, text_bytes=60_000) == pytest.approx(seconds)
