"""Writes a batch's results to a file or to stdout, and counts what a person should know of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

from runner.batches import result_lines
from runner.cli.terminal import escaped_json, stdout_lines
from runner.errors import InputError
from runner.exporters import FORMATS, STDOUT, ResultLine, json_line, write_results
from runner.ledger import Ledger
from runner.ledger.submission import Batch
from runner.parquet import require_parquet


@dataclass(slots=True)
class Exported:
    """What was written."""

    lines: int = 0
    flags: Counter[str] = field(default_factory=Counter)


def check_target(out: str) -> None:
    """Refuse a result file that could not be written later, before anything is paid for it.

    Raises InputError.
    """
    if out == STDOUT:
        return
    path = Path(out)
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{out}: unknown result format {path.suffix!r}; known are {' '.join(FORMATS)}"
        )
    if path.suffix.lower() == ".parquet":
        require_parquet()
    if path.is_dir():
        raise InputError(f"{out} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"{out}: the folder {path.absolute().parent} does not exist; make it first"
        )
    try:
        with NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from error


def export(ledger: Ledger, batch: Batch, out: str) -> Exported:
    """Write one line a source: to a file whole or not at all, to stdout (`-`) as JSON lines.

    Raises InputError for a path that cannot be used, RunnerError when writing fails.
    """
    exported = Exported()
    lines = _counted(result_lines(ledger, batch), exported)
    if out == STDOUT:
        # a terminal may be behind it: equal JSON, but nothing in it that a terminal obeys
        stdout_lines(escaped_json(json_line(line)) for line in lines)
    else:
        write_results(lines, Path(out))
    return exported


def _counted(lines: Iterator[ResultLine], exported: Exported) -> Iterator[ResultLine]:
    for line in lines:
        exported.lines += 1
        exported.flags.update(line.flags)
        yield line
