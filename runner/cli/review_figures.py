"""`runner review sample`: an audit of what the runner is sure of."""

import click

from runner.cli.commands import Command, json_option
from runner.cli.session import Session, find_batch, pass_session
from runner.cli.shapes.review import SampleShape
from runner.cli.terminal import say, say_json, talk
from runner.cli.wording import several
from runner.ledger.sampling import add_to_sample, draw


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
        f"{shape.in_sample:,} are in the sample: `runner review list {found.name} --sampled`"
    )
