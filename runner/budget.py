"""What a call costs and how much to set aside for it: pure, exact, in integer nano-dollars."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from math import ceil

from runner.config import Settings
from runner.model import Usage

NUSD_PER_USD = 1_000_000_000
_DISPLAY_DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost, exactly, in nano-dollars a token.

    `above` are the prices that replace these for a whole call whose input is longer than that
    many tokens, ascending. `service_tiers` are those that replace these when the answer names
    that tier. Covered are text tokens only: no audio, images, tool or search fees, no rebate of a
    batch endpoint or a contract.
    """

    input_nusd_per_token: Fraction
    cached_nusd_per_token: Fraction
    output_nusd_per_token: Fraction
    source: str
    cache_write_nusd_per_token: Fraction | None = None  # None: as plain input
    above: tuple[tuple[int, "Price"], ...] = ()
    service_tiers: Mapping[str, "Price"] = field(default_factory=dict)

    def of_call(self, *, input_tokens: int, service_tier: str | None) -> "Price":
        """The price that holds for one call; an unknown service tier is priced as the standard."""
        price = self.service_tiers.get(service_tier, self) if service_tier else self
        return next(
            (dearer for start, dearer in reversed(price.above) if input_tokens > start), price
        )

    def reachable(self, *, input_tokens: int, service_tier: str | None) -> Iterator["Price"]:
        """Every price that a call of at most `input_tokens` could be billed at."""
        if service_tier is None:
            bases = (self, *self.service_tiers.values())
        else:
            bases = (self, self.service_tiers.get(service_tier, self))
        for base in bases:
            yield base
            yield from (dearer for start, dearer in base.above if input_tokens > start)

    @property
    def written_nusd_per_token(self) -> Fraction:
        """The price of an input token that is written to the provider's cache."""
        if self.cache_write_nusd_per_token is None:
            return self.input_nusd_per_token
        return self.cache_write_nusd_per_token

    @property
    def dearest_input_nusd_per_token(self) -> Fraction:
        """The most that an input token can cost, cached, written or plain."""
        return max(
            self.input_nusd_per_token, self.cached_nusd_per_token, self.written_nusd_per_token
        )


def cost_nusd(price: Price, usage: Usage) -> int:
    """What a call cost, exactly, rounded half-even to whole nano-dollars once, at the end.

    cost = plain·input + cached·cached price + written·cache-write price + output·output price,
    where plain = input_tokens - cached - written, cached and written are parts of the input (what
    exceeds it is ignored), and output includes reasoning. The prices are those of the answer's
    service tier and of the whole input's length.
    """
    rate = price.of_call(input_tokens=usage.input_tokens, service_tier=usage.service_tier)
    cached_tokens = min(usage.cached_tokens, usage.input_tokens)
    written_tokens = min(usage.cache_write_tokens, usage.input_tokens - cached_tokens)
    plain_tokens = usage.input_tokens - cached_tokens - written_tokens
    return round(
        plain_tokens * rate.input_nusd_per_token
        + cached_tokens * rate.cached_nusd_per_token
        + written_tokens * rate.written_nusd_per_token
        + usage.output_tokens * rate.output_nusd_per_token
    )


def hold_nusd(
    price: Price,
    *,
    input_tokens_bound: int,
    max_output_tokens: int,
    service_tier: str | None = None,
) -> int:
    """The most that a call within both bounds can cost, rounded up: what to set aside for it.

    Every input token counts at the dearest input price. `service_tier` is what the request asks
    for: the hold covers that tier and the standard one it may fall back to. None means that the
    request leaves it to the provider's project settings, so the dearest known tier counts.
    """
    return max(
        ceil(
            input_tokens_bound * rate.dearest_input_nusd_per_token
            + max_output_tokens * rate.output_nusd_per_token
        )
        for rate in price.reachable(input_tokens=input_tokens_bound, service_tier=service_tier)
    )


def ceiling_nusd(
    own_usd: float | None, settings: Settings, *, frozen_usd: Decimal | None = None
) -> int | None:
    """The most that a document may cost, or None where nothing limits it.

    Its job's own ceiling, else the general one of runner.toml, else the one that was frozen with
    its prompt version.
    """
    by_settings_usd = settings.budget.document_usd
    amounts = (own_usd, by_settings_usd, frozen_usd)
    usd = next((amount for amount in amounts if amount is not None), None)
    return None if usd is None else usd_to_nusd(usd)


def day_budget_nusd(settings: Settings) -> int | None:
    """What all batches together may spend on one UTC day by the settings, in nano-dollars."""
    day_usd = settings.budget.day_usd
    return None if day_usd is None else usd_to_nusd(day_usd)


def usd_to_nusd(usd: Decimal | str | float) -> int:
    """Dollars to whole nano-dollars, half-even; a float counts as the decimal it prints as.

    Raises ValueError when `usd` is not a finite number.
    """
    amount = Decimal(str(usd))
    if not amount.is_finite():
        raise ValueError(f"{usd} is not an amount of money; give a number of US dollars")
    return round(Fraction(amount) * NUSD_PER_USD)


def nusd_to_usd(nusd: int) -> Decimal:
    """Nano-dollars to dollars, exactly, with nine decimals."""
    sign, digits = int(nusd < 0), tuple(int(digit) for digit in str(abs(nusd)))
    return Decimal((sign, digits, -9))


def format_usd(nusd: int) -> str:
    """An amount for a person, such as `4.98 USD`.

    Less than a dollar has three significant digits (`0.000123 USD`), and at least two decimals.
    """
    usd = nusd_to_usd(nusd)
    exponent = -2 if abs(usd) >= 1 or not usd else usd.adjusted() - (_DISPLAY_DIGITS - 1)
    rounded = usd.quantize(Decimal(1).scaleb(max(exponent, -9)), rounding=ROUND_HALF_EVEN)
    whole, _, decimals = f"{rounded:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')} USD"
