"""Hostile files cost themselves: 10 s, 512 MB, one parser process; neighbours and limits hold."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.batches import CHUNK, CHUNK_MAX_BYTES, _chunks
from runner.errors import RunnerError, UnparsableError
from runner.loaders import ParseLimits, files, iter_sources
from runner.loaders.limits import PARSE_MAX_S, PARSE_MEMORY_MAX_BYTES
from runner.loaders.parsers import Parsers
from runner.loaders.process import ParserProcess
from runner.model import SourceText
from tests.command_lines import call
from tests.hostile_files import HOSTILE, PDFS, Hostile, ends_as_it_must, write

SHORT_S = 1.5
GOOD_PDF = next(one.make() for one in PDFS if one.name == "fine.pdf")
ENDLESS = b"<div>" * 200_000 + b"x"
SLOW = b"<div>" * 20_000 + b"x"

# Reads a folder and prints, for each source, what it gave and how long it took; then the largest
# memory of a parser process. A process of its own, so that no other test's children are counted.
READER = """
import json, resource, sys, time
from pathlib import Path
from runner.loaders import ParseLimits, iter_sources

began_s = time.monotonic()
for one in iter_sources([sys.argv[1]], parse_limits=ParseLimits(max_s=float(sys.argv[2]))):
    now_s = time.monotonic()
    print(json.dumps([one.source, one.text and one.text[:99], one.error, now_s - began_s]))
    began_s = now_s
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
"""

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="memory has no limit there")


def read_folder(folder: Path) -> tuple[list[Any], int]:
    program = [sys.executable, "-c", READER, str(folder), str(SHORT_S)]
    ended = subprocess.run(program, capture_output=True, check=True, text=True, timeout=100)
    *sources, peak_bytes = map(json.loads, ended.stdout.splitlines())
    return sources, peak_bytes


def test_each_hostile_file_ends_in_time_and_memory_and_harms_no_neighbour(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    by_path: dict[str, Hostile] = {}
    for number, hostile in enumerate(HOSTILE):
        path = write(folder, hostile)
        name = str(path).encode("utf-8", "backslashreplace").decode()
        by_path[name] = hostile
        (folder / f"{hostile.name}-good-{number}.pdf").write_bytes(GOOD_PDF)

    sources, peak_bytes = read_folder(folder)

    wrong = [
        (name.removeprefix(str(folder)), text, error)
        for name, text, error, _ in sources
        if (
            text != "hello"
            if name.partition("#")[0] not in by_path
            else not ends_as_it_must(by_path[name.partition("#")[0]], text=text, error=error)
        )
    ]
    assert wrong == []
    assert len(by_path) >= 30
    assert len(sources) == 2 * len(HOSTILE), "one source a file, nothing lost and nothing twice"
    assert max(took_s for *_, took_s in sources) <= PARSE_MAX_S
    assert peak_bytes <= PARSE_MEMORY_MAX_BYTES
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/tmp/escaped.txt").exists()


def test_what_is_no_file_of_the_folder_is_passed_over_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.pdf").write_bytes(GOOD_PDF)
    os.mkfifo(folder / "fifo.pdf")
    for name, target in {
        "device.txt": "/dev/zero",
        "loop.docx": "loop.docx",
        "out.pdf": "../secret.pdf",
        "proc.txt": "/proc/self/environ",
        "ring": ".",
    }.items():
        (folder / name).symlink_to(target)
    (folder / "good.pdf").write_bytes(GOOD_PDF)
    skipped: list[str] = []
    found = list(iter_sources([str(folder)], on_skipped=lambda path, _: skipped.append(path)))
    assert [one.text for one in found] == ["hello"]
    assert {Path(path).name for path in skipped} == {
        *("device.txt", "fifo.pdf", "loop.docx", "out.pdf", "proc.txt", "ring")
    }


def test_submitted_hostile_files_end_unparsable_and_the_ledger_balances(tmp_path: Path) -> None:
    folder, home = tmp_path / "in", tmp_path / "home"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(GOOD_PDF)
    write(folder, next(one for one in PDFS if one.name == "flate-1-gb.pdf"))
    (folder / "endless.html").write_bytes(ENDLESS)  # the one test that takes the whole 10 s
    (folder / "z.html").write_bytes(b"<p>good")
    began_s = time.monotonic()
    ended = call("submit", "invoice", str(folder), "--batch", "b", "--json", home=home)
    assert time.monotonic() - began_s < 2 * PARSE_MAX_S
    assert (ended.code, ended.json()["accepted"], ended.json()["unparsable"]) == (0, 4, 2)
    letters = call("dead", "list", "--all", "--json", home=home).json()["letters"]
    messages = {Path(one["source"]).name: one["message"] for one in letters}
    assert messages["endless.html"] == "took longer than 10 s to read"
    assert messages["flate-1-gb.pdf"].startswith("crashed the PDF reader (SIGABRT)")
    assert [one["reason"] for one in letters] == ["unparsable"] * 2
    assert call("audit", home=home).code == 0


@pytest.fixture
def parsers() -> Iterator[Callable[..., Parsers]]:
    made: list[Parsers] = []

    def make(**limits: Any) -> Parsers:
        made.append(Parsers(ParseLimits(**limits)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def only_child(parsers: Parsers) -> ParserProcess:
    [child] = (*parsers._idle, *parsers._busy)
    return child


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(*pids: int, within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while any(map(is_alive, pids)):
        assert time.monotonic() < until_s, "a parser process is left behind"
        time.sleep(0.02)


def test_a_signal_meant_for_others_costs_a_child_and_no_file(
    parsers: Callable[..., Parsers],
) -> None:
    made = parsers()
    parsing = made.begin("html", SLOW)
    os.kill(only_child(made).pid, signal.SIGTERM)
    assert parsing.text() == "x"


def test_a_file_over_which_two_children_die_is_named_with_the_signal(
    parsers: Callable[..., Parsers],
) -> None:
    made = parsers()
    parsing = made.begin("html", ENDLESS)
    killed: set[int] = set()

    def kill_two() -> None:
        while len(killed) < 2:
            for child in list(made._busy):
                if child.files and child.pid not in killed:
                    killed.add(child.pid)
                    os.kill(child.pid, signal.SIGSEGV)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_two)
    killer.start()
    with pytest.raises(UnparsableError, match=r"^crashed the HTML reader \(SIGSEGV\)$"):
        parsing.text()
    killer.join()
    assert made.begin("html", b"<p>next").text() == "next"


def test_an_answer_that_nobody_took_in_time_is_still_taken(parsers: Callable[..., Parsers]) -> None:
    made = parsers(max_s=2.0)
    parsing = made.begin("html", b"x" * 1_000_000)
    time.sleep(2.1)
    assert len(parsing.text()) == 1_000_000


def test_a_child_is_replaced_after_its_share_of_files(parsers: Callable[..., Parsers]) -> None:
    made = parsers(files_a_child=2)
    pids = []
    for _ in range(3):
        parsing = made.begin("html", b"<p>x")
        pids.append(only_child(made).pid)
        parsing.text()
    assert pids[0] == pids[1] != pids[2]
    assert not is_alive(pids[0])


def test_a_child_is_out_of_reach_of_the_terminal_and_knows_no_key(
    parsers: Callable[..., Parsers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    made = parsers()
    assert made.begin("html", b"<p>x").text() == "x"
    child = psutil.Process(only_child(made).pid)
    assert os.getsid(child.pid) != os.getsid(0)
    assert "sk-canary" not in child.environ().values()


@pytest.mark.parametrize(
    ("interpreter", "message"),
    [("/bin/false", r"does not start \(exit code 1\)"), ("/nowhere", "No such file")],
)
def test_a_child_that_cannot_start_is_the_runners_error_and_no_files(
    interpreter: str,
    message: str,
    parsers: Callable[..., Parsers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(RunnerError, match=message):
        parsers().begin("html", b"<p>x")


def test_what_fails_for_want_of_memory_says_so(parsers: Callable[..., Parsers]) -> None:
    made = parsers(memory_max_bytes=128_000_000)
    with pytest.raises(UnparsableError, match=r"^needs more than 128 MB of memory to read$"):
        made.begin("html", b"<a>x" * 2_000_000).text()
    assert made.begin("html", b"<p>next").text() == "next"


def test_no_child_outlives_the_reading_that_started_it(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.html").write_bytes(b"<p>x")
    before = set(psutil.Process().children())
    with closing(iter_sources([str(tmp_path)])) as sources:  # type: ignore[type-var]  # a generator
        next(sources)
        assert set(psutil.Process().children()) - before
    assert set(psutil.Process().children()) <= before


def test_no_child_outlives_a_parent_that_is_killed_not_even_a_busy_one() -> None:
    program = (
        "import sys, time\n"
        "from runner.loaders import ParseLimits\n"
        "from runner.loaders.parsers import Parsers\n"
        "made = Parsers(ParseLimits(max_s=1))\n"
        "idle, busy = made.begin('html', b'<p>x'), made.begin('html', b'<div>' * 200_000 + b'x')\n"
        "idle.text()\n"
        "print(*[child.pid for child in (*made._idle, *made._busy)], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        idle, busy = map(int, parent.stdout.readline().split())
        assert is_alive(idle)
        assert is_alive(busy)
        parent.kill()
    wait_until_gone(idle, within_s=20)
    wait_until_gone(busy, within_s=20)  # by its own limit: 1 s of a core


class CutWhileRead(io.FileIO):
    """A file that somebody else truncates as soon as some of it has been read."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Read, and cut what has not been read yet."""
        size = super().readinto(buffer)
        os.truncate(str(self.name), 3)
        return size


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a whole text")
    monkeypatch.setattr(files, "open_regular", lambda path: io.BufferedReader(CutWhileRead(path)))
    [source] = iter_sources([str(tmp_path)])
    assert source.text is None
    assert source.error == "changed while it was being read: submit it again"


def test_a_chunk_of_a_submission_holds_few_large_files_and_many_small_ones() -> None:
    def sizes(content: bytes, count: int) -> list[int]:
        texts = (SourceText(str(number), content, "x") for number in range(count))
        return [len(chunk) for chunk in _chunks(texts)]

    assert sizes(bytes(CHUNK_MAX_BYTES // 2), 5) == [2, 2, 1]
    assert sizes(b"x", CHUNK + 1) == [CHUNK, 1]
    assert sizes(b"x", 0) == []
