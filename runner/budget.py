"""What a call costs and how much to set aside for it: pure, exact, in integer nano-dollars."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from importlib.metadata import version
from math import ceil
from typing import Self

from genai_prices import data_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from runner.config import ModelSettings, Settings
from runner.errors import ConfigError
from runner.model import Usage

NUSD_PER_USD = 1_000_000_000
_NUSD_PER_TOKEN = Fraction(NUSD_PER_USD, 1_000_000)  # of one dollar per million tokens
_PRICE_LIFETIME_S = 900  # some providers price by the time of day, on quarter hours at the finest
_SERVICE_TIERS = ("default", "flex", "priority", "fast")  # those that genai-prices distinguishes
_DISPLAY_DIGITS = 3

_log = logging.getLogger(__name__)


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


class PriceList:
    """The price of every model of one set of settings.

    Order: `server = "local"` is free; then the prices in runner.toml; then the offline list of
    genai-prices, by the provider behind the base URL, or by the model's name alone when that URL is
    no provider's own (a proxy). The resolved entry is logged once, because names match fuzzily.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._known: dict[str, tuple[int, Price | None]] = {}

    def price(self, model: str) -> Price | None:
        """The price of a model as runner.toml names it, or None when nobody knows it.

        Looked up anew every quarter of an hour, as some prices depend on the time of day; a call
        that spans such a change is settled at the price of its settlement.
        Raises ConfigError when runner.toml gives only some of the prices of a model.
        """
        now = self._clock()
        slot = int(now.timestamp()) // _PRICE_LIFETIME_S
        cached_slot, price = self._known.get(model, (None, None))
        if cached_slot != slot:
            price = self._look_up(model, now)
            if model not in self._known:
                _log.info("price of %s: %s", model, price.source if price else "unknown")
            self._known[model] = (slot, price)
        return price

    def _look_up(self, model: str, now: datetime) -> Price | None:
        of_model = self._settings.model(model)
        if of_model.server == "local":
            return _flat(input_=Fraction(0), cached=Fraction(0), output=Fraction(0), source="local")
        configured = _configured(model, of_model)
        if configured is not None:
            return configured
        found = _find(of_model.api_model or model, self._settings.base_url(model))
        return _listed(*found, now=now) if found else None


def _flat(*, input_: Fraction, cached: Fraction, output: Fraction, source: str) -> Price:
    return Price(
        input_nusd_per_token=input_,
        cached_nusd_per_token=cached,
        output_nusd_per_token=output,
        source=source,
    )


def _configured(model: str, of_model: ModelSettings) -> Price | None:
    """The prices of runner.toml; cached input costs as much as any other unless it says so."""
    input_, cached = of_model.input_usd_per_mtok, of_model.cached_usd_per_mtok
    output = of_model.output_usd_per_mtok
    if input_ is None and cached is None and output is None:
        return None
    if input_ is None or output is None:
        raise ConfigError(
            f"model {model}: runner.toml gives only some of its prices; "
            "set both input_usd_per_mtok and output_usd_per_mtok, or none of them"
        )
    return _flat(
        input_=_per_token(Decimal(str(input_))),
        cached=_per_token(Decimal(str(input_ if cached is None else cached))),
        output=_per_token(Decimal(str(output))),
        source="runner.toml",
    )


def _per_token(usd_per_mtok: Decimal) -> Fraction:
    return Fraction(usd_per_mtok) * _NUSD_PER_TOKEN


def _find(api_model: str, base_url: str) -> tuple[Provider, ModelInfo] | None:
    """The entry of the offline list, or None.

    A known provider that does not list the model settles it: another one's price would be a guess.
    """
    snapshot = data_snapshot.get_snapshot()
    try:
        provider: Provider | None = snapshot.find_provider(None, None, base_url)
    except LookupError:
        provider = None
    try:
        return snapshot.find_provider_model(api_model, provider, None, None)
    except LookupError:
        return None


def _listed(provider: Provider, model: ModelInfo, *, now: datetime) -> Price | None:
    source = f"genai-prices {version('genai-prices')}: {provider.id}/{model.id}"
    standard = _Listed.read(model.get_prices(now), source)
    if standard is None:
        return None
    tiers = {
        name: _Listed.read(model.get_prices(now, {"service_tier": name}), source)
        for name in _SERVICE_TIERS
    }
    return standard.price(
        service_tiers={
            name: tier.price() for name, tier in tiers.items() if tier and tier != standard
        }
    )


_Rate = Decimal | TieredPrices


@dataclass(frozen=True, slots=True)
class _Listed:
    """The four text rates of one entry of genai-prices: plain, cached and written input, output."""

    rates: tuple[_Rate, _Rate, _Rate, _Rate]
    source: str

    @classmethod
    def read(cls, listed: ModelPrice, source: str) -> Self | None:
        """The rates, or None when the entry does not price both input and output text."""
        input_, output = listed.input_mtok, listed.output_mtok
        if input_ is None or output is None:
            return None
        cached, written = listed.cache_read_mtok, listed.cache_write_mtok
        return cls(
            (
                input_,
                input_ if cached is None else cached,
                input_ if written is None else written,
                output,
            ),
            source,
        )

    def price(self, *, service_tiers: Mapping[str, Price] | None = None) -> Price:
        """These rates as a price, with one step for each input length at which any changes."""
        starts = sorted(
            {
                step.start
                for rate in self.rates
                if isinstance(rate, TieredPrices)
                for step in rate.tiers
            }
        )
        return self._at(
            0,
            above=tuple((start, self._at(start + 1)) for start in starts),
            service_tiers=service_tiers or {},
        )

    def _at(
        self,
        input_tokens: int,
        *,
        above: tuple[tuple[int, Price], ...] = (),
        service_tiers: Mapping[str, Price] | None = None,
    ) -> Price:
        plain, cached, written, output = (
            _per_token(_rate_at(rate, input_tokens)) for rate in self.rates
        )
        return Price(
            input_nusd_per_token=plain,
            cached_nusd_per_token=cached,
            cache_write_nusd_per_token=written,
            output_nusd_per_token=output,
            source=self.source,
            above=above,
            service_tiers=service_tiers or {},
        )


def _rate_at(rate: _Rate, input_tokens: int) -> Decimal:
    if isinstance(rate, Decimal):
        return rate
    steps = (step.price for step in reversed(rate.tiers) if input_tokens > step.start)
    return next(steps, rate.base)
