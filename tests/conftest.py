"""Options of the test run, and what every test of the road shares."""

import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runner.testing.control import ProviderProcess
from tests.roads import Road

# an example that takes its time says something of a busy machine and nothing of the code
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--documents N`: how many documents the long tests of the road put through it."""
    parser.addoption(
        "--documents", type=int, default=300, help="documents in the tests of the road"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests go first at each worker: none is left for the end, when all others are done.

    xdist hands each worker one piece of the list, all of the same length.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = iter([item for item in items if not item.get_closest_marker("slow")])
    pieces = [slow[worker::workers] for worker in range(workers)]
    left = len(items)
    for worker, piece in enumerate(pieces):
        length = left // (workers - worker)
        piece.extend(islice(others, max(0, length - len(piece))))
        left -= len(piece)
    items[:] = [*chain.from_iterable(pieces), *others]


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
