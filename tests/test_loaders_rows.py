"""Rows of JSON lines, CSV, standard input and Python values become sources, bad rows alone."""

import io
import json
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InputError
from runner.loaders import ROW_MAX_BYTES, TEXT_MAX_BYTES, RowFields, from_iterable, iter_sources
from runner.loaders.rows import _json_value
from runner.loaders.table import csv_sources
from runner.model import SourceText


def sources_of(
    path: Path, content: bytes, *, text_field: str | None = None, id_field: str | None = None
) -> list[SourceText]:
    path.write_bytes(content)
    return list(iter_sources([str(path)], text_field=text_field, id_field=id_field))


def short(sources: Iterable[SourceText]) -> list[tuple[str, str]]:
    """The name after the last slash and the text, or the error in angle brackets."""
    return [
        (source.source.rpartition("/")[2], source.text or f"<{source.error}>") for source in sources
    ]


def test_json_lines_are_objects_with_a_text_or_strings(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"text": "one"}\r\n\n"two"\n{"text": "three", "x": 1}'
    assert short(sources_of(tmp_path / "a.jsonl", content)) == [
        ("a.jsonl#1", "one"),
        ("a.jsonl#3", "two"),
        ("a.jsonl#4", "three"),
    ]


def test_the_fields_of_text_and_id_can_be_named(tmp_path: Path) -> None:
    content = b'{"body": "one", "key": "k1"}\n{"body": "two", "key": 7}\n'
    sources = sources_of(tmp_path / "a.jsonl", content, text_field="body", id_field="key")
    assert short(sources) == [("a.jsonl#k1", "one"), ("a.jsonl#7", "two")]


def test_the_identity_of_a_row_is_the_text_field_alone(tmp_path: Path) -> None:
    content = '{"text": "schön", "n": 1}\n{"n": 2, "text": "sch\\u00f6n"}\n'.encode()
    assert [s.content for s in sources_of(tmp_path / "a.jsonl", content)] == ["schön".encode()] * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "\xff"}', "not UTF-8: byte 10"),
        (b"{nonsense", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[1]", "the row is of type list"),
        (b"null", "the row is of type NoneType"),
        (b'{"body": "x"}', "no field 'text', only 'body'"),
        (b"{}", "no field 'text', only none"),
        (b'{"text": null}', "the text is of type NoneType, not a string"),
        (b'{"text": 5}', "the text is of type int, not a string"),
        (b'{"text": "  "}', "empty"),
        (b'{"text": "a\\u0000b"}', "NUL character"),
        (b'{"text": "a\\ud800"}', "half of a surrogate pair at character 1"),
        (b'{"text": ' + b"9" * 5_000 + b"}", "not JSON"),
    ],
)
def test_a_bad_row_is_an_error_of_its_own(tmp_path: Path, line: bytes, message: str) -> None:
    first, bad, last = sources_of(tmp_path / "a.jsonl", b'"x"\n' + line + b'\n"y"\n')
    assert (first.text, bad.text, last.text) == ("x", None, "y")
    assert message in str(bad.error)
    assert bad.source.endswith("a.jsonl#2")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x"}', "no field 'id'"),
        ('{"text": "x", "id": null}', "neither a text nor a whole number: None"),
        ('{"text": "x", "id": true}', "neither a text nor a whole number"),
        ('{"text": "x", "id": ""}', "neither a text nor a whole number"),
        (json.dumps({"text": "x", "id": "y" * 501}), "longer than 500 characters"),
        ('"x"', "has no id field 'id'"),
    ],
)
def test_a_row_without_the_id_that_was_asked_for_is_an_error(
    tmp_path: Path, row: str, message: str
) -> None:
    [source] = sources_of(tmp_path / "a.jsonl", row.encode(), id_field="id")
    assert source.text is None
    assert message in str(source.error)


def test_a_row_over_the_cap_is_skipped_exactly(tmp_path: Path) -> None:
    content = b'"x"\n"' + b"a" * ROW_MAX_BYTES * 2 + b'"\n"y"\n'
    first, big, last = sources_of(tmp_path / "a.jsonl", content)
    assert (first.text, last.text) == ("x", "y")
    assert big.error == "the row is larger than the cap of 5 MB: split it"
    assert len(big.content) < 1_000


