"""`runner results`: writes what a batch has given so far."""

import click

from runner import batches
from runner.cli.commands import Command, json_option
from runner.cli.export import check_target, export
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.batches import ResultsShape
from runner.cli.terminal import say_json, talk
from runner.cli.wording import several
from runner.errors import UsageError
from runner.exporters import STDOUT


@click.command(
    cls=Command,
    example=("runner results june --out june.csv", "runner results june | jq .data"),
)
@click.argument("batch")
@click.option(
    "--out",
    metavar="FILE",
    default=STDOUT,
    help=".jsonl, .csv or .parquet; - (the default) is stdout.",
)
@json_option
@pass_session
def results(session: Session, /, *, batch: str, out: str, as_json: bool) -> None:
    """Write one line a source, ended or not, in the order of submission.

    The file appears, or replaces an older one, when it is complete. Cost and attempts stand on a
    document's first source only, so that they add up. On stdout the lines are JSON.
    """
    check_target(out)
    if as_json and out == STDOUT:
        raise UsageError("the lines on stdout are JSON already: --json goes with --out FILE")
    with session.ledger() as ledger:
        found = find_batch(ledger, batch)
        standing = batches.standing(ledger, found)
        exported = export(ledger, found, out)
    if standing.open:
        talk(f"{several(standing.open, 'document')} of {found.name} had not ended yet")
    if as_json:
        say_json(
            ResultsShape(batch=found.name, file=out, lines=exported.lines, unfinished=standing.open)
        )
    elif out != STDOUT:
        talk(f"{out}: {several(exported.lines, 'line')}")
