"""How an amount of money is typed on the command line."""

from decimal import Decimal, InvalidOperation
from typing import Any

import click

USD_MAX = 1_000_000_000


class Usd(click.ParamType[Decimal]):
    """An amount of US dollars above zero, read exactly."""

    name = "usd"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Parse the amount."""
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal(0)
        if not amount.is_finite() or not 0 < amount <= USD_MAX:
            self.fail(
                f"{value!r} is not an amount of money above 0 and up to a billion, such as 5 or "
                "0.50",
                param,
                ctx,
            )
        return amount
