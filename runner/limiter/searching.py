"""Judges what the fleet saw of a lane without known limits: the next number of calls at once."""

from runner.limiter.calendar import EpochSeen
from runner.limiter.knee import Epoch, Knee, first, is_over, next_limit

CALLS_FIRST = 8  # a slow server should not have to answer many times before it is asked for more
CALLS_MAX = 2_000  # at once, however much a server seems to bear


def next_knee(seen: EpochSeen) -> Knee | None:
    """The controller's next word; None while the epoch has not told enough."""
    if not seen.knee:
        return first(CALLS_MAX, limit=CALLS_FIRST)
    knee = Knee.from_json(seen.knee)
    epoch = Epoch(
        limit=seen.limit,
        saturated=seen.peak >= seen.limit,
        completed=seen.done,
        work=float(seen.work),
        duration_s=seen.elapsed_us / 1e6,
        errors=seen.errors + seen.slow,
        slow_downs=seen.slow,
    )
    over = is_over(knee, completed=epoch.completed, errors=epoch.errors, elapsed_s=epoch.duration_s)
    return next_limit(knee, epoch) if over else None
