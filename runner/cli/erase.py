"""`runner erase`: removes all that a document's content said, wherever it was written."""

import shlex
from collections.abc import Sequence

import click

from runner.cli.commands import Command, json_option
from runner.cli.confirming import confirm, yes_option
from runner.cli.lookup import find_document
from runner.cli.session import Session, pass_session
from runner.cli.shapes.retention import ErasedDocumentShape, ErasedShape
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several, usd
from runner.errors import UsageError
from runner.ledger.erasing import Sharer, sharers
from runner.retention import erase as erase_documents


@click.command(
    cls=Command,
    example=("runner erase letters/0042.pdf", "runner erase dk3x7q --names-too --yes"),
)
@click.argument("document")
@click.option("--names-too", is_flag=True, help="Also the names of their sources (paths, row ids).")
@yes_option
@json_option
@pass_session
def erase(session: Session, /, *, document: str, names_too: bool, yes: bool, as_json: bool) -> None:
    """Remove a content's text, answers, data and messages from every document that has it.

    Every document with the same content is listed first. Costs, times and ids stay; results say
    `erased`. What had not ended ends as a dead letter, and nothing of it can be retried. Refused
    while one of them is being called.
    """
    with session.ledger() as ledger:
        document_id = find_document(ledger, document)
        with ledger.snapshot() as connection:
            found = sharers(connection, document_id)
        shapes = tuple(map(ErasedDocumentShape.of, found))
        if not as_json:
            _say_documents(shapes)
        _refuse_live(found)
        confirm(_question(found, names_too=names_too), yes=yes)
        ids = [one.document_id for one in found]
        erase_documents(ledger, session.settings.home, ids, names_too=names_too)
        on_server = not ledger.is_sqlite
    if as_json:
        say_json(ErasedShape(erased=len(shapes), names_too=names_too, documents=shapes))
    else:
        say(f"erased {several(len(shapes), 'document')}")
    talk("files outside the home are not touched: results that were written, inputs, gold.jsonl")
    if on_server:
        talk("PostgreSQL keeps what was changed in its write-ahead log and in backups for a while")


def _say_documents(shapes: Sequence[ErasedDocumentShape]) -> None:
    columns = (
        *(Column("document"), Column("batch"), Column("state"), Column("calls", right=True)),
        *(Column("cost", right=True), Column("sources", shrinks=True)),
    )
    say_table(
        columns,
        [
            (
                *(one.document_id, one.batch, "erased" if one.erased_before else one.state),
                *(one.calls, usd(one.cost_usd), ", ".join(one.sources)),
            )
            for one in shapes
        ],
    )


def _refuse_live(found: Sequence[Sharer]) -> None:
    """Before anybody is asked; looked at once more when it is done."""
    for one in found:
        if one.is_live:
            raise UsageError(
                f"document {one.document_id} of {one.batch_name} is being called, or its answer is "
                f"about to be read: `runner batch pause {shlex.quote(one.batch_name)}` lets no "
                "further call begin; erase it when it has ended"
            )


def _question(found: Sequence[Sharer], *, names_too: bool) -> str:
    names = ", with the names of their sources" if names_too else ""
    return f"erase {several(len(found), 'document')} for good{names}?"
