"""What commands share that ask again for documents that ended: the options, and the price told."""

import click

from runner.cli.commands import together
from runner.cli.confirming import yes_option
from runner.cli.terminal import talk
from runner.cli.wording import usd
from runner.pricing import Estimate

# the values are `models`, `prompt`, `dry_run` and `yes`
again_options = together(
    click.option(
        "--model", "models", multiple=True, help="Ask this model instead; repeated, a ladder."
    ),
    click.option("--prompt", help="Ask with this locked prompt version instead."),
    click.option("--dry-run", is_flag=True, help="Say what it would cost; queue nothing."),
    yes_option,
)


def tell_price(estimate: Estimate) -> None:
    """Say what asking again is to cost, and what of it could not be priced."""
    if estimate.retriable:
        about = "about " if estimate.sampled else ""
        talk(
            f"expected cost {about}{usd(estimate.expected_usd)}, at worst {usd(estimate.worst_usd)}"
        )
    for trouble in estimate.troubles:
        talk(f"not priced: {trouble}")
