"""Token counts: exact where the vocabulary is known, estimated or bounded where it is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.tokens import bound, count, estimate


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-mini",
        "gpt-4.1",
        "gpt-5-nano-2025-08-07",
        "o1",
        "o3-mini",
        "o4-mini",
        "chatgpt-4o-latest",
    ],
)
def test_newer_openai_models_use_the_larger_vocabulary(model: str) -> None:
    # the two vocabularies split this word differently
    assert count("привет", model=model) == 2


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4-turbo", "gpt-4-0613", "gpt-3.5-turbo"])
def test_older_openai_models_use_the_smaller_vocabulary(model: str) -> None:
    assert count("привет", model=model) == 4


@pytest.mark.parametrize("model", ["ft:gpt-4o-mini:acme::abc", "openai/gpt-4o", "GPT-4o"])
def test_a_fine_tuned_or_routed_name_is_recognised(model: str) -> None:
    assert count("привет", model=model) == 2


@pytest.mark.parametrize(
    "model", ["claude-sonnet-4-5", "smollm2", "o365-mail", "gpt-40", "my-gpt-4o", ""]
)
def test_an_unknown_vocabulary_is_not_guessed(model: str) -> None:
    assert count("hello world", model=model) is None


def test_known_counts_are_exact() -> None:
    assert count("hello world", model="gpt-4o") == 2
    assert count("", model="gpt-4o") == 0
    # what looks like a control token in a document is text, not control
    assert count("<|endoftext|>", model="gpt-4o") == 7


def test_an_estimate_is_exact_when_it_can_be_and_a_quarter_of_the_bytes_otherwise() -> None:
    assert estimate("hello world", model="gpt-4o") == 2
    assert estimate("hello world", model="unheard-of") == 3
    assert estimate("", model="unheard-of") == 0
    assert estimate("ééé", model="unheard-of") == 2


def test_a_lone_surrogate_is_counted_as_what_is_sent_instead() -> None:
    assert count("a\ud800b", model="gpt-4o") == count("a?b", model="gpt-4o")
    assert estimate("\ud800", model="unheard-of") == 1


@settings(deadline=None)  # the first count of a vocabulary loads it, a quarter of a second
@given(st.text(), st.sampled_from(["gpt-4o", "gpt-4", "gpt-oss-20b"]))
def test_no_text_has_more_tokens_than_its_bound(text: str, model: str) -> None:
    exact = count(text, model=model)
    assert exact is not None
    assert exact <= len(text.encode()) <= bound(len(text.encode()))


def test_the_bound_grows_with_the_number_of_messages() -> None:
    assert bound(100, messages=4) > bound(100, messages=2) > bound(99, messages=2) > 99
