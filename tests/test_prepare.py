"""The next call of a document: exact bytes, and money and tokens that bound what it can use."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.budget import usd_to_nusd
from runner.config import ModelSettings, Settings
from runner.model import FieldError, History
from runner.pinned import Pinned, PinnedJobs
from runner.prepare import Prepared, prepare
from runner.prices import PriceList
from tests.jobfolders import make_job

PRICED = ModelSettings(input_usd_per_mtok=1, output_usd_per_mtok=10)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Pinned:
    folder = tmp_path_factory.mktemp("jobs")
    make_job(folder)
    return PinnedJobs([folder]).live("tiny", version=None, models=())


def prepared(
    pinned: Pinned,
    text: str = "Total: 5",
    *,
    history: History = History(),  # noqa: B008 - frozen
    reask: tuple[FieldError, ...] = (),
    streams: bool = False,
    **models: ModelSettings,
) -> Prepared:
    settings = Settings(home=Path("nowhere"), models={"small": PRICED, "large": PRICED} | models)
    return prepare(
        pinned,
        text=text,
        history=history,
        reask=reask,
        settings=settings,
        prices=PriceList(settings),
        streams=streams,
    )


def body_of(call: Prepared) -> Any:
    return json.loads(call.body)


def test_the_same_document_always_gives_the_same_bytes(pinned: Pinned) -> None:
    assert prepared(pinned).body == prepared(pinned).body
    assert b"Total: 5" in prepared(pinned).body


def test_a_streamed_call_asks_for_the_same_and_for_its_answer_as_it_grows(pinned: Pinned) -> None:
    streamed = body_of(prepared(pinned, streams=True))
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert streamed == body_of(prepared(pinned)) | asked


def test_the_first_model_is_asked_first_and_the_ladder_ends_at_its_last(pinned: Pinned) -> None:
    steps = [prepared(pinned, history=History(ladder_step=step)).model for step in range(4)]
    assert steps == ["small", "large", "large", "large"]


def test_the_provider_is_told_its_own_name_of_the_model(pinned: Pinned) -> None:
    call = prepared(pinned, small=ModelSettings(api_model="vendor/small-2"))
    assert (call.model, body_of(call)["model"]) == ("small", "vendor/small-2")


def test_errors_of_a_re_ask_follow_the_document(pinned: Pinned) -> None:
    user = body_of(prepared(pinned, reask=(FieldError("total", "is missing"),)))["messages"][1]
    text = user["content"]
    assert text.index("Total: 5") < text.index("total: is missing")


def test_doubled_output_doubles_limit_and_hold(pinned: Pinned) -> None:
    once, twice = prepared(pinned), prepared(pinned, history=History(output_doubled=True))
    assert (once.max_output_tokens, twice.max_output_tokens) == (100, 200)
    assert body_of(twice)["max_completion_tokens"] == 200
    assert once.hold_nusd is not None
    assert twice.hold_nusd is not None
    assert twice.hold_nusd - once.hold_nusd >= 100 * 10_000


def test_an_unknown_price_gives_no_hold_instead_of_a_guess(pinned: Pinned) -> None:
    assert prepared(pinned, small=ModelSettings()).hold_nusd is None


def test_the_deadline_is_the_models_own(pinned: Pinned) -> None:
    assert prepared(pinned, small=ModelSettings(timeout_s=7)).deadline_s == 7


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=2_000))
def test_hold_and_tokens_cover_whatever_the_body_can_use(pinned: Pinned, text: str) -> None:
    call = prepared(pinned, text)
    worst_tokens = len(call.body)  # a token stands for at least a byte
    worst_usd = (worst_tokens * Decimal(1) + call.max_output_tokens * 10) / 1_000_000
    assert call.hold_nusd is not None
    assert call.hold_nusd >= usd_to_nusd(worst_usd)
    assert 0 < call.input_tokens <= worst_tokens
    assert call.input_tokens < call.expected_tokens
    assert call.expected_tokens <= call.input_tokens + call.max_output_tokens
