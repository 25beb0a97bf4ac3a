"""Inputs named here or in a process beside this one: the same outcome, whatever becomes of it."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from runner.model import SourceText
from runner.naming import Named, Namer, name_documents, namer

BATCH = "b1"
CHUNK = 50
LARGE = 100


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namer, "_processors", lambda: 2)


def chunks(count: int) -> Iterator[list[SourceText]]:
    """Texts that are their content, texts that are not, inputs without one, and an empty one."""
    for number in range(count):
        rows = [f"row {number} {place} " * place for place in range(CHUNK - 2)]
        yield [
            *(SourceText(source=f"a#{row}", content=row.encode(), text=row) for row in rows),
            SourceText(source=f"{number}.pdf", content=b"%PDF \xff", text=f"page {number} \u20ac"),
            SourceText(source="x", content=b"\xff", text=None, error=f"is no text {number}"),
        ]


def children() -> list[psutil.Process]:
    """Naming processes of this one."""
    return [
        one
        for one in psutil.Process().children()
        if "runner.naming.child" in " ".join(one.cmdline())
    ]


def name_until_it_helps(naming: Namer, some: Iterator[list[SourceText]]) -> psutil.Process:
    """Name chunks until the child has taken one; the child."""
    give_up_s = time.monotonic() + 60
    while not naming.is_helped:
        assert time.monotonic() < give_up_s
        chunk = next(some)
        assert naming.begin(chunk)() == name_documents(BATCH, chunk)
    (child,) = children()
    return child


def test_a_large_submission_is_named_as_a_small_one_and_its_process_ends() -> None:
    some = chunks(100_000)
    with Namer(BATCH, large=LARGE) as naming:
        child = name_until_it_helps(naming, some)
        later = [next(some) for _ in range(20)]
        begun = [naming.begin(chunk) for chunk in later[:3]]
        assert [one() for one in begun] == [name_documents(BATCH, chunk) for chunk in later[:3]]
        for chunk in later[3:]:
            assert naming.begin(chunk)() == name_documents(BATCH, chunk)
    assert not child.is_running()


def test_a_small_submission_starts_no_process() -> None:
    with Namer(BATCH, large=LARGE) as naming:
        for chunk in chunks(2):
            assert naming.begin(chunk)() == name_documents(BATCH, chunk)
        assert not children()


def test_where_there_is_one_processor_no_process_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namer, "_processors", lambda: 1)
    with Namer(BATCH, large=LARGE) as naming:
        for chunk in chunks(5):
            naming.begin(chunk)()
        assert not children()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_what_a_lost_process_has_not_answered_is_named_here(
    monkeypatch: pytest.MonkeyPatch, *, how: signal.Signals
) -> None:
    some = chunks(100_000)
    with Namer(BATCH, large=LARGE) as naming:
        child = name_until_it_helps(naming, some)
        monkeypatch.setattr(namer, "WAIT_MAX_S", 0.5)
        asked = [next(some) for _ in range(6)]
        begun = [naming.begin(chunk) for chunk in asked[:2]]
        os.kill(child.pid, how)
        begun += [naming.begin(chunk) for chunk in asked[2:]]
        named: list[list[Named]] = [one() for one in begun]
        assert named == [name_documents(BATCH, chunk) for chunk in asked]
        assert not naming.is_helped
    assert not child.is_running()


def test_a_process_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Namer(BATCH, large=LARGE) as naming:
        for chunk in chunks(6):
            assert naming.begin(chunk)() == name_documents(BATCH, chunk)
        assert not naming.is_helped
