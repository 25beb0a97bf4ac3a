"""The options that say which calls are meant: the same for `calls list` and `calls search`."""

from collections.abc import Mapping
from typing import Any

import click

from runner.budget import usd_to_nusd
from runner.cli.commands import together
from runner.cli.lookup import find_document
from runner.cli.money import Usd
from runner.cli.session import find_batch
from runner.cli.wording import since_us
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.callfilters import CallFilter

# their values make a `CallFilter`
filter_options = together(
    click.option("--job", help="Of batches of this job."),
    click.option("--batch", help="Of this batch."),
    click.option("--document", help="Of this document: id, beginning of the id, or source."),
    click.option("--prompt", help="That asked with this prompt: version, or prompt id."),
    click.option("--model", help="To this model."),
    click.option(
        "--fault",
        "--error",
        "fault",
        help="That failed with this fault, such as rate_limited; `any`: that failed at all.",
    ),
    click.option("--since", help="Made since then: 30m, 2h, 3d ago, or a date or time (UTC)."),
    click.option("--until", help="Made before then."),
    click.option("--min-cost-usd", type=Usd(), help="That cost so much or more, or may have."),
    click.option(
        "--limit",
        type=click.IntRange(1, 10_000),
        default=50,
        show_default=True,
        help="At most this many.",
    ),
)


def wanted_calls(ledger: Ledger, filters: Mapping[str, Any]) -> CallFilter:
    """The filter that was typed. Raises UsageError for a time, batch or document that is none."""
    now_us = ledger.clock.us()
    since, until = (
        None
        if filters[name] is None
        else since_us(filters[name], now_us=now_us, option=f"--{name}")
        for name in ("since", "until")
    )
    if since is not None and until is not None and since >= until:
        raise UsageError("--since is not before --until: no call can be meant")
    batch, document, cost = filters["batch"], filters["document"], filters["min_cost_usd"]
    return CallFilter(
        batch_id=None if batch is None else find_batch(ledger, batch).id,
        document_id=None if document is None else find_document(ledger, document),
        job=filters["job"],
        prompt=filters["prompt"],
        model=filters["model"],
        fault=filters["fault"],
        since_us=since,
        until_us=until,
        min_cost_nusd=None if cost is None else usd_to_nusd(cost),
        limit=filters["limit"],
    )
