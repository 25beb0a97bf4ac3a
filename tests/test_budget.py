"""Money: exact nano-dollar arithmetic, holds that cover their calls, and where prices are from."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.budget import Price, cost_nusd, format_usd, hold_nusd, nusd_to_usd, usd_to_nusd
from runner.config import ModelSettings, Settings
from runner.errors import ConfigError
from runner.model import Usage
from runner.prices import PriceList

WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


def prices_of(when: datetime = WHEN, /, **models: ModelSettings) -> PriceList:
    named = {name.replace("_", "-"): of_model for name, of_model in models.items()}
    return PriceList(Settings(home=Path("home"), models=named), clock=lambda: when)


def price_of(
    *, input_: str = "150", cached: str = "75", written: str | None = None, output: str = "600"
) -> Price:
    return Price(
        input_nusd_per_token=Fraction(input_),
        cached_nusd_per_token=Fraction(cached),
        cache_write_nusd_per_token=None if written is None else Fraction(written),
        output_nusd_per_token=Fraction(output),
        source="test",
    )


rates = st.decimals(0, 200_000, places=4).map(Fraction)
flat_prices = st.builds(
    Price,
    input_nusd_per_token=rates,
    cached_nusd_per_token=rates,
    output_nusd_per_token=rates,
    cache_write_nusd_per_token=st.none() | rates,
    source=st.just("test"),
)
stepped_prices = st.builds(
    lambda price, steps: replace(price, above=tuple(sorted(steps.items(), key=lambda s: s[0]))),
    flat_prices,
    st.dictionaries(st.integers(0, 300_000), flat_prices, max_size=3),
)
prices = st.builds(
    lambda price, tiers: replace(price, service_tiers=tiers),
    stepped_prices,
    st.dictionaries(st.sampled_from(["flex", "priority"]), stepped_prices),
)
tokens = st.integers(0, 400_000)
tier_names = st.sampled_from([None, "default", "flex", "priority", "unheard-of"])
usages = st.builds(
    Usage,
    input_tokens=tokens,
    cached_tokens=tokens,
    cache_write_tokens=tokens,
    output_tokens=tokens,
    reasoning_tokens=tokens,
    service_tier=tier_names,
)


@st.composite
def possible_usages(draw: st.DrawFn) -> Usage:
    """Usages of which the parts of the input are no more than the input."""
    usage = draw(usages)
    cached_tokens = draw(st.integers(0, usage.input_tokens))
    cache_write_tokens = draw(st.integers(0, usage.input_tokens - cached_tokens))
    return replace(usage, cached_tokens=cached_tokens, cache_write_tokens=cache_write_tokens)


def usual(price: Price, some: list[Fraction]) -> Price:
    """This price with cached input no dearer than input, and written input no cheaper."""
    cached, input_, written = sorted(some)
    return replace(
        price,
        cached_nusd_per_token=cached,
        input_nusd_per_token=input_,
        cache_write_nusd_per_token=None if price.cache_write_nusd_per_token is None else written,
    )


usual_prices = st.builds(usual, flat_prices, st.lists(rates, min_size=3, max_size=3))


@given(prices, usages, st.integers(0, 1000), st.integers(0, 1000))
def test_a_hold_covers_every_call_within_its_bounds(
    price: Price, usage: Usage, input_slack: int, output_slack: int
) -> None:
    hold = hold_nusd(
        price,
        input_tokens_bound=usage.input_tokens + input_slack,
        max_output_tokens=usage.output_tokens + output_slack,
    )
    assert 0 <= cost_nusd(price, usage) <= hold


@given(price=prices, usage=usages, asked=tier_names, as_asked=st.booleans())
def test_a_hold_for_a_named_tier_covers_that_tier_and_the_fall_back_to_standard(
    price: Price, usage: Usage, asked: str | None, *, as_asked: bool
) -> None:
    if as_asked or usage.service_tier not in {None, "default"}:
        usage = replace(usage, service_tier=asked)
    hold = hold_nusd(
        price,
        input_tokens_bound=usage.input_tokens,
        max_output_tokens=usage.output_tokens,
        service_tier=asked,
    )
    assert cost_nusd(price, usage) <= hold


@given(usual_prices, possible_usages(), st.integers(0, 1000), st.integers(0, 1000))
def test_more_tokens_never_cost_less(
    price: Price, usage: Usage, more_in: int, more_out: int
) -> None:
    more = replace(
        usage,
        input_tokens=usage.input_tokens + more_in,
        output_tokens=usage.output_tokens + more_out,
    )
    assert cost_nusd(price, more) >= cost_nusd(price, usage)


@given(flat_prices, possible_usages())
def test_the_cost_is_the_exact_sum_rounded_once_half_even(price: Price, usage: Usage) -> None:
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    exact = (
        plain * price.input_nusd_per_token
        + usage.cached_tokens * price.cached_nusd_per_token
        + usage.cache_write_tokens * price.written_nusd_per_token
        + usage.output_tokens * price.output_nusd_per_token
    )
    cost = cost_nusd(price, usage)
    assert abs(cost - exact) <= Fraction(1, 2)
    assert abs(cost - exact) < Fraction(1, 2) or cost % 2 == 0


def test_cached_tokens_are_a_cheaper_part_of_the_input_and_reasoning_a_part_of_the_output() -> None:
    usage = Usage(input_tokens=1000, cached_tokens=400, output_tokens=50, reasoning_tokens=30)
    assert cost_nusd(price_of(), usage) == 600 * 150 + 400 * 75 + 50 * 600


def test_tokens_written_to_the_cache_have_their_own_price_where_there_is_one() -> None:
    usage = Usage(input_tokens=1000, cached_tokens=100, cache_write_tokens=200)
    assert cost_nusd(price_of(written="300"), usage) == 700 * 150 + 100 * 75 + 200 * 300
    assert cost_nusd(price_of(), usage) == 900 * 150 + 100 * 75


def test_more_cached_tokens_than_input_are_not_billed() -> None:
    usage = Usage(input_tokens=10, cached_tokens=50, cache_write_tokens=50)
    assert cost_nusd(price_of(), usage) == 10 * 75


def test_half_a_nano_dollar_rounds_to_even_in_a_cost_and_up_in_a_hold() -> None:
    price = price_of(input_="0.5", cached="0.5")
    assert [cost_nusd(price, Usage(input_tokens=n)) for n in (1, 3, 5)] == [0, 2, 2]
    assert hold_nusd(price, input_tokens_bound=1, max_output_tokens=0) == 1


def test_long_input_is_billed_at_the_dearer_step_as_a_whole() -> None:
    price = replace(price_of(), above=((1000, price_of(input_="300", output="900")),))
    assert cost_nusd(price, Usage(input_tokens=1000, output_tokens=1)) == 150_600
    assert cost_nusd(price, Usage(input_tokens=1001, output_tokens=1)) == 300_300 + 900


def test_the_service_tier_of_the_answer_decides_the_price() -> None:
    price = replace(price_of(), service_tiers={"flex": price_of(input_="75")})
    assert cost_nusd(price, Usage(input_tokens=10, service_tier="flex")) == 750
    assert cost_nusd(price, Usage(input_tokens=10, service_tier="default")) == 1500
    assert cost_nusd(price, Usage(input_tokens=10, service_tier="scale")) == 1500


def test_a_listed_model_has_its_list_price_tiers_and_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = prices_of()
    with caplog.at_level(logging.INFO):
        price = listed.price("gpt-4o-mini-2024-07-18")
        assert listed.price("gpt-4o-mini-2024-07-18") is price
    assert price is not None
    assert price.source.startswith("genai-prices ")
    assert price.source.endswith(": openai/gpt-4o-mini")
    assert [record.message for record in caplog.records] == [
        f"price of gpt-4o-mini-2024-07-18: {price.source}"
    ]
    million = Usage(input_tokens=1_000_000, cached_tokens=500_000, output_tokens=1_000_000)
    assert nusd_to_usd(cost_nusd(price, million)) == Decimal("0.7125")
    priority = replace(million, service_tier="priority")
    assert nusd_to_usd(cost_nusd(price, priority)) == Decimal("1.1875")


def test_prices_agree_with_genai_prices_own_arithmetic() -> None:
    from genai_prices import Usage as ListUsage  # noqa: PLC0415 - the reference of this test alone
    from genai_prices import calc_price  # noqa: PLC0415 - as above

    for model in ("gpt-4.1-nano", "gpt-5.4", "gpt-5.6-luna", "o3"):
        price = prices_of().price(model)
        assert price is not None
        for tier in ("default", "flex", "priority"):
            for input_tokens in (1_000, 300_000):
                ours = cost_nusd(
                    price,
                    Usage(
                        input_tokens=input_tokens,
                        cached_tokens=300,
                        cache_write_tokens=200,
                        output_tokens=77,
                        service_tier=tier,
                    ),
                )
                theirs = calc_price(
                    ListUsage(
                        input_tokens=input_tokens,
                        cache_read_tokens=300,
                        cache_write_tokens=200,
                        output_tokens=77,
                    ),
                    model,
                    provider_id="openai",
                    genai_request_timestamp=WHEN,
                    price_context={"service_tier": tier},
                )
                assert ours == usd_to_nusd(theirs.total_price), (model, tier, input_tokens)


def test_the_name_sent_to_the_provider_is_the_one_that_is_looked_up() -> None:
    price = prices_of(cheap=ModelSettings(api_model="gpt-4o-mini")).price("cheap")
    assert price is not None
    assert price.input_nusd_per_token == 150


def test_a_model_that_nobody_lists_has_no_price() -> None:
    listed = prices_of(
        elsewhere=ModelSettings(api_model="gpt-4o", base_url="https://api.groq.com/openai/v1"),
        proxied=ModelSettings(api_model="gpt-4o", base_url="http://127.0.0.1:4000/v1"),
    )
    assert listed.price("no-such-model") is None
    assert listed.price("elsewhere") is None  # a known provider that does not serve it
    assert listed.price("proxied") is not None


def test_the_offline_model_is_free() -> None:
    price = prices_of(small=ModelSettings(server="local")).price("small")
    assert price is not None
    assert price.source == "local"
    assert hold_nusd(price, input_tokens_bound=10**6, max_output_tokens=10**6) == 0


def test_prices_in_the_config_come_first_and_are_exact() -> None:
    price = prices_of(gpt_5=ModelSettings(input_usd_per_mtok=0.1, output_usd_per_mtok=0.3)).price(
        "gpt-5"
    )
    assert price == Price(
        input_nusd_per_token=Fraction(100),
        cached_nusd_per_token=Fraction(100),
        output_nusd_per_token=Fraction(300),
        source="runner.toml",
    )


@pytest.mark.parametrize("only", ["input", "cached", "output"])
def test_half_a_price_in_the_config_is_refused(only: str) -> None:
    half = ModelSettings.model_validate({f"{only}_usd_per_mtok": 1.0})
    with pytest.raises(ConfigError, match=r"model m: runner\.toml gives only some of its prices"):
        prices_of(m=half).price("m")


def test_a_price_that_depends_on_the_time_of_day_follows_it() -> None:
    now = [datetime(2026, 11, 20, 12, tzinfo=UTC)]
    of_model = ModelSettings(base_url="https://api.deepseek.com/v1")
    models = {"deepseek-reasoner": of_model}
    listed = PriceList(Settings(home=Path("home"), models=models), clock=lambda: now[0])
    day = listed.price("deepseek-reasoner")
    now[0] = datetime(2026, 11, 20, 18, tzinfo=UTC)
    night = listed.price("deepseek-reasoner")
    assert day is not None
    assert night is not None
    assert night.input_nusd_per_token < day.input_nusd_per_token


@given(st.integers(-(10**18), 10**18))
@example(0)
def test_dollars_and_nano_dollars_convert_without_loss(nusd: int) -> None:
    assert usd_to_nusd(nusd_to_usd(nusd)) == nusd


@pytest.mark.parametrize(
    ("usd", "nusd"),
    [(5, 5 * 10**9), (0.1, 10**8), ("4.98", 4_980_000_000), (Decimal("1e-9"), 1), ("5e-10", 0)],
)
def test_dollars_become_whole_nano_dollars(usd: Decimal | str | float, nusd: int) -> None:
    assert usd_to_nusd(usd) == nusd


@pytest.mark.parametrize("usd", ["nan", "inf", float("inf")])
def test_what_is_not_an_amount_is_refused(usd: str | float) -> None:
    with pytest.raises(ValueError, match="is not an amount of money"):
        usd_to_nusd(usd)


@pytest.mark.parametrize(
    ("nusd", "text"),
    [
        (0, "0.00 USD"),
        (4_980_000_000, "4.98 USD"),
        (1_234_567_891_000, "1234.57 USD"),
        (500_000_000, "0.50 USD"),
        (12_345_678, "0.0123 USD"),
        (123_456, "0.000123 USD"),
        (7, "0.000000007 USD"),
        (-4_980_000_000, "-4.98 USD"),
        (999_999_999, "1.00 USD"),
    ],
)
def test_amounts_read_well(nusd: int, text: str) -> None:
    assert format_usd(nusd) == text
