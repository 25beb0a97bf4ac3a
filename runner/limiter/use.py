"""How a lane's limits are used at this moment, read from its calendar."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from runner.limiter.calendar import SLOTS_PER_WINDOW, Written

FULL = 1_000_000


class LaneUse(BaseModel):
    """One lane: limits of a window as they stand now, and what was started within the last one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: float
    requests: int
    requests_limit: int | None
    tokens: int
    tokens_limit: int | None
    calls: int  # under way
    calls_limit: int | None
    waiting: int  # documents that wait for a start
    cut: float  # the part of the configured limits that is used, 1 when no refusal cut them
    refused: int  # since the lane was first called
    refused_s: float | None  # ago, the last one
    paused_s: float  # nothing starts for so long, after a refusal
    breaker_open: bool
    probe_s: float  # until the next call that tries it, while the breaker is open
    failed: int
    answered: int

    @property
    def is_in_use(self) -> bool:
        """Whether anything was started within the window, or waits, or is under way."""
        return bool(self.requests or self.waiting or self.calls)

    @classmethod
    def of(cls, written: Written) -> Self | None:
        """The use that a calendar tells; None when the lane was not called for a day."""
        state = {name: int(value) for name, value in written.state.items() if name != "knee"}
        if not state:
            return None
        now_us, window_us = written.now_us, state["window"]
        requests, tokens = _started(written, window_us=window_us)
        waiting, calls = _crew(written)
        conc = state["conc"] if state["epoch"] else 0
        return cls(
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
