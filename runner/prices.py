"""What each model's tokens cost: by runner.toml, else by the offline list of genai-prices."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version
from typing import Self

from genai_prices import data_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from runner.budget import NUSD_PER_USD, Price
from runner.config import ModelSettings, Settings
from runner.errors import ConfigError

_NUSD_PER_TOKEN = Fraction(NUSD_PER_USD, 1_000_000)  # of one dollar per million tokens
_PRICE_LIFETIME_S = 900  # some providers price by the time of day, on quarter hours at the finest
_SERVICE_TIERS = ("default", "flex", "priority", "fast")  # those that genai-prices distinguishes

_log = logging.getLogger(__name__)


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
