"""Reads how a lane's limits are used at this moment from its calendar."""

from runner.laneuse import LaneUse
from runner.limiter.calendar import SLOTS_PER_WINDOW, Written

FULL = 1_000_000


def use_of(written: Written) -> LaneUse | None:
    """The use that a calendar tells; None when the lane was not called for a day."""
    state = {name: int(value) for name, value in written.state.items() if name != "knee"}
    if not state:
        return None
    now_us, window_us = written.now_us, state["window"]
    requests, tokens = _started(written, window_us=window_us)
    waiting, calls = _crew(written)
    conc = state["conc"] if state["epoch"] else 0
    return LaneUse(
        window_s=window_us / 1e6,
        requests=requests,
        requests_limit=_limit(state["limit_r"], state["told_r"], state["factor"]),
        tokens=tokens,
        tokens_limit=_limit(state["limit_t"], state["told_t"], state["factor"]),
        calls=calls,
        calls_limit=_limit(state["limit_c"], conc, FULL),
        waiting=waiting,
        cut=round(state["factor"] / FULL, 4),
        refused=state["refused"],
        refused_s=_ago_s(now_us, state["refused_at"]),
        paused_s=max(0, state["paused"] - now_us) / 1e6,
        breaker_open=state["open"] > 0,
        probe_s=max(0, state["probe"] - now_us) / 1e6 if state["open"] else 0.0,
        failed=state["failed"],
        answered=state["ok"],
    )


def _started(written: Written, *, window_us: int) -> tuple[int, int]:
    slot_us = window_us // SLOTS_PER_WINDOW
    first, last = (written.now_us - window_us) // slot_us, written.now_us // slot_us
    inside = [
        tuple(map(int, packed.split()))
        for slot, packed in written.slots.items()
        if first < int(slot) <= last
    ]
    return sum(requests for requests, _ in inside), sum(tokens for _, tokens in inside)


def _crew(written: Written) -> tuple[int, int]:
    """Documents that wait, and calls under way, of processes that are still there."""
    waiting = calls = 0
    for packed in written.crew.values():
        _, expiry_us, waits, under_way, *_ = map(int, packed.split())
        if expiry_us >= written.now_us:
            waiting += waits
            calls += under_way
    return waiting, calls


def _limit(configured: int, told: int, factor: int) -> int | None:
    known = [limit for limit in (configured, told) if limit > 0]
    return max(1, min(known) * factor // FULL) if known else None


def _ago_s(now_us: int, at_us: int) -> float | None:
    return max(0, now_us - at_us) / 1e6 if at_us else None
