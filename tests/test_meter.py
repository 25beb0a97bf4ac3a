"""Expected tokens: exact where a vocabulary is known, and soon what the provider counts."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.meter import Expected, Request, TokenMeter, first_output_tokens


def request_of(
    *, body_bytes: int = 4_000, input_tokens: int = 1_000, exact: bool = True, most: int = 9_999
) -> Request:
    return Request(
        job="j",
        model="m",
        body_bytes=body_bytes,
        input_tokens=input_tokens,
        exact=exact,
        output_max_tokens=most,
    )


def test_before_anything_is_learned_a_count_is_taken_as_it_is() -> None:
    expected = 1_000 + first_output_tokens(1_000)
    assert TokenMeter().expect(request_of()) == Expected(expected, spare=round(expected / 10))


@pytest.mark.parametrize("exact", [True, False])
def test_what_a_provider_counts_is_learned_whether_the_vocabulary_is_known_or_not(
    *, exact: bool
) -> None:
    meter = TokenMeter()
    for size in range(1, 60):
        seen = request_of(body_bytes=100 * size, input_tokens=20 * size, exact=exact)
        meter.learn(seen, input_tokens=30 * size, output_tokens=6 * size)
    wanted = request_of(body_bytes=5_000, input_tokens=1_000, exact=exact)
    expected = meter.expect(wanted)
    assert expected.tokens == pytest.approx(1_500 + 300, abs=2)
    assert expected.spare <= 2, "nothing was uncertain"


def test_most_calls_count_no_more_than_expected_and_the_spare_tokens() -> None:
    meter, random = TokenMeter(), Random(1)
    within = 0
    for _ in range(400):
        wanted = request_of(input_tokens=random.randrange(100, 2_000))
        read, answered = wanted.input_tokens + 80, wanted.input_tokens // 4 + random.randrange(80)
        expected = meter.expect(wanted)
        within += read + answered <= expected.tokens + expected.spare
        meter.learn(wanted, input_tokens=read, output_tokens=answered)
    assert within >= 0.85 * 400
    assert meter.expect(request_of()).spare < 200, "and it stays a part of a call"


def test_what_is_learned_of_one_job_says_nothing_of_another() -> None:
    meter = TokenMeter()
    meter.learn(request_of(), input_tokens=9_000, output_tokens=9_000)
    other = Request(
        job="other",
        model="m",
        body_bytes=4_000,
        input_tokens=1_000,
        exact=True,
        output_max_tokens=9_999,
    )
    assert meter.expect(other).tokens == 1_000 + first_output_tokens(1_000)


def test_an_answer_that_counted_nothing_teaches_nothing() -> None:
    meter = TokenMeter()
    meter.learn(request_of(), input_tokens=0, output_tokens=5)
    assert meter.expect(request_of()).tokens == 1_000 + first_output_tokens(1_000)


@given(
    seen=st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 10_000)), max_size=30),
    most=st.integers(1, 500),
    exact=st.booleans(),
)
def test_no_more_output_is_expected_than_a_call_may_have(
    *, seen: list[tuple[int, int]], most: int, exact: bool
) -> None:
    meter = TokenMeter()
    for input_tokens, output_tokens in seen:
        meter.learn(request_of(exact=exact), input_tokens=input_tokens, output_tokens=output_tokens)
    without = meter.expect(request_of(exact=exact, most=0)).tokens
    expected = meter.expect(request_of(exact=exact, most=most)).tokens
    assert without <= expected <= without + most
