"""Result files: every field kept, money exact, cells that start no formula, all or nothing."""

import csv
import io
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.parquet import ParquetFile, read_table
from pydantic import ValidationError

import runner.parquet
from runner.cli.export import check_target
from runner.errors import InputError, RunnerError
from runner.exporters import (
    COLUMNS_MAX,
    Format,
    ResultError,
    ResultLine,
    json_line,
    safe_cell,
    starts_formula,
    write_results,
    write_results_to,
)
from runner.model import DocumentState

DONE = ResultLine(
    document_id="d1",
    source="in/a.pdf",
    status=DocumentState.DONE,
    data={"total": -12.5, "seller": {"name": "Größe & Co", "vat": None}, "lines": [{"n": 1}]},
    flags=("repaired",),
    prompt="v1-abc",
    model="small",
    attempts=2,
    cost_usd=Decimal("0.000000001"),
    latency_s=1.25,
    trace_id="0" * 32,
)
DEAD = ResultLine(
    document_id="d2",
    source="-#3",
    status=DocumentState.DEAD,
    error=ResultError(reason="unparsable", message="=cmd|'/C calc'!A0"),
)


JSON_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)


def with_data(data: dict[str, Any]) -> ResultLine:
    return DONE.model_copy(update={"data": data})


def csv_of(*lines: ResultLine, columns: list[str] | None = None) -> list[dict[str, str]]:
    stream = io.BytesIO()
    assert write_results_to(stream, lines, format="csv", columns=columns) == len(lines)
    return list(csv.DictReader(io.StringIO(stream.getvalue().decode(), newline="")))


def original(cell: str) -> str:
    """The documented way back."""
    return cell[1:] if cell.startswith("'") and starts_formula(cell[1:]) else cell


def test_a_json_line_has_the_contracts_fields_in_order() -> None:
    assert json.loads(json_line(DONE), parse_float=Decimal) == {
        "document_id": "d1",
        "source": "in/a.pdf",
        "status": "done",
        "data": {
            "total": Decimal("-12.5"),
            "seller": {"name": "Größe & Co", "vat": None},
            "lines": [{"n": 1}],
        },
        "flags": ["repaired"],
        "error": None,
        "prompt": "v1-abc",
        "model": "small",
        "attempts": 2,
        "cost_usd": Decimal("0.000000001"),
        "latency_s": Decimal("1.25"),
        "trace_id": "0" * 32,
    }
    assert list(json.loads(json_line(DEAD))) == [
        *("document_id", "source", "status", "data", "flags", "error", "prompt", "model"),
        *("attempts", "cost_usd", "latency_s", "trace_id"),
    ]
    assert json.loads(json_line(DEAD))["error"]["reason"] == "unparsable"
    assert json.loads(json_line(DEAD))["cost_usd"] is None


@given(st.integers(min_value=0, max_value=10**30))
def test_every_nano_dollar_survives_as_a_plain_json_number(cost_nusd: int) -> None:
    cost = Decimal(cost_nusd).scaleb(-9)
    line = json_line(DONE.model_copy(update={"cost_usd": cost}))
    written = line.partition('"cost_usd": ')[2].partition(",")[0]
    assert not set(written) - set("0123456789.")
    assert Decimal(written) == cost
    assert not (written.endswith("0") and "." in written)


@pytest.mark.parametrize("cost", ["-1", "0.0000000001", "NaN", "Infinity"])
def test_a_cost_that_is_no_whole_number_of_nano_dollars_is_refused(cost: str) -> None:
    with pytest.raises(ValidationError):
        ResultLine(document_id="d", source="s", status=DocumentState.DONE, cost_usd=Decimal(cost))


def test_a_result_line_is_one_line_and_keeps_every_character() -> None:
    data = {"a": "line\nbreak\u2028 \ud800 \0 ü"}
    stream = io.BytesIO()
    assert write_results_to(stream, [with_data(data)] * 2) == 2
    lines = stream.getvalue().split(b"\n")
    assert [json.loads(line)["data"] for line in lines[:2]] == [data] * 2
    assert lines[2:] == [b""]


