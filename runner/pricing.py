"""What money is promised before it is spent: the price of running documents again, and limits."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from runner import batches
from runner.budget import nusd_to_usd, usd_to_nusd
from runner.config import Settings
from runner.errors import ConfigError, JobError, UsageError
from runner.ledger import Ledger
from runner.ledger.calls import view_document
from runner.pinned import Pinned, PinnedJobs
from runner.prices import PriceList

SAMPLE_MAX = 100  # texts of a batch that are priced exactly; more are priced by their bytes


class Ended(Protocol):
    """A document that may be run again: a dead letter, or one in review."""

    @property
    def document_id(self) -> str:
        """The document."""

    @property
    def batch_id(self) -> str:
        """Its batch."""

    @property
    def text_bytes(self) -> int:
        """How long its text is."""

    @property
    def has_text(self) -> bool:
        """Whether there is a text to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How many letters matched, how many of them can be retried, and the price of that."""

    matched: int
    without_text: int
    expected_usd: Decimal | None  # None when a price is unknown
    worst_usd: Decimal | None
    sampled: bool
    troubles: tuple[str, ...]  # why some letters could not be priced

    @property
    def retriable(self) -> int:
        """Letters with a text to send."""
        return self.matched - self.without_text


@dataclass(frozen=True, slots=True)
class _Price:
    expected_usd: Decimal | None
    worst_usd: Decimal | None


def price_retry(
    settings: Settings,
    ledger: Ledger,
    letters: Sequence[Ended],
    *,
    prompt: str | None,
    models: tuple[str, ...],
) -> Estimate:
    """Price another run of these documents, batch by batch.

    Raises JobError when the prompt or model that was asked for by name does not exist.
    """
    by_batch: dict[str, list[Ended]] = defaultdict(list)
    for letter in letters:
        if letter.has_text:
            by_batch[letter.batch_id].append(letter)
    jobs = PinnedJobs(settings.job_folders)
    prices: list[_Price] = []
    troubles: list[str] = []
    for batch_id, some in by_batch.items():
        try:
            pinned = _pinned(ledger, jobs, batch_id, prompt=prompt, models=models)
            prices.append(_price(settings, ledger, some, pinned))
        except (JobError, ConfigError) as error:
            if prompt is not None or models:
                raise
            prices.append(_Price(None, None))
            troubles.append(str(error))
    return Estimate(
        matched=len(letters),
        without_text=sum(not letter.has_text for letter in letters),
        expected_usd=_sum([price.expected_usd for price in prices]),
        worst_usd=_sum([price.worst_usd for price in prices]),
        sampled=any(len(some) > SAMPLE_MAX for some in by_batch.values()),
        troubles=tuple(troubles),
    )


def _pinned(
    ledger: Ledger,
    jobs: PinnedJobs,
    batch_id: str,
    *,
    prompt: str | None,
    models: tuple[str, ...],
) -> Pinned:
    batch = batches.get_batch(ledger, batch_id)
    if prompt is not None or models:
        return jobs.live(batch.job, version=prompt, models=models)
    return jobs.of_batch(
        batch.job,
        version=batch.prompt_version,
        expected_id=batch.prompt_id,
        models=batch.models,
    )


def _price(settings: Settings, ledger: Ledger, letters: Sequence[Ended], pinned: Pinned) -> _Price:
    step = -(-len(letters) // SAMPLE_MAX)
    sample = letters[::step]
    with ledger.snapshot() as connection:
        texts = [view_document(connection, one.document_id).text for one in sample]
    found = batches.forecast(pinned, texts, settings=settings, prices=PriceList(settings))
    if found.expected_usd is None or found.worst_usd is None:
        return _Price(None, None)
    all_bytes = sum(one.text_bytes for one in letters)
    share = Decimal(all_bytes) / max(1, sum(one.text_bytes for one in sample))
    return _Price(_scaled(found.expected_usd, share), _scaled(found.worst_usd, share))


def _scaled(amount_usd: Decimal, share: Decimal) -> Decimal:
    return nusd_to_usd(usd_to_nusd(amount_usd * share))


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def refuse_unknown_prices(settings: Settings, models: tuple[str, ...], *, limit: str) -> None:
    """Raise UsageError for a model whose price nobody knows: keeping `limit` would be a guess."""
    prices = PriceList(settings)
    for model in models:
        if prices.price(model) is None:
            raise UsageError(
                f"no price is known for model {model}, so a budget cannot be kept: set "
                f'input_usd_per_mtok and output_usd_per_mtok under [models."{model}"] '
                f"in runner.toml, or leave {limit} out"
            )
