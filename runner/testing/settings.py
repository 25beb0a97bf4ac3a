"""What the provider can be told: on the command line, and while it runs by /_control."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .book import Prices
from .faults import FaultPlan
from .limits import Limits

EVERY_KEY = "*"


class PriceList(BaseModel):
    """Prices of one model in US dollars per million tokens, as decimal text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_usd_per_mtok: str = "0"
    cached_usd_per_mtok: str | None = None  # None: the input price
    output_usd_per_mtok: str = "0"

    @model_validator(mode="after")
    def _are_numbers(self) -> Self:
        self.prices()
        return self

    def prices(self) -> Prices:
        """The prices to bill with."""
        return Prices.per_mtok(
            input_usd=self.input_usd_per_mtok,
            cached_usd=self.cached_usd_per_mtok,
            output_usd=self.output_usd_per_mtok,
        )


class ProviderSettings(PriceList):
    """How the provider behaves; closed, so that a misspelt name is refused and changes nothing."""

    faults: FaultPlan = FaultPlan()
    latency_ms: float = Field(default=0.0, ge=0)  # median
    latency_sigma: float = Field(default=0.0, ge=0, le=3)  # of its logarithm
    rpm: int | None = Field(default=None, ge=1)  # requests in any `window_s`
    tpm: int | None = Field(default=None, ge=1)  # tokens in any `window_s`
    window_s: float = Field(default=60.0, gt=0)
    limit_headers: bool = True  # whether x-ratelimit-* headers are sent
    retry_after: bool = True  # whether a refusal over the limit says when to come back
    serve_at_once: int | None = Field(default=None, ge=1)  # places; the others wait in line
    batch_slowdown: float = Field(default=0.0, ge=0)  # latency x (1 + this x others being served)
    seed: int = 0  # of the latencies
    streams: bool = True  # else a stream that is asked for comes as one whole answer
    models: tuple[str, ...] = ()  # served; empty: every name is
    gone_models: tuple[str, ...] = ()  # 404 model_not_found
    model_prices: dict[str, PriceList] = Field(default_factory=dict)  # override the common prices
    reasoning_tokens: int = Field(default=0, ge=0)  # of every completion
    context_tokens: int | None = Field(default=None, ge=1)  # longer prompts are refused
    revoked_keys: tuple[str, ...] = ()  # 401; "*" is every key
    quota_out_keys: tuple[str, ...] = ()  # 429 insufficient_quota; "*" is every key

    def limits(self) -> Limits:
        """The rolling window of each (key, model)."""
        return Limits(requests=self.rpm, tokens=self.tpm, window_s=self.window_s)

    def changed(self, changes: dict[str, object]) -> Self:
        """These settings with some replaced. Raises ValueError for an unknown name or bad value."""
        return type(self).model_validate({**self.model_dump(), **changes})

    def healed(self) -> Self:
        """These settings without faults, revoked keys, keys out of money, or gone models."""
        return self.changed(
            {"faults": FaultPlan(), "revoked_keys": (), "quota_out_keys": (), "gone_models": ()}
        )
