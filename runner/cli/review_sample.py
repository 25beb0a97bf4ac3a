"""`runner review sample` and `gold`: what is to be audited, and what the audits confirmed."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli.commands import Command, json_option
from runner.cli.review_estimate import batch_argument, job_option, scope_of
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.review import GoldLine, GoldShape, SampleShape
from runner.cli.terminal import json_text, say, say_json, stdout_lines, talk
from runner.cli.wording import several
from runner.errors import UsageError
from runner.exporters import STDOUT
from runner.files import whole_file
from runner.ledger import Ledger
from runner.ledger.confirmed import confirmed
from runner.ledger.sampling import add_to_sample, draw
from runner.ledger.strata import Scope


@click.command("sample", cls=Command, example=("runner review sample june --percent 2",))
@click.argument("batch")
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, min_open=True),
    required=True,
    help="This share of the done documents.",
)
@json_option
@pass_session
def sample(session: Session, /, *, batch: str, percent: float, as_json: bool) -> None:
    """Draw done documents of a batch at random, for a person to audit.

    By a hash of their texts: drawing again draws the same ones, a larger share adds to them. What a
    person has decided on is left out. `audit_percent` of the job, or under [review] in runner.toml,
    draws while documents are done.
    """
    with session.ledger() as ledger:
        found = find_batch(ledger, batch)
        with ledger.snapshot() as connection:
            drawn = draw(connection, found.id, percent=percent)
        with ledger.transaction() as connection:
            added = add_to_sample(connection, drawn.new_ids)
    shape = SampleShape(
        batch=found.name,
        percent=percent,
        done=drawn.done,
        added=added,
        in_sample=drawn.in_sample + added,
    )
    if as_json:
        say_json(shape)
        return
    say(f"drawn {added:,}")
    talk(
        f"of {several(shape.done, 'done document')} of {found.name} that nobody has decided on "
        f"{shape.in_sample:,} are in the sample: "
        f"`runner review list {shlex.quote(found.name)} --sampled`"
    )


@click.command(
    "gold",
    cls=Command,
    example=(
        "runner review gold june --out candidates.jsonl",
        "runner review gold --job invoice | jq .expected",
    ),
)
@batch_argument
@job_option
@click.option("--out", metavar="FILE", default=STDOUT, help="- (the default) is stdout.")
@json_option
@pass_session
def gold(
    session: Session, /, *, batch: str | None, job: str | None, out: str, as_json: bool
) -> None:
    """Write accepted and corrected records, with their texts, as candidates for gold data.

    One line of JSON for each text, the newest decision first: id, text, expected, tags. Look at
    them before they join a job's gold.jsonl: whoever accepts in haste confirms mistakes.
    """
    if as_json and out == STDOUT:
        raise UsageError("the lines on stdout are JSON already: --json goes with --out FILE")
    with session.ledger() as ledger:
        scope, _ = scope_of(ledger, batch, job)
        if out == STDOUT:
            stdout_lines(_lines(ledger, scope))
            return
        count = 0
        with whole_file(Path(out)) as stream:
            for line in _lines(ledger, scope):
                stream.write(f"{line}\n".encode())
                count += 1
    if as_json:
        say_json(GoldShape(file=out, candidates=count))
    else:
        talk(f"{out}: {several(count, 'candidate')}")


def _lines(ledger: Ledger, scope: Scope) -> Iterator[str]:
    with ledger.snapshot() as connection:
        for one in confirmed(connection, scope):
            yield json_text(
                GoldLine(id=one.document_id, text=one.text, expected=json.loads(one.data_json))
            )