def test_csv_has_the_envelope_then_the_data_by_dotted_names() -> None:
    done, dead = csv_of(DONE, DEAD)
    assert done == {
        "document_id": "d1",
        "source": "in/a.pdf",
        "status": "done",
        "flags": '["repaired"]',
        "error.reason": "",
        "error.message": "",
        "prompt": "v1-abc",
        "model": "small",
        "attempts": "2",
        "cost_usd": "0.000000001",
        "latency_s": "1.25",
        "trace_id": "0" * 32,
        "data.total": "-12.5",
        "data.seller.name": "Größe & Co",
        "data.seller.vat": "",
        "data.lines": '[{"n": 1}]',
    }
    assert list(dead) == list(done)
    assert (dead["source"], dead["error.message"]) == ("'-#3", "'=cmd|'/C calc'!A0")


def test_the_csv_header_holds_the_columns_of_every_line() -> None:
    rows = csv_of(
        with_data({"seller": None, "note": None, "x": {}}),
        with_data({"seller": {"name": "a", "address": {}}, "x": {"y": True}}),
        with_data({"seller": {"address": {"city": "b"}}, "a.b": 1}),
    )
    assert list(rows[0])[12:] == [
        *("data.note", "data.seller.name", "data.x.y", "data.seller.address.city", r"data.a\.b")
    ]
    assert [row["data.seller.name"] for row in rows] == ["", "a", ""]
    assert rows[1]["data.x.y"] == "true"


def test_named_columns_are_the_header_in_their_order() -> None:
    rows = csv_of(DONE, DEAD, columns=["seller.name", "absent", "total"])
    assert list(rows[0])[12:] == ["data.seller.name", "data.absent", "data.total"]
    assert list(rows[0].values())[12:] == ["Größe & Co", "", "-12.5"]


def test_no_lines_give_a_header_and_nothing_else() -> None:
    stream = io.BytesIO()
    assert write_results_to(stream, [], format="csv") == 0
    assert stream.getvalue().startswith(b"document_id,source,status,flags,error.reason")
    assert stream.getvalue().count(b"\n") == 1


def test_data_with_endless_columns_is_refused_by_name() -> None:
    lines = (with_data({f"key{number}": 1}) for number in range(COLUMNS_MAX + 1))
    with pytest.raises(InputError, match="more than 2000 columns"):
        write_results_to(io.BytesIO(), lines, format="csv")


TRIGGERS = [
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "=", "+", "-", "@"),
    *("\t=1", "\tplain", "\rplain", "\nplain", " \tplain", "'\tplain", "\r\n=1"),
    *(" =1", "   @x", "\u00a0=1", "\u3000=1", "\ufeff=1", "\u200b=1", "\u202e=1", "\0=1", "\x1b=1"),
    *("'=1", '"=1', '"" =1', "`=1", "\u2018=1", "\u201e=1", "\u00ab=1", "\uff07=1", "\uff02=1"),
    *("\uff1d1", "\uff0b1", "\uff0d1", "\uff20x", "\ufe66x", "\ufe62x", "\ufe63x", "\ufe6bx"),
    *("-1-1", "-12.5 EUR", "- 5", "--5", "-.5", "-1.", "+5", " -5", "-5\n", "'-5", "-\u0661"),
]
HARMLESS = [
    *("", " ", "'", '"', "plain", "a=b", "1+1", "x@y.z", "'quoted'", "(=1)", "#N/A", "|", "%0A"),
    *("0", "-12.5", "-1", "12", "-1e-07", "1E+30", "2026-11-23", "5-3"),
]


@pytest.mark.parametrize("cell", TRIGGERS)
def test_a_cell_that_might_start_a_formula_gets_an_apostrophe(cell: str) -> None:
    [row] = csv_of(with_data({"x": cell}))
    assert row["data.x"] == "'" + cell
    assert original(row["data.x"]) == cell


