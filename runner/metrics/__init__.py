"""Metrics in Prometheus text format, read from the ledger alone; workers keep no second book."""

import threading

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from runner.budget import day_budget_nusd
from runner.config import Settings
from runner.laneuse import LaneUse
from runner.ledger import Ledger
from runner.ledger.keypauses import all_key_pauses
from runner.ledger.lanes import all_lanes
from runner.ledger.metering import (
    held_nusd,
    open_batches,
    running_since_us,
    workers_that_died,
)
from runner.ledger.money import day_of, larger_limit_nusd
from runner.ledger.standing import queue_standing
from runner.metrics.families import Look, families
from runner.metrics.tally import Tally, caught_up

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
BATCHES_MAX = 100
LANES_OF_US = 3_600_000_000


class Metrics:
    """The metrics of one ledger, which remember what they have counted.

    The first look reads every attempt, each later one what came since. Any thread may ask; one look
    is taken at a time.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._day_limit_nusd = day_budget_nusd(settings)
        self._tally = Tally()
        self._lock = threading.Lock()

    def render(self) -> bytes:
        """All metrics as they stand now, in the format that `CONTENT_TYPE` names."""
        with self._lock:
            at_us = self._ledger.clock.us()
            with self._ledger.snapshot() as connection:
                # what a look that is cut off half way has counted is not counted twice
                tally, self._tally = self._tally, Tally()
                tally = caught_up(tally, connection)
                look = self._look(connection, at_us=at_us)
            self._tally = tally
            return _text([*families(look, tally)])

    def _look(self, connection: Connection, *, at_us: int) -> Look:
        day = day_of(connection, now_us=at_us)
        lanes = all_lanes(connection, since_us=at_us - LANES_OF_US)
        return Look(
            at_us=at_us,
            queue=queue_standing(connection, now_us=at_us),
            running_since_us=running_since_us(connection),
            day=day,
            day_limit_nusd=larger_limit_nusd(day.limit_nusd, self._day_limit_nusd),
            held_nusd=held_nusd(connection),
            batches=open_batches(connection, limit=BATCHES_MAX),
            lanes=[
                (row, LaneUse.model_validate_json(row.use_json)) for row in lanes if row.use_json
            ],
            key_pauses=all_key_pauses(connection),
            workers_died=workers_that_died(connection),
        )


class _Ready(Collector):
    """Families that are there already."""

    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> list[Metric]:
        """Them."""
        return self._found


def _text(found: list[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Ready(found))
    return generate_latest(registry)
