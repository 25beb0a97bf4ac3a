"""Which dead letters a command means: the options that say so, and what they find."""

from collections.abc import Sequence
from typing import Any

import click

from runner.cli.commands import together
from runner.cli.lookup import find_document
from runner.cli.session import find_batch
from runner.cli.wording import since_us
from runner.ledger import Ledger
from runner.ledger.deadletters import DeadFilter, DeadLetter, list_dead

# which dead letters are meant: their values make a `DeadFilter`
filter_options = together(
    click.option("--batch", help="Of this batch."),
    click.option("--reason", help="With this reason, such as unparsable or attempts_exhausted."),
    click.option("--since", help="That died since then: 30m, 2h, 3d ago, or a date or time (UTC)."),
    click.option("--grep", help="With this text in the message, in any case."),
    click.option("--limit", type=click.IntRange(min=1), help="At most this many, the newest."),
)


def dead_filter(
    ledger: Ledger, filters: dict[str, Any], documents: Sequence[str] = ()
) -> DeadFilter:
    """The dead letters that these options mean, of these documents alone if any are named."""
    batch, since = filters["batch"], filters["since"]
    return DeadFilter(
        batch_id=None if batch is None else find_batch(ledger, batch).id,
        reason=filters["reason"],
        grep=filters["grep"],
        since_us=None if since is None else since_us(since, now_us=ledger.clock.us()),
        document_ids=tuple(find_document(ledger, one) for one in documents),
        limit=filters["limit"],
    )


def dead_letters(ledger: Ledger, wanted: DeadFilter) -> list[DeadLetter]:
    """The dead letters that are meant, the newest first."""
    with ledger.snapshot() as connection:
        return list_dead(connection, wanted)