def test_twenty_megabytes_of_rows_pass_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "word " * 2_000}) + "\n"
    with path.open("w") as big:
        big.writelines(line for _ in range(2_000))
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_sources([str(path)])) == 2_000
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000_000


def test_csv_rows_with_quoted_line_breaks_and_large_cells_are_read(tmp_path: Path) -> None:
    large = "x" * 300_000
    content = f'id,text\r\n1,"a ""b"",\r\nc"\r\n\r\n2,{large}\r\n'.encode()
    sources = sources_of(tmp_path / "a.csv", content, text_field="text", id_field="id")
    assert short(sources) == [("a.csv#1", 'a "b",\r\nc'), ("a.csv#2", large)]


def test_a_csv_with_one_column_needs_no_field_name(tmp_path: Path) -> None:
    assert short(sources_of(tmp_path / "a.csv", b"\xef\xbb\xbfbody\none\ntwo\n")) == [
        ("a.csv#1", "one"),
        ("a.csv#2", "two"),
    ]


@pytest.mark.parametrize("divider", [",", ";", "\t"])
def test_the_divider_is_seen_in_the_header(tmp_path: Path, divider: str) -> None:
    content = divider.join(["id", "text"]) + "\n" + divider.join(["1", "one"]) + "\n"
    assert short(sources_of(tmp_path / "a.csv", content.encode(), text_field="text")) == [
        ("a.csv#1", "one")
    ]


@pytest.mark.parametrize(
    ("content", "text_field", "message"),
    [
        (b"id,text\n1,x\n", None, r"which column is the text\? .* 'id', 'text'"),
        (b"id,text\n1,x\n", "body", "0 columns are named 'body' of: 'id', 'text'"),
        (b"text,text\n1,x\n", "text", "2 columns are named 'text'"),
        (b"", None, "empty: the first row must be a header"),
        ("text\nx".encode("utf-16"), None, "UTF-16: save it as UTF-8"),
        (b'"text\nx\n', None, "the header row cannot be read"),
    ],
)
def test_a_named_csv_whose_header_does_not_fit_is_refused_at_once(
    tmp_path: Path, content: bytes, text_field: str | None, message: str
) -> None:
    (tmp_path / "good.csv").write_text(f"{text_field}\nx\n")
    (tmp_path / "a.csv").write_bytes(content)
    inputs = [str(tmp_path / "good.csv"), str(tmp_path / "a.csv")]
    with pytest.raises(InputError, match=message):
        iter_sources(inputs, text_field=text_field)
    found = list(iter_sources([str(tmp_path)], text_field=text_field))
    assert str(tmp_path / "a.csv") in [s.source for s in found if s.error]


def test_bad_csv_rows_leave_their_neighbours_alone(tmp_path: Path) -> None:
    content = (
        "id,text\n1,one\n2,loose, comma\n3\n4,\n5,schön\n".encode()
        + "6,größer\n".encode("cp1252")
        + b"7,\x01\x81\n"
        + b'8,"odd" quote\n9,nine\n'
    )
    found = short(sources_of(tmp_path / "a.csv", content, text_field="text"))
    assert [name for name, _ in found] == [f"a.csv#{number}" for number in range(1, 10)]
    assert [text for _, text in found if not text.startswith("<")] == [
        *("one", "schön", "größer", "nine")
    ]
    errors = {name: text for name, text in found if text.startswith("<")}
    assert "3 cells, the header 2" in errors["a.csv#2"]
    assert "no field 'text', only 'id'" in errors["a.csv#3"]
    assert "empty" in errors["a.csv#4"]
    assert "neither UTF-8" in errors["a.csv#7"]
    assert "not CSV" in errors["a.csv#8"]


def test_a_csv_row_over_the_cap_is_skipped_to_its_own_end(tmp_path: Path) -> None:
    inside = b'line, with ""quotes""\n' * 300_000
    content = b'id,text\n1,one\n2,"' + inside + b'"\n3,three\n'
    found = short(sources_of(tmp_path / "a.csv", content, text_field="text"))
    assert [name for name, _ in found] == ["a.csv#1", "a.csv#2", "a.csv#3"]
    assert "larger than the cap of 5 MB" in found[1][1]
    assert found[2][1] == "three"


