"""A canary's share: stable for each text, right on the whole, only ever growing."""

from hypothesis import given
from hypothesis import strategies as st

from runner.canary import Canary
from runner.keys import content_digest

DOCUMENTS = [content_digest(f"document {number}".encode()) for number in range(20_000)]


def canary(percent: int, version: str = "v2") -> Canary:
    return Canary(version=version, prompt_id="p2", percent=percent)


@given(digest=st.binary(min_size=32, max_size=32), percents=st.sets(st.integers(1, 99), min_size=2))
def test_what_a_canary_takes_it_takes_at_any_larger_share(
    digest: bytes, percents: set[int]
) -> None:
    taken = [canary(percent).takes(digest) for percent in sorted(percents)]
    assert taken == sorted(taken)
    assert taken == [canary(percent, "v3").takes(digest) for percent in sorted(percents)]


@given(percent=st.integers(1, 99))
def test_a_canary_takes_its_share_of_many_documents(percent: int) -> None:
    taken = sum(canary(percent).takes(digest) for digest in DOCUMENTS)
    # five standard deviations of 20,000 draws are at most 1.8 points
    assert abs(100 * taken / len(DOCUMENTS) - percent) < 1.8


def test_the_sides_are_those_of_every_release() -> None:
    taken = [number for number in range(40) if canary(10).takes(DOCUMENTS[number])]
    assert taken == [33]
