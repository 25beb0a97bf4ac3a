"""What a call cost: every case of the table."""

import pytest

from runner.completion import Reading
from runner.config import ModelSettings, Settings
from runner.model import AttemptState, Completion, Failure, Fault, RawAnswer, Unanswered, Usage
from runner.prices import PriceList
from runner.settling import Settled, settle

HOLD_NUSD = 9_000
USAGE = Usage(input_tokens=10, output_tokens=5)
OK, ERROR = RawAnswer(200, b"{}"), RawAnswer(500, b"{}")


def reading_of(*, reported: bool) -> Reading:
    return Reading(Completion("{}", "stop", USAGE, "m", usage_reported=reported), None)


SILENT = Reading(None, Failure(Fault.NOT_A_COMPLETION, "HTML"))
CASES = [
    (None, None, Unanswered(Fault.NOT_SENT, ""), Settled(AttemptState.NOT_SENT, 0)),
    (None, None, Unanswered(Fault.AMBIGUOUS, ""), Settled(AttemptState.AMBIGUOUS, None, HOLD_NUSD)),
    (OK, reading_of(reported=True), None, Settled(AttemptState.CONCLUDED, 20_000)),
    (OK, reading_of(reported=False), None, Settled(AttemptState.AMBIGUOUS, None, HOLD_NUSD)),
    (OK, SILENT, None, Settled(AttemptState.AMBIGUOUS, None, HOLD_NUSD)),
    (ERROR, SILENT, None, Settled(AttemptState.CONCLUDED, 0)),
    (ERROR, reading_of(reported=True), None, Settled(AttemptState.CONCLUDED, 20_000)),
]


@pytest.mark.parametrize(("answer", "reading", "unanswered", "expected"), CASES)
def test_usage_settles_errors_are_free_and_the_rest_counts_at_its_hold(
    answer: RawAnswer | None,
    reading: Reading | None,
    unanswered: Unanswered | None,
    expected: Settled,
) -> None:
    settings = Settings.load(env={"RUNNER_CONFIG": "/dev/null"}).model_copy(
        update={"models": {"m": ModelSettings(input_usd_per_mtok=1, output_usd_per_mtok=2)}}
    )
    price = PriceList(settings).price("m")
    settled = settle(
        price=price, hold_nusd=HOLD_NUSD, answer=answer, reading=reading, unanswered=unanswered
    )
    assert settled == expected


def test_at_an_unknown_price_usage_settles_at_nothing_known() -> None:
    settled = settle(
        price=None,
        hold_nusd=None,
        answer=OK,
        reading=reading_of(reported=True),
        unanswered=None,
    )
    assert settled == Settled(AttemptState.CONCLUDED, None)