@pytest.mark.parametrize("cell", HARMLESS)
def test_a_harmless_cell_is_left_as_it_is(cell: str) -> None:
    [row] = csv_of(with_data({"x": cell}))
    assert row["data.x"] == cell


FIELDS = ["document_id", "source", "prompt", "model", "trace_id"]


@pytest.mark.parametrize("field", FIELDS)
def test_every_text_of_the_envelope_is_safe_too(field: str) -> None:
    [row] = csv_of(DONE.model_copy(update={field: "=1+1"}))
    assert row[field] == "'=1+1"


@given(st.text(st.sampled_from("=+-@ \t\r\n'\"\uff1d\u200b1.5eax"), max_size=8) | st.text())
def test_safe_cells_start_no_formula_and_lead_back_to_the_original(text: str) -> None:
    cell = safe_cell(text)
    assert cell[:1] not in {*"=+-@\t\r\n"} or float(cell) <= 0
    assert original(cell) == text


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.booleans()))
def test_any_data_is_read_back_from_csv(data: dict[str, Any]) -> None:
    [row] = csv_of(with_data(data))
    for name, value in data.items():
        cell = row["data." + name.replace(".", "\\.")]
        assert original(cell) == (value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "OUT.CSV"])
def test_the_extension_chooses_the_format_and_only_the_owner_may_read(
    tmp_path: Path, name: str
) -> None:
    assert write_results([DONE, DEAD], tmp_path / name) == 2
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [name]
    first = (tmp_path / name).read_text().splitlines()[0]
    assert first.startswith("document_id," if name.lower().endswith("csv") else '{"document_id"')


def test_a_format_that_is_named_wins_over_the_extension(tmp_path: Path) -> None:
    write_results([DONE], tmp_path / "out.data", format="csv")
    assert (tmp_path / "out.data").read_text().startswith("document_id,")


