"""Texts as they are stored: packed alike one by one and many in one go, and read back whole."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runner.ledger import Ledger
from runner.ledger.blobs import MANY, fetch, pack, store
from runner.ledger.engine import sqlite_url


@given(contents=st.lists(st.binary(max_size=300), min_size=MANY, max_size=MANY + 20))
def test_many_are_packed_as_each_of_them_alone(contents: list[bytes]) -> None:
    assert pack(contents) == [one for content in contents for one in pack([content])]


def test_many_contents_that_are_all_empty_are_packed_too() -> None:
    assert pack([b""] * MANY) == pack([b""]) * MANY


def test_what_was_packed_in_one_go_is_read_back(tmp_path: Path) -> None:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.db"))
    contents = [str(number).encode() * number for number in range(2 * MANY)]
    with ledger.transaction() as connection:
        store(connection, contents)
        digests = [one.digest for one in pack(contents)]
        assert fetch(connection, digests) == dict(zip(digests, contents, strict=True))
    ledger.close()
