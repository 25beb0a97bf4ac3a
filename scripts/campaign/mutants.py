"""`scripts/mutants`: plants each bug of tests/mutants.toml in a copy, where its tests must fail."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "mutants.toml"
LEFT_OUT = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", ".runner")
TESTS_FAILED = 1  # the exit code of pytest; others mean that the tests could not be run at all
RUN_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: `old` stands exactly once in `file`, and `tests` are to notice `new` in its place."""

    name: str
    harm: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted(self, text: str) -> str:
        """The file with the bug. Raises ValueError when `old` is not there exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: its old text stands {count} times in {self.file}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests said of a mutant; `words` are their last ones."""

    mutant: Mutant
    caught: bool
    words: str
    seconds: float


def read_mutants() -> list[Mutant]:
    """The list, in its order."""
    tables = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [
        Mutant(
            name=name,
            harm=table["harm"],
            file=table["file"],
            old=table["old"],
            new=table["new"],
            tests=tuple(table["tests"]),
        )
        for name, table in tables.items()
    ]


def try_mutant(mutant: Mutant) -> Verdict:
    """Run its tests over a copy of the tree with the bug in it."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        there = copy / mutant.file
        there.write_text(mutant.planted(there.read_text(encoding="utf-8")), encoding="utf-8")
        code, words = _run_tests(copy, mutant.tests)
    return Verdict(mutant, code == TESTS_FAILED, words, time.monotonic() - began_s)


def _run_tests(tree: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """The exit code, None when time ran out, and the last line."""
    options = ("-x", "-p", "no:randomly", "--no-header", "--tb=no", "--hypothesis-profile=unshrunk")
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},  # before the path file of this venv
            capture_output=True,
            text=True,
            timeout=RUN_MAX_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no end within {RUN_MAX_S:g} s"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return done.returncode, (lines or [done.stderr.strip()[-200:]])[-1]


@click.command(context_settings={"max_content_width": 100})
@click.option("--only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--list", "as_list", is_flag=True, help="Name the planted bugs and what they harm.")
@click.option("--at-once", type=int, default=2, show_default=True, help="Trees at the same time.")
def main(*, only: Sequence[str], as_list: bool, at_once: int) -> None:
    """Plant bugs one by one and see that the tests notice each: a test of the tests.

    Exit code 0: every bug was caught. 1: one survived, or its tests could not be run.
    """
    mutants = [one for one in read_mutants() if not only or one.name in only]
    if not mutants:
        raise click.UsageError(f"no planted bug is called {', '.join(only)}; see --list")
    if as_list:
        for one in mutants:
            click.echo(f"{one.name}: {one.harm} ({one.file})")
        return
    with ThreadPoolExecutor(at_once) as pool:
        verdicts = list(pool.map(_try_and_tell, mutants))
    table = Table("planted bug", "caught", "seconds", "its tests said")
    for verdict in verdicts:
        caught = "yes" if verdict.caught else "NO"
        table.add_row(verdict.mutant.name, caught, f"{verdict.seconds:.0f}", verdict.words)
    Console().print(table)
    count = sum(verdict.caught for verdict in verdicts)
    click.echo(f"caught {count} of {len(verdicts)}")
    sys.exit(0 if count == len(verdicts) else 1)


def _try_and_tell(mutant: Mutant) -> Verdict:
    verdict = try_mutant(mutant)
    click.echo(f"{mutant.name}: {'caught' if verdict.caught else 'SURVIVED'}", err=True)
    return verdict


if __name__ == "__main__":
    main()
