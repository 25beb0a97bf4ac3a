"""What reaches the terminal: nothing that a terminal obeys, and nothing that JSON would lose."""

import io
import json
import sys
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.shapes.home import CheckShape
from runner.cli.tables import FLEXIBLE_MIN, Column, format_table, say_table
from runner.cli.terminal import escaped_json, json_text, plain, plain_lines, say

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
    "\x9b2Jcleared",
    "\x1bP+q544e\x1b\\",
    "pay\u202e005\u202c now",
    "\u2066isolated\u2069",
    "over\rwritten",
    "back\b\bspace",
    "bell\a",
    "zero\u200bwidth",
    "tag\U000e0041",
    "half\ud800pair",
    "\x1b]unterminated",
    "line\u2028separator",
    "next\x85line",
    "\x7fdeleted",
)
texts = st.text(st.characters(codec=None), max_size=200) | st.sampled_from(HOSTILE)


@given(texts)
def test_plain_is_one_line_of_printable_characters(text: str) -> None:
    assert plain(text).isprintable()


@given(texts)
def test_plain_lines_are_printable_and_as_many_as_before(text: str) -> None:
    shown = plain_lines(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("\n") == text.replace("\r\n", "\n").count("\n")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "M")), max_size=200))
def test_words_of_any_language_stay_as_they_are(text: str) -> None:
    printable = "".join(sign for sign in text if sign.isprintable())
    assert plain(printable) == printable


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b", "ab"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("pay\u202e005", "pay005"),
        ("over\rwritten", "over written"),
        ("two\nlines", "two lines"),
        ("\x1b]8;; unterminated hides nothing", "8;; unterminated hides nothing"),
    ],
)
def test_a_sequence_is_taken_out_as_a_whole(hostile: str, shown: str) -> None:
    assert plain(hostile) == shown


def test_a_long_text_is_cut_with_a_sign_that_says_so() -> None:
    assert plain("x" * 20, chars_max=10) == "x" * 9 + "…"
    assert plain("x" * 10, chars_max=10) == "x" * 10


@given(texts, texts)
def test_json_says_the_same_and_holds_nothing_that_a_terminal_obeys(name: str, text: str) -> None:
    written = json_text({name: [text, None, True, 1, 0.5]})
    assert written.isprintable()
    assert json.loads(written) == {name: [text, None, True, 1, 0.5]}


@given(texts)
def test_json_of_others_is_escaped_without_changing_its_meaning(text: str) -> None:
    written = escaped_json(json.dumps(text, ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == text


@given(st.decimals(min_value=0, max_value=10**9, places=9))
def test_money_is_an_exact_json_number(amount: Decimal) -> None:
    assert json.loads(json_text({"cost_usd": amount}), parse_float=Decimal)["cost_usd"] == amount


def test_a_model_is_written_with_its_fields_in_their_order() -> None:
    shape = CheckShape(name="disk", verdict="ok", message="room")
    assert json_text(shape) == '{"name": "disk", "verdict": "ok", "message": "room"}'


def test_markup_in_a_cell_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    say_table((Column("name"), Column("n", right=True)), [("[red]x[/red]\x1b[1m :smile:", 1234)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("  ")[0] == "[red]x[/red] :smile:"
    assert lines[1].endswith("1,234")


def test_a_table_in_a_pipe_is_neither_wrapped_nor_padded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_table((Column("message", folds=True), Column("last")), [("m" * 290, None), ("short", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == "m" * 290


@given(
    st.lists(st.tuples(st.text("abc", max_size=40), st.text("xyz ", max_size=90)), min_size=1),
    st.integers(70, 200),
)
def test_a_table_fits_its_room_and_keeps_ids_whole(rows: list[tuple[str, str]], room: int) -> None:
    columns = (Column("id"), Column("message", shrinks=True))
    lines = format_table(columns, rows, room=room)
    titles = [
        name for place, name in enumerate(("id", "message")) if any(row[place] for row in rows)
    ]
    if not titles:
        assert lines == []
        return
    assert lines[0].split() == titles
    assert all(len(line) <= room for line in lines)
    assert all(line.startswith(row[0]) for line, row in zip(lines[1:], rows, strict=True))


def test_a_room_that_is_too_narrow_cuts_texts_only() -> None:
    columns = (Column("id"), Column("message", shrinks=True), Column("n", right=True))
    _, line = format_table(columns, [("d" * 25, "m" * 90, 1234)], room=30)
    assert line == "d" * 25 + "  " + "m" * (FLEXIBLE_MIN - 1) + "…" + "  1,234"


def test_a_folding_cell_goes_on_below_with_all_its_words() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve"
    columns = (Column("n", right=True), Column("words", folds=True))
    lines = format_table(columns, [(1, words), (2, "short")], room=30)
    assert max(map(len, lines)) <= 30
    assert " ".join(" ".join(lines[1:-1]).split()) == f"1 {words}"
    assert lines[-1] == "2  short"


def test_a_column_without_a_value_is_left_out() -> None:
    columns = (Column("name"), Column("dead", right=True))
    assert format_table(columns, [("june", None)], room=80) == ["name", "june"]


def test_wide_signs_take_two_columns() -> None:
    lines = format_table((Column("名"), Column("n")), [("請求書", 1), ("abc", 2)], room=80)
    assert lines == ["名      n", "請求書  1", "abc     2"]


def test_a_stream_of_a_poor_encoding_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    say("Zürich")
    assert buffer.getvalue() == b"Z\\xfcrich\n"


def test_the_hostile_examples_are_hostile() -> None:
    controls = {"Cc", "Cf", "Cs", "Zl"}
    assert all(any(unicodedata.category(sign) in controls for sign in text) for text in HOSTILE)
