"""Folders, globs and named inputs: order, what is passed over, what is refused at once."""

import os
import socket
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.loaders import iter_sources


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}")


def names_of(root: Path, *inputs: str, skipped: list[tuple[str, str]] | None = None) -> list[str]:
    reported: list[tuple[str, str]] = [] if skipped is None else skipped
    return [
        str(Path(source.source).relative_to(root))
        for source in iter_sources(inputs, on_skipped=lambda *entry: reported.append(entry))
    ]


def test_a_folder_is_walked_in_sorted_order(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a/z.md", "a/b/c.html", "c/a.txt", "B.txt")
    assert names_of(tmp_path, str(tmp_path)) == [
        *("B.txt", "a/b/c.html", "a/z.md", "b.txt", "c/a.txt")
    ]


def test_the_order_of_the_inputs_is_kept(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a/z.md")
    assert names_of(tmp_path, str(tmp_path / "b.txt"), str(tmp_path / "a")) == ["b.txt", "a/z.md"]


def test_hidden_files_are_passed_over_and_unknown_kinds_reported(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", ".hidden.txt", ".git/x.txt", "~$a.docx", "sub/photo.jpg", "Makefile")
    skipped: list[tuple[str, str]] = []
    assert names_of(tmp_path, str(tmp_path), skipped=skipped) == ["a.txt"]
    assert [Path(path).name for path, _ in skipped] == ["Makefile", "photo.jpg"]
    assert skipped[1][1].startswith("unknown kind '.jpg'; read are .txt")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("[b-z].txt", ["b.txt"]),
        ("?.md", []),
        ("*/*.txt", ["d/e.txt", "f/e.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "d/e.txt", "d/g/h.txt", "f/e.txt"]),
        ("**/**/g/**", ["d/g/h.txt"]),
        ("d/**", ["d/e.txt", "d/g/h.txt", "d/i.md"]),
        ("[df]", ["d/e.txt", "d/g/h.txt", "d/i.md", "f/e.txt"]),
        ("*/g/*", ["d/g/h.txt"]),
    ],
)
def test_a_glob_gives_its_matches_and_the_files_of_matching_folders(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    make(tmp_path, "a.txt", "b.txt", "d/e.txt", "d/g/h.txt", "d/i.md", "f/e.txt", ".x/y.txt")
    if expected:
        assert names_of(tmp_path, str(tmp_path / pattern)) == expected
    else:
        with pytest.raises(InputError, match="matches no file of a known kind"):
            iter_sources([str(tmp_path / pattern)])


def test_a_relative_glob_names_sources_as_the_person_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "d/a.txt")
    monkeypatch.chdir(tmp_path)
    assert [s.source for s in iter_sources(["d/*.txt", "./d", "*"])] == ["d/a.txt"] * 3


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    make(tmp_path, "report[1].txt", "report1.txt")
    assert names_of(tmp_path, str(tmp_path / "report[1].txt")) == ["report[1].txt"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.txt", "nothing.txt does not exist"),
        ("photo.jpg", "unknown kind of file '.jpg'"),
        ("none*.txt", "matches no file"),
        ("nowhere/*.txt", "matches no file"),
        ("x" * 300, "does not exist|cannot be looked at"),
        ("dangling.txt", "does not exist"),
    ],
)
def test_a_wrong_input_is_refused_by_name_before_anything_is_read(
    tmp_path: Path, name: str, message: str
) -> None:
    make(tmp_path, "good.txt", "photo.jpg")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(InputError, match=message):
        iter_sources([str(tmp_path / "good.txt"), str(tmp_path / name)])


@pytest.mark.parametrize("inputs", [[], [""], ["-", "-"]])
def test_inputs_that_make_no_sense_are_refused(inputs: list[str]) -> None:
    with pytest.raises(InputError):
        iter_sources(inputs)


def test_a_limit_of_nothing_is_refused_and_a_limit_is_kept(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt", "c.txt")
    with pytest.raises(InputError, match="at least 1"):
        iter_sources([str(tmp_path)], limit=0)
    assert len(list(iter_sources([str(tmp_path)], limit=2))) == 2


def test_the_walk_is_lazy(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b/c.txt")
    sources = iter_sources([str(tmp_path)])
    assert next(sources).text == "text of a.txt"
    make(tmp_path, "b/b.txt")
    assert [source.text for source in sources] == ["text of b/b.txt", "text of b/c.txt"]


def test_links_out_of_the_folder_are_not_followed_and_reported(tmp_path: Path) -> None:
    make(tmp_path, "in/real.txt", "in/sub/x.txt", "out/secret.txt", "inside/trap.txt")
    links = {
        "file.txt": "../out/secret.txt",
        "folder": "../out",
        "prefix.txt": "../inside/trap.txt",
        "within.txt": "real.txt",
        "twice": "sub",
        "loop": ".",
        "self.txt": "self.txt",
    }
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    skipped: list[tuple[str, str]] = []
    found = names_of(tmp_path, str(tmp_path / "in"), skipped=skipped)
    assert found == ["in/real.txt", "in/sub/x.txt", "in/within.txt"]
    reasons = {Path(path).name: why for path, why in skipped}
    outside = f"a link that leads outside {tmp_path / 'in'}"
    again = "a link to a folder; its files are read in their own place"
    assert reasons == {
        "file.txt": outside,
        "folder": outside,
        "prefix.txt": outside,
        "twice": again,
        "loop": again,
        "self.txt": "a link to nothing that is a file",
    }


def test_a_named_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    make(tmp_path, "real/a.txt")
    (tmp_path / "link").symlink_to("real")
    assert names_of(tmp_path, str(tmp_path / "link")) == ["link/a.txt"]


def test_pipes_and_sockets_never_block_the_walk(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "b.txt"))
        skipped: list[tuple[str, str]] = []
        assert names_of(tmp_path, str(tmp_path), skipped=skipped) == []
        [named] = iter_sources([str(tmp_path / "a.txt")])
    assert [why for _, why in skipped] == ["neither a file nor a folder"] * 2
    assert named.error == "cannot be read: not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.jsonl", "locked/c.txt")
    for name in ("a.txt", "b.jsonl", "locked"):
        (tmp_path / name).chmod(0)
    skipped: list[tuple[str, str]] = []
    sources = list(iter_sources([str(tmp_path)], on_skipped=lambda *e: skipped.append(e)))
    (tmp_path / "locked").chmod(0o700)
    assert [source.text for source in sources] == [None, None]
    assert "Permission denied" in str(sources[0].error)
    assert "Permission denied" in skipped[0][1]


def test_a_file_that_vanishes_after_the_check_is_an_error_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.jsonl", "c.txt")
    sources = iter_sources([str(tmp_path / name) for name in ("a.txt", "b.jsonl", "c.txt")])
    for name in ("a.txt", "b.jsonl"):
        (tmp_path / name).unlink()
    gone, gone_rows, there = sources
    assert gone.error == "cannot be read: No such file or directory"
    assert gone_rows.error == "cannot be read any further: No such file or directory"
    assert there.text == "text of c.txt"


def test_a_file_name_that_is_no_utf8_is_escaped_and_its_file_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(path)).write_text("hello")
    [source] = iter_sources([str(tmp_path)])
    assert source.source == f"{tmp_path}/caf\\udce9.txt"
    assert source.text == "hello"
