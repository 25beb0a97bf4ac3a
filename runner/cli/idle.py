"""Tells the person when work waits and nobody works, or nobody may."""

import shlex
from collections.abc import Iterable

from runner.cli.session import find_batch
from runner.cli.terminal import talk
from runner.ledger import Ledger
from runner.ledger.workers import LOST_AFTER_S, living


def tell_if_idle(ledger: Ledger) -> None:
    """Say which command works on the queue, when no worker gives signs of life."""
    if not somebody_works(ledger):
        talk(
            "no worker is running: `runner work --until-empty` does what waits, and so does "
            "your `runner run` command again"
        )


def tell_paused(ledger: Ledger, batch_names: Iterable[str]) -> None:
    """Say which of these batches are paused, so that what was queued in them waits."""
    for name in sorted(set(batch_names)):
        if find_batch(ledger, name).pause_reason is not None:
            talk(f"{name} is paused: `runner batch resume {shlex.quote(name)}` lets it go on")


def somebody_works(ledger: Ledger) -> bool:
    """Whether a worker gives signs of life."""
    with ledger.snapshot() as connection:
        workers = living(connection)
    return any(ledger.clock.us() - worker.beat_us <= LOST_AFTER_S * 1e6 for worker in workers)