def test_a_quote_that_is_never_closed_is_told_and_not_read_as_a_text(tmp_path: Path) -> None:
    found = short(sources_of(tmp_path / "a.csv", b'text\none\n"two\nthree\n'))
    assert found[0] == ("a.csv#1", "one")
    assert "is a quote not closed" in found[1][1]
    assert len(found) == 2


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(st.integers(0, 99), TEXTS), max_size=8))
def test_any_text_written_by_the_csv_module_is_read_back(rows: list[tuple[int, str]]) -> None:
    written = "id,text\r\n" + "".join(
        f'{number},"{text.replace(chr(34), chr(34) * 2)}"\r\n' for number, text in rows
    )
    fields = RowFields(text="text")
    read = csv_sources(io.BytesIO(written.encode()), container="a.csv", fields=fields)
    assert [source.text for source in read] == [text for _, text in rows]


def test_json_lines_in_utf16_are_told_at_once(tmp_path: Path) -> None:
    [source] = sources_of(tmp_path / "a.jsonl", '"one"\n"two"\n'.encode("utf-16"))
    assert source.error == "UTF-16: save it as UTF-8"


def test_standard_input_is_one_text_without_a_field_and_rows_with_one() -> None:
    whole = iter_sources(["-"], stdin=io.BytesIO(b'{"t": "a"}\n{"t": "b"}\n'))
    assert short(whole) == [("-", '{"t": "a"}\n{"t": "b"}\n')]
    rows = iter_sources(["-"], text_field="t", stdin=io.BytesIO(b'{"t": "a"}\n{"t": "b"}\n'))
    assert short(rows) == [("-#1", "a"), ("-#2", "b")]
    [empty] = iter_sources(["-"], stdin=io.BytesIO())
    assert "empty" in str(empty.error)


def test_a_limit_reads_no_further_than_it_must() -> None:
    stream = io.BytesIO(b'"x"\n' * 100)
    assert len(list(iter_sources(["-"], text_field="text", stdin=stream, limit=3))) == 3
    assert stream.tell() == 12


def test_python_values_are_texts_pairs_or_mappings() -> None:
    items: list[str | tuple[str, str] | Mapping[str, object]] = [
        "one",
        ("b", "two"),
        {"text": "three", "id": 3},
        {"text": "four"},
    ]
    assert short(from_iterable(items)) == [
        ("#1", "one"),
        ("b", "two"),
        ("3", "three"),
        ("#4", "four"),
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (5, "of type int: neither a text"),
        (("a", 5), "the text is of type int"),
        (("a", "b", "c"), "of type tuple: neither a text"),
        ({"body": "x"}, "no field 'text'"),
        ("", "empty"),
        ("x" * (TEXT_MAX_BYTES + 1), "larger than the cap of 5 MB"),
    ],
)
def test_a_wrong_python_value_is_an_error_of_its_own(item: str, message: str) -> None:
    first, wrong, last = from_iterable(["x", item, "y"])
    assert (first.text, wrong.text, last.text) == ("x", None, "y")
    assert message in str(wrong.error)


def test_an_endless_iterable_is_read_only_up_to_the_limit() -> None:
    assert len(list(from_iterable(iter(lambda: "x", None), limit=5))) == 5


def _read_by(read: Callable[[bytes], object], line: bytes) -> str:
    """What it reads (not-a-number is as good as itself), or how it refuses."""
    try:
        return repr(read(line))
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__} {error}"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    line=st.one_of(
        st.builds(
            lambda value, plain: json.dumps(value, ensure_ascii=plain), _JSON, st.booleans()
        ).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.binary(),
        st.text(alphabet='{}[]":,\\u0dc8e+-.tNaI fly\n').map(str.encode),
        st.sampled_from(
            [
                b'{"text": "\\ud800"}',
                b'{"text": "a", "text": "b"}',
                b'{"text": "\xed\xa0\x80"}',
                b"[" * 300 + b"]" * 300,
                b"9" * 4_301,
                b'{"text": "a"} x',
                b'"\x01"',
            ]
        ),
    )
)
def test_a_line_is_read_and_refused_as_the_standard_library_does(line: bytes) -> None:
    expected = _read_by(lambda line: json.loads(line.decode()), line)
    assert _read_by(_json_value, line) == expected
