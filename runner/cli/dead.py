"""`runner dead`: list, show and export dead letters; retry and purge are in a file of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runner.cli.commands import Command, LazyGroup, json_option
from runner.cli.dead_filters import dead_filter, dead_letters, filter_options
from runner.cli.lookup import find_document
from runner.cli.session import Session, pass_session
from runner.cli.shapes.dead import (
    DeadGroupShape,
    DeadListShape,
    ExportedShape,
    LetterShape,
)
from runner.cli.show import TEXT_CHARS_MAX, look_at, say_document
from runner.cli.tables import Column, say_table
from runner.cli.terminal import json_text, say_json, stdout_lines, talk
from runner.cli.wording import several, short_time, usd
from runner.errors import UsageError
from runner.exporters import STDOUT
from runner.files import write_text
from runner.ledger.deadletters import (
    group_dead,
    list_dead,
)
from runner.model import DocumentState

_HERE = "runner.cli.dead"
_CHANGES = "runner.cli.dead_changes"


@click.group(
    cls=LazyGroup,
    table={
        "list": (_HERE, "list_", "Dead letters, grouped by what went wrong."),
        "show": (_HERE, "show", "One dead letter with its whole history."),
        "retry": (_CHANGES, "retry", "Queue dead letters again, priced first."),
        "purge": (_CHANGES, "purge", "Drop the texts of dead letters."),
        "export": (_HERE, "export_", "Write dead letters as JSON lines."),
    },
)
def dead() -> None:
    """Dead letters: documents that ended without a record, each with its whole history."""


@click.command(
    "list",
    cls=Command,
    example=("runner dead list --batch june", "runner dead list --since 2h --all"),
)
@filter_options
@click.option("--all", "each", is_flag=True, help="One line for each, instead of groups.")
@json_option
@pass_session
def list_(session: Session, /, *, each: bool, as_json: bool, **filters: Any) -> None:
    """List dead letters, grouped by what went wrong; with --all one by one, the newest first."""
    with session.ledger() as ledger:
        wanted = dead_filter(ledger, filters)
        with ledger.snapshot() as connection:
            groups = () if each else tuple(map(DeadGroupShape.of, group_dead(connection, wanted)))
            letters = tuple(map(LetterShape.of, list_dead(connection, wanted))) if each else ()
    if as_json:
        say_json(DeadListShape(groups=groups, letters=letters))
    elif groups:
        _say_groups(groups)
    elif letters:
        _say_letters(letters)
    else:
        talk("no dead letter")


def _say_groups(groups: Sequence[DeadGroupShape]) -> None:
    columns = (
        *(Column("documents", right=True), Column("reason"), Column("what went wrong", folds=True)),
        Column("for example"),
    )
    say_table(
        columns,
        [(one.documents, one.reason, one.signature, one.example_id) for one in groups],
    )
    talk("\n`runner dead show DOCUMENT` tells one's history, `runner dead list --all` names each")


def _say_letters(letters: Sequence[LetterShape]) -> None:
    columns = (
        *(
            Column("document"),
            Column("batch"),
            Column("source", shrinks=True),
            Column("died"),
            Column("reason"),
        ),
        *(Column("calls", right=True), Column("cost", right=True), Column("message", shrinks=True)),
    )
    say_table(
        columns,
        [
            (
                *(one.document_id, one.batch, one.source, short_time(one.finished), one.reason),
                *(one.calls, usd(one.cost_usd), one.message),
            )
            for one in letters
        ],
    )


@click.command("show", cls=Command, example=("runner dead show invoices/0042.pdf",))
@click.argument("document")
@json_option
@pass_session
def show(session: Session, /, *, document: str, as_json: bool) -> None:
    """Show a dead letter: why it died, every call made for it, its text."""
    with session.ledger() as ledger:
        shape = look_at(ledger, find_document(ledger, document))
    if shape.state != DocumentState.DEAD:
        raise UsageError(
            f"document {shape.document_id} is {shape.state}, not dead; "
            f"`runner show {shape.document_id}` shows it"
        )
    if as_json:
        say_json(shape)
    else:
        say_document(shape, text_chars_max=TEXT_CHARS_MAX)


@click.command("export", cls=Command, example=("runner dead export --batch june --out dead.jsonl",))
@filter_options
@click.option("--out", metavar="FILE", default=STDOUT, help="- (the default) is stdout.")
@json_option
@pass_session
def export_(session: Session, /, *, out: str, as_json: bool, **filters: Any) -> None:
    """Write dead letters as JSON lines, the newest first."""
    if as_json and out == STDOUT:
        raise UsageError("the lines on stdout are JSON already: --json goes with --out FILE")
    with session.ledger() as ledger:
        letters = dead_letters(ledger, dead_filter(ledger, filters))
    lines = [json_text(LetterShape.of(one)) for one in letters]
    if out == STDOUT:
        stdout_lines(lines)
        return
    write_text(Path(out), "".join(f"{line}\n" for line in lines))
    if as_json:
        say_json(ExportedShape(file=out, letters=len(lines)))
    else:
        talk(f"{out}: {several(len(lines), 'line')}")
