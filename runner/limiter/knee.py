"""Finds how many calls at once a server without known limits is best asked for; pure.

A server is worth as much concurrency as its throughput follows. Let `follow` be by how much
throughput X grows with the limit L, d ln X / d ln L: 1 while places are free, 0 where calls only
wait in line, in between for a server that batches. The controller looks for the limit at which
`follow` falls below FOLLOW, by trials: a limit is tried beside the proven one, kept when throughput
follows, and else taken back. By Little's law X x latency is the number of calls in flight, so a
trial of twice the limit that gained g lands at base x g: what BBR calls the bandwidth-delay
product.

    first ── trials of double the limit, while throughput follows ── small trials up and down, each
    refusal making the next ones rarer ── errors: one cut an episode, then trials below that limit

One controller serves the whole fleet. It sees epochs: what all processes together did at one limit.
An epoch right after a change is only waited for (`settle`), because its calls began before the
change; so the errors of one episode cut once.
"""

import json
from dataclasses import astuple, dataclass, replace
from math import ceil, exp, log, sqrt
from typing import Any, Self

FIRST_LIMIT = 2
FOLLOW = 0.25
FOLLOW_DOWN = 0.15
STEP_UP = 2
STEP_DOWN = 1.5
STEP_DOWN_MAX = 2.0
SPREAD = 0.7  # standard deviation of a call's latency / mean: sigma 0.5, and mixed sizes
SURE = 2.0
SURE_OF_CHANGE = 4.0  # standard errors
CLEARLY = 0.75
TRIAL_CALLS = 96
FIRST_CALLS = 16
ROOM = 1.2
MEMORY_CALLS = 400
REST_CALLS = 64  # at the proven limit before the next trial, at least
REST_LIMITS = 4  # or as many times the limit
PATIENCE_MAX = 8
CUT = 0.7
CUT_SLOW_DOWN = 0.5
CEILING_CALLS = 1_000  # for so long no trial goes where errors were met
EPOCH_CALLS = 8
EPOCH_MIN_S = 0.5
EPOCH_LONG_S = 10.0
EPOCH_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What the fleet did at one limit; calls count where they end."""

    limit: int
    saturated: bool  # as many calls were in flight as the limit allows
    completed: int  # answered
    work: float  # answered, in whatever is to grow: calls, or tokens
    duration_s: float
    errors: int = 0  # overload: 503, timeouts, 429 without a limit that was reached
    slow_downs: int = 0  # of these, that asked for a slower pace


@dataclass(frozen=True, slots=True)
class Seen:
    """What was answered at one limit, and in how much time."""

    calls: float = 0.0
    work: float = 0.0
    seconds: float = 0.0

    def plus(self, epoch: Epoch) -> Self:
        """With one more epoch; what is older than MEMORY_CALLS fades."""
        kept = min(1.0, MEMORY_CALLS / self.calls) if self.calls else 1.0
        return replace(
            self,
            calls=self.calls * kept + epoch.completed,
            work=self.work * kept + epoch.work,
            seconds=self.seconds * kept + epoch.duration_s,
        )

    @property
    def rate(self) -> float:
        """Work a second."""
        return self.work / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """The controller's whole state; `limit` is how many calls may be in flight now."""

    max_limit: int
    limit: int
    base: int  # the proven limit; another one is on trial when `limit` differs
    settle: int = 0  # calls of an earlier limit that must end before anything counts
    at_base: Seen = Seen()
    at_trial: Seen = Seen()
    up: bool = True  # the direction of the next trial, or of the one that runs
    step_down: float = STEP_DOWN  # how many times lower the next trial down goes
    rest: int = 0  # calls at the proven limit before the next trial
    patience: int = 1  # times the rest after a trial that was taken back
    ceiling: int = 0  # errors were met at this limit; 0: none
    ceiling_rest: int = 0  # calls before it is forgotten

    def to_json(self) -> str:
        """One short line."""
        return json.dumps(astuple(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values: dict[str, Any] = dict(zip(cls.__slots__, json.loads(text), strict=True))
        values["at_base"] = Seen(*values["at_base"])
        values["at_trial"] = Seen(*values["at_trial"])
        return cls(**values)


def first(max_limit: int) -> Knee:
    """The state before anything is known. Raises ValueError for a bound below 1."""
    if max_limit < 1:
        raise ValueError(f"at least 1 call has to be allowed, not {max_limit}")
    limit = min(FIRST_LIMIT, max_limit)
    return Knee(max_limit=max_limit, limit=limit, base=limit, rest=FIRST_CALLS)


def is_over(knee: Knee, *, completed: int, errors: int, elapsed_s: float) -> bool:
    """Whether an epoch has seen enough to be judged by `next_limit`."""
    if knee.settle:
        return completed + errors >= knee.settle or elapsed_s >= EPOCH_MAX_S
    if errors:
        return True
    if elapsed_s >= EPOCH_LONG_S:
        return completed > 0 or elapsed_s >= EPOCH_MAX_S
    return completed >= max(EPOCH_CALLS, 2 * knee.limit) and elapsed_s >= EPOCH_MIN_S


def next_limit(knee: Knee, epoch: Epoch) -> Knee:
    """The state after an epoch; one that was lived at another limit changes nothing."""
    if epoch.limit != knee.limit:
        return knee
    if knee.settle:
        return replace(knee, settle=0)
    if epoch.errors:
        return _cut(knee, epoch)
    if not epoch.saturated or not epoch.completed or not epoch.duration_s:
        return knee
    knee = _older(knee, epoch.completed)
    return _hold(knee, epoch) if knee.limit == knee.base else _try(knee, epoch)


def _cut(knee: Knee, epoch: Epoch) -> Knee:
    """Less, and for a while no trial at or above the limit that met errors."""
    share = CUT_SLOW_DOWN if epoch.slow_downs else CUT
    limit = max(1, int(knee.limit * share))
    return replace(
        first(knee.max_limit),
        limit=limit,
        base=limit,
        settle=knee.limit,
        ceiling=knee.limit,
        ceiling_rest=CEILING_CALLS,
    )


def _older(knee: Knee, calls: int) -> Knee:
    left = max(0, knee.ceiling_rest - calls)
    return replace(knee, ceiling_rest=left, ceiling=knee.ceiling if left else 0)


def _hold(knee: Knee, epoch: Epoch) -> Knee:
    """One more epoch at the proven limit; then the next trial, when it is due."""
    seen = Seen().plus(epoch)
    if knee.at_base.calls and _is_change(knee.at_base, seen):
        return _changed(knee, seen)
    knee = replace(knee, at_base=knee.at_base.plus(epoch), rest=max(0, knee.rest - epoch.completed))
    return knee if knee.rest else _begin_trial(knee)


def _is_change(before: Seen, now: Seen) -> bool:
    error = SPREAD * sqrt(1 / before.calls + 1 / now.calls)
    return abs(_gain(before, now)) > SURE_OF_CHANGE * error


def _changed(knee: Knee, seen: Seen) -> Knee:
    """The server or the documents are not what they were: look again, the likelier way first."""
    up = seen.rate > knee.at_base.rate
    return replace(knee, at_base=seen, up=up, rest=TRIAL_CALLS, patience=1)


def _begin_trial(knee: Knee) -> Knee:
    for up in (knee.up, not knee.up):
        limit = _trial_limit(knee, up=up)
        if limit != knee.base:
            return replace(knee, limit=limit, up=up, settle=knee.limit, at_trial=Seen())
    return knee


def _trial_limit(knee: Knee, *, up: bool) -> int:
    if not up:
        return max(1, min(knee.base - 1, int(knee.base / knee.step_down)))
    most = min(knee.max_limit, knee.ceiling - 1) if knee.ceiling else knee.max_limit
    return max(knee.base, min(most, STEP_UP * knee.base))


def _try(knee: Knee, epoch: Epoch) -> Knee:
    """One more epoch of the trial, and its end when enough was seen."""
    knee = replace(knee, at_trial=knee.at_trial.plus(epoch))
    gain = _gain(knee.at_base, knee.at_trial)
    follow = gain / log(knee.limit / knee.base)
    if knee.at_trial.calls < TRIAL_CALLS and follow < CLEARLY:
        return knee
    if knee.up:
        return _keep(knee, knee.limit) if follow >= FOLLOW else _doubt(knee)
    land = max(knee.limit, ceil(knee.limit * exp(-gain) * ROOM))
    return _keep(knee, land) if follow < FOLLOW_DOWN and land < knee.base else _take_back(knee)


def _gain(base: Seen, trial: Seen) -> float:
    """The logarithm of how many times as fast the trial was."""
    return log(trial.rate / base.rate) if trial.rate and base.rate else 0.0


def _keep(knee: Knee, limit: int) -> Knee:
    """The trial's limit, or one between it and the proven one, is the proven one now."""
    if limit != knee.limit:
        return _rest(replace(knee, base=limit, at_base=Seen(), step_down=STEP_DOWN, patience=1))
    return _begin_trial(
        replace(
            knee,
            base=limit,
            at_base=knee.at_trial,
            step_down=STEP_DOWN if knee.up else min(STEP_DOWN_MAX, knee.step_down**2),
            patience=1,
        )
    )


def _doubt(knee: Knee) -> Knee:
    """A proven limit that was seen too little to refuse more by is seen again."""
    if knee.at_base.calls >= TRIAL_CALLS:
        return _take_back(knee)
    return replace(_rest(knee), at_base=Seen(), rest=TRIAL_CALLS)


def _take_back(knee: Knee) -> Knee:
    rested = _rest(knee)
    return replace(
        rested,
        step_down=STEP_DOWN,
        up=not knee.up,
        patience=min(PATIENCE_MAX, 2 * knee.patience),
    )


def _rest(knee: Knee) -> Knee:
    """At the proven limit until the next trial."""
    return replace(
        knee,
        limit=knee.base,
        settle=knee.limit,
        at_trial=Seen(),
        rest=knee.patience * max(REST_CALLS, REST_LIMITS * knee.base),
    )
