"""Write, or with --check compare, the parts of the pages that come from the code.

Between `<!-- NAME -->` and `<!-- end -->` stand: `failures` (the failure table) and `json` (what
each command prints with --json) in ARCHITECTURE.md, `commands` in README.md.
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
from pydantic import BaseModel

from runner.batches import Forecast, Summary
from runner.cli import command_line, shapes
from runner.cli.shapes.base import Shape
from runner.exporters import ResultLine
from runner.retry import describe

ROOT = Path(__file__).resolve().parent.parent


def json_table() -> str:
    """Keys of every command's --json, in the order of the code."""
    own = [shape for module in _shape_modules() for shape in _shapes_of(module)]
    rows: list[tuple[str, type[BaseModel]]] = [
        ("`run`: the summary", Summary),
        ("`run --dry-run`", Forecast),
        ("a result line (`run`, `results`)", ResultLine),
        *(((inspect.getdoc(shape) or "").splitlines()[0].rstrip("."), shape) for shape in own),
    ]
    lines = ["| what | keys |", "|---|---|"]
    lines += [
        f"| {what} | {', '.join(f'`{key}`' for key in of.model_fields)} |" for what, of in rows
    ]
    return "\n".join(lines) + "\n"


def _shape_modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(shapes.__path__):
        yield importlib.import_module(f"{shapes.__name__}.{found.name}")


def _shapes_of(module: ModuleType) -> list[type[BaseModel]]:
    """The shapes that a module defines, in its order."""
    own = [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Shape) and found is not Shape and found.__module__ == module.__name__
    ]
    return sorted(own, key=lambda shape: inspect.getsourcelines(shape)[1])


def command_table() -> str:
    """Every command with the first sentence of its help."""
    context = click.Context(command_line, info_name="runner")
    lines = ["| command | does |", "|---|---|"]
    for name in command_line.list_commands(context):
        command = command_line.get_command(context, name)
        assert command is not None
        names = [name]
        if isinstance(command, click.Group):
            names = [f"{name} {sub}" for sub in command.list_commands(context)]
        for full in names:
            found = command
            if " " in full:
                assert isinstance(command, click.Group)
                sub = command.get_command(context, full.split()[1])
                assert sub is not None
                found = sub
            text = " ".join(inspect.cleandoc(found.help or "").split("\n\n")[0].split())
            lines.append(f"| `runner {full}` | {text} |")
    return "\n".join(lines) + "\n"


PARTS = {
    "ARCHITECTURE.md": {"failures": describe, "json": json_table},
    "README.md": {"commands": command_table},
}


def filled(page: str, part: str, content: str) -> str:
    """The page with this content in its place. Raises SystemExit when there is no such place."""
    place = re.search(rf"<!-- {part} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    if place is None:
        raise SystemExit(f"no page has a place for {part}")
    return page[: place.start(1)] + content + page[place.end(1) :]


def main() -> None:
    """Exit 1 with --check when a page differs from the code."""
    stale = []
    for name, parts in PARTS.items():
        page = ROOT / name
        text = now = page.read_text(encoding="utf-8")
        for part, make in parts.items():
            now = filled(now, part, make())
        if now != text:
            stale.append(name)
            if "--check" not in sys.argv:
                page.write_text(now, encoding="utf-8")
    if stale and "--check" in sys.argv:
        raise SystemExit(f"{', '.join(stale)}: not what the code says; run scripts/docs.py")


if __name__ == "__main__":
    main()