def test_an_older_file_is_replaced_and_a_link_to_it_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    for _ in range(2):
        write_results([DONE], tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text() == json_line(DONE) + "\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xlsx", r"unknown result format '.xlsx'; known are \.jsonl \.csv"),
        ("out", "unknown result format ''"),
        ("nowhere/out.csv", "nowhere does not exist; create it first"),
        ("folder.csv", "is not a file"),
        ("pipe.csv", "is not a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_a_line_is_read(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")

    def unread() -> Iterator[ResultLine]:
        pytest.fail("a line was read")
        yield DONE

    with pytest.raises(InputError, match=message):
        write_results(unread(), tmp_path / name)


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_export_that_fails_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    def failing() -> Iterator[ResultLine]:
        yield DONE
        raise error

    (tmp_path / name).write_text("old")
    with pytest.raises(error):
        write_results(failing(), tmp_path / name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_file_that_may_grow_no_further_is_told_and_leaves_nothing(
    tmp_path: Path, name: str
) -> None:
    lines = [DONE] * 2_000
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        with pytest.raises(RunnerError, match="was not written: File too large; nothing was left"):
            write_results(lines, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["None", "Path('-')"])
def test_no_path_or_a_dash_is_standard_output(path: str) -> None:
    program = (
        "from pathlib import Path; from runner.exporters import ResultLine, write_results;"
        "line = ResultLine(document_id='d', source='s', status='done');"
        f"assert write_results([line], {path}) == 1"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(run.stdout)["document_id"] == "d"


class _Nowhere(io.RawIOBase):
    """A stream that keeps nothing."""

    def write(self, content: Any) -> int:
        return len(content)


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
def test_memory_does_not_grow_with_the_number_of_lines(
    format_name: Literal["jsonl", "csv"],
) -> None:
    def export(count: int) -> Callable[[], object]:
        lines = (with_data({"text": "x" * 5_000}) for _ in range(count))
        stream = cast("BinaryIO", _Nowhere())
        chosen: Format = format_name
        return lambda: write_results_to(stream, lines, format=chosen)

    assert _peak_bytes(export(2_000)) < _peak_bytes(export(20)) + 100_000


# --- Parquet --------------------------------------------------------------------------------------


def parquet_of(*lines: ResultLine, columns: list[str] | None = None) -> pa.Table:
    stream = io.BytesIO()
    found = write_results_to(stream, lines, format="parquet", columns=columns)
    assert found == len(lines)
    return read_table(pa.BufferReader(stream.getvalue()))


def test_a_parquet_file_has_the_columns_of_the_csv_with_types_and_exact_money() -> None:
    table = parquet_of(DONE, DEAD)
    stream = io.BytesIO()
    write_results_to(stream, [DONE, DEAD], format="csv")
    assert table.column_names == stream.getvalue().decode().splitlines()[0].split(",")
    first, second = table.to_pylist()
    assert first == {
        "document_id": "d1",
        "source": "in/a.pdf",
        "status": "done",
        "flags": ["repaired"],
        "error.reason": None,
        "error.message": None,
        "prompt": "v1-abc",
        "model": "small",
        "attempts": 2,
        "cost_usd": Decimal("0.000000001"),
        "latency_s": 1.25,
        "trace_id": "0" * 32,
        "data.total": -12.5,
        "data.seller.name": "Größe & Co",
        "data.seller.vat": None,
        "data.lines": '[{"n": 1}]',
    }
    assert second["error.message"] == "=cmd|'/C calc'!A0", "no spreadsheet reads it as a formula"
    assert second["cost_usd"] is None
    assert table.schema.field("cost_usd").type == pa.decimal128(38, 9)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], pa.bool_(), [True, None, False]),
        ([1, 2**62, -5], pa.int64(), [1, 2**62, -5]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([2**60 + 1, 2.5], pa.string(), [str(2**60 + 1), "2.5"]),
        ([2**64, 1], pa.string(), [str(2**64), "1"]),
        (["a", 1, True], pa.string(), ["a", "1", "true"]),
        (["12.30", "=1"], pa.string(), ["12.30", "=1"]),
        ([[1], "x", {}], pa.string(), ["[1]", "x", None]),
        ([None, None], pa.string(), [None, None]),
        (["\ud800"], pa.string(), ["\\ud800"]),
    ],
    ids=str,
)
def test_a_column_has_the_narrowest_type_in_which_no_value_loses_anything(
    values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    table = parquet_of(*[with_data({"a": value}) for value in values])
    assert table.schema.field("data.a").type == kind
    assert table.column("data.a").to_pylist() == expected


@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON_VALUES, max_size=3), max_size=5))
def test_every_value_of_a_parquet_file_reads_back(records: list[dict[str, Any]]) -> None:
    table = parquet_of(*map(with_data, records))
    for record, row in zip(records, table.to_pylist(), strict=True):
        for name, value in record.items():
            found = row[f"data.{name}"]
            assert found == value or json.loads(found) == value


def test_named_columns_are_those_of_the_parquet_file_in_their_order() -> None:
    table = parquet_of(DONE, columns=["seller.name", "nothing", "total"])
    assert table.column_names[-3:] == ["data.seller.name", "data.nothing", "data.total"]
    assert table.column("data.nothing").to_pylist() == [None]


def test_many_rows_come_in_parts_and_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    lines = (with_data({"n": number}) for number in range(5_000))
    assert write_results(lines, path) == 5_000
    assert ParquetFile(path).num_row_groups == 3
    assert read_table(path).column("data.n").to_pylist() == list(range(5_000))

    def broken() -> Iterator[ResultLine]:
        yield DONE
        raise RunnerError("the ledger went away")

    before = path.read_bytes()
    with pytest.raises(RunnerError):
        write_results(broken(), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["out.parquet"]


def test_without_its_extra_a_parquet_file_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.parquet, "find_spec", lambda _: None)
    path = tmp_path / "out.parquet"
    for attempt in (lambda: write_results([DONE], path), lambda: check_target(str(path))):
        with pytest.raises(InputError, match=r"extra `parquet`.*extraction-runner\[parquet\]"):
            attempt()
    assert list(tmp_path.iterdir()) == []
