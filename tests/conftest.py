"""Options of the test run, and what every test of the road shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from runner.testing.control import ProviderProcess
from tests.roads import Road

# an example that takes its time says something of a busy machine and nothing of the code
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# where it is enough to know that an example fails: to make it small can take minutes
settings.register_profile(
    "unshrunk",
    settings.get_profile("untimed"),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--documents N`: how many documents the long tests of the road put through it."""
    parser.addoption(
        "--documents", type=int, default=300, help="documents in the tests of the road"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests go first: none is left for the end, when all other workers are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def documents(request: pytest.FixtureRequest) -> int:
    """How many documents to put through the road."""
    return int(request.config.getoption("--documents"))


@pytest.fixture
def provider() -> Iterator[ProviderProcess]:
    """A test provider of its own, answering after a few milliseconds."""
    with ProviderProcess(
        latency_ms=20,
        input_usd_per_mtok="0.25",
        cached_usd_per_mtok="0.025",
        output_usd_per_mtok="2",
    ) as running:
        yield running


@pytest.fixture
def road(tmp_path: Path, provider: ProviderProcess) -> Iterator[Road]:
    """A home of its own whose models are served by the test provider."""
    made = Road(tmp_path, base_url=provider.base_url)
    yield made
    made.end()
