"""Finds how many calls at once a server without known limits is best asked for; pure.

Throughput X follows the limit L of calls in flight while the server has places free, follows less
where it batches, and not at all where calls only wait in line. `follow` is d ln X / d ln L: 1, in
between, 0. The knee is where it falls below FOLLOW. It is found by trials: another limit is lived
for a while beside the proven one, and kept only if throughput follows (up), or hardly falls (down).
By Little's law X x latency is what is in flight, so the trial of a lower limit that lost a factor g
tells the knee: limit x g, what BBR calls the bandwidth-delay product.

    first ── doubled while throughput follows ── then trials up and down by turns, rarer with each
    one taken back ── errors: one cut an episode, and trials approach where they were met by halves

One controller serves the whole fleet. It sees epochs: what all processes together did at one limit.
The first epoch after a change is only waited for (`settle`), because its calls began before; so the
errors of one episode cut once (but those of a trial up count at once).
"""

import json
from dataclasses import astuple, dataclass, replace
from math import ceil, exp, log, sqrt
from typing import Any, Self

FIRST_LIMIT = 2
FIRST_CALLS = 16
STEP_UP = 2
STEP_DOWN = 1.5
STEP_DOWN_MAX = 2.0
# A trial up is kept from FOLLOW on: no server with places ends above 1.75 x its knee. To go down
# takes less than FOLLOW_DOWN: the gap keeps a batching server from swinging between the two.
FOLLOW = 0.2
FOLLOW_DOWN = 0.15
# Follows so well that a trial need not last. A trial down that is ended too soon costs nothing, and
# one that lasts leaves places empty.
CLEARLY_UP = 0.75
CLEARLY_DOWN = 0.5
# With latencies that spread by SPREAD x their mean, two means of 128 calls differ by 9 % at one
# standard error: enough to tell 1 from 1.25 at a knee half way to the doubled limit.
TRIAL_CALLS = 128
SPREAD = 0.7  # sigma 0.5 and mixed sizes
MEMORY_CALLS = 400  # what was seen earlier fades
CHANGE_ERRORS = 4.0  # standard errors that say: the server or the documents have changed
ROOM = 1.2  # above the knee that a trial down points to: a place left empty is dearer than a line
REST_CALLS = 64  # at the proven limit between trials, at least
REST_LIMITS = 4  # or as many times the limit
PATIENCE_MAX = 12  # times the rest
CUT = 0.7
CUT_SLOW_DOWN = 0.5
CUTS_APART_S = 2.0  # refusals come fast: a server that refuses everything is not ten episodes
CEILING_CALLS = 250  # for so long nothing is tried where errors were met
CEILING_PATIENCE_MAX = 16
EPOCH_CALLS = 8
EPOCH_MIN_S = 0.5
EPOCH_LONG_S = 10.0
EPOCH_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What the fleet did at one limit; calls count where they end."""

    limit: int
    saturated: bool  # all the while it was the limit that held calls back, not a lack of them
    completed: int  # answered
    work: float  # of what was answered: calls, or better tokens, which even out mixed sizes
    duration_s: float
    errors: int = 0  # of overload: 503, timeouts, 429
    slow_downs: int = 0  # those of them that asked for a slower pace


@dataclass(frozen=True, slots=True)
class Seen:
    """What was answered at one limit, and in how much time."""

    calls: float = 0.0
    work: float = 0.0
    seconds: float = 0.0

    def plus(self, epoch: Epoch) -> Self:
        """With one more epoch; what goes beyond MEMORY_CALLS fades."""
        kept = min(1.0, MEMORY_CALLS / self.calls) if self.calls else 0.0
        return replace(
            self,
            calls=self.calls * kept + epoch.completed,
            work=self.work * kept + epoch.work,
            seconds=self.seconds * kept + epoch.duration_s,
        )

    def gain(self, now: "Seen") -> float:
        """The logarithm of how many times as fast `now` is; 0 where either has seen nothing."""
        if not (self.work and now.work and self.seconds and now.seconds):
            return 0.0
        return log(now.work) - log(now.seconds) - log(self.work) + log(self.seconds)


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
    patience: int = 1  # times the rest
    ceiling: int = 0  # errors were met at this limit; 0: at none
    ceiling_rest: int = 0  # calls before it is tried again
    ceiling_patience: int = 1

    def to_json(self) -> str:
        """One short line."""
        return json.dumps(astuple(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values: dict[str, Any] = dict(zip(cls.__slots__, json.loads(text), strict=True))
        for seen in ("at_base", "at_trial"):
            values[seen] = Seen(*values[seen])
        return cls(**values)


def first(max_limit: int, *, limit: int = FIRST_LIMIT) -> Knee:
    """The state before anything is known, beginning with `limit` calls at once.

    Raises ValueError for a bound below 1.
    """
    if max_limit < 1:
        raise ValueError(f"at least 1 call has to be allowed at once, not {max_limit}")
    limit = min(limit, max_limit)
    return Knee(max_limit=max_limit, limit=limit, base=limit, rest=FIRST_CALLS)


def is_over(knee: Knee, *, completed: int, errors: int, elapsed_s: float) -> bool:
    """Whether an epoch, which began with the last `next_limit`, has seen enough for the next."""
    if elapsed_s >= EPOCH_MAX_S or (errors and _heeds_errors(knee)):
        return True
    if knee.settle:
        return completed + (errors if elapsed_s >= CUTS_APART_S else 0) >= knee.settle
    if elapsed_s >= EPOCH_LONG_S:
        return completed > 0
    return completed >= max(EPOCH_CALLS, 2 * knee.limit) and elapsed_s >= EPOCH_MIN_S


def next_limit(knee: Knee, epoch: Epoch) -> Knee:
    """The state after an epoch, and a new epoch begins; one of another limit changes nothing.

    Bounds: 1 to `max_limit`. Grows only after a saturated epoch without errors.
    """
    if epoch.limit != knee.limit:
        return knee
    if epoch.errors and _heeds_errors(knee):
        return _cut(knee, halve=epoch.slow_downs > 0)
    if knee.settle:
        return replace(knee, settle=0)
    if not (epoch.saturated and epoch.completed > 0 and epoch.work > 0 and epoch.duration_s > 0):
        return knee
    knee = replace(knee, ceiling_rest=max(0, knee.ceiling_rest - epoch.completed))
    return _hold(knee, epoch) if knee.limit == knee.base else _try(knee, epoch)


def _heeds_errors(knee: Knee) -> bool:
    """After a cut they may still be those it was made for; after more calls they are new."""
    return not knee.settle or knee.limit > knee.base


def _cut(knee: Knee, *, halve: bool) -> Knee:
    """Less; a trial up that met errors gives back all it had added."""
    limit = int(knee.limit * (CUT_SLOW_DOWN if halve else CUT))
    if not halve and knee.base < knee.limit:
        limit = knee.base
    limit = max(1, limit)
    again = knee.ceiling and knee.limit >= knee.ceiling
    patience = min(CEILING_PATIENCE_MAX, 2 * knee.ceiling_patience) if again else 1
    return replace(
        first(knee.max_limit),
        limit=limit,
        base=limit,
        settle=knee.limit,
        ceiling=knee.limit,
        ceiling_rest=CEILING_CALLS * patience,
        ceiling_patience=patience,
    )


def _hold(knee: Knee, epoch: Epoch) -> Knee:
    """One more epoch at the proven limit; then the next trial, when it is due."""
    seen = Seen().plus(epoch)
    if _is_change(knee.at_base, seen):
        slower = knee.at_base.gain(seen) < 0
        return replace(
            knee,
            at_base=seen,
            up=not slower,
            step_down=STEP_DOWN_MAX,
            rest=TRIAL_CALLS,
            patience=1,
        )
    rest = max(0, knee.rest - epoch.completed)
    knee = replace(knee, at_base=knee.at_base.plus(epoch), rest=rest)
    return knee if rest else _begin_trial(knee)


def _is_change(before: Seen, now: Seen) -> bool:
    if not before.calls:
        return False
    error = SPREAD * sqrt(1 / before.calls + 1 / now.calls)
    return abs(before.gain(now)) > CHANGE_ERRORS * error


def _begin_trial(knee: Knee) -> Knee:
    """The next trial, the other way round where there is none in its direction."""
    for up in (knee.up, not knee.up):
        limit = _higher(knee) if up else _lower(knee)
        if limit != knee.base:
            return replace(knee, limit=limit, up=up, settle=knee.limit, at_trial=Seen())
    return knee


def _lower(knee: Knee) -> int:
    return max(1, min(knee.base - 1, int(knee.base / knee.step_down)))


def _higher(knee: Knee) -> int:
    """Twice as many; half way to where errors were met, and there itself only after a long rest."""
    limit = min(knee.max_limit, STEP_UP * knee.base)
    if not knee.ceiling or knee.base >= knee.ceiling:
        return limit
    near = knee.ceiling if not knee.ceiling_rest else knee.ceiling - 1
    return min(limit, knee.base + ceil((near - knee.base) / 2))


def _try(knee: Knee, epoch: Epoch) -> Knee:
    """One more epoch of the trial, and its end when enough was seen."""
    knee = replace(knee, at_trial=knee.at_trial.plus(epoch))
    gain = knee.at_base.gain(knee.at_trial)
    follow = gain / log(knee.limit / knee.base)
    clearly = CLEARLY_UP if knee.up else CLEARLY_DOWN
    if knee.at_trial.calls < TRIAL_CALLS and follow < clearly:
        return knee
    if knee.up:
        return _keep_higher(knee) if follow >= FOLLOW else _doubt(knee)
    lower = max(knee.limit, round(knee.limit * exp(-gain) * ROOM))
    if follow >= FOLLOW_DOWN or lower >= knee.base:
        return _take_back(knee)
    return _keep_lower(knee, lower)


def _keep_higher(knee: Knee) -> Knee:
    met = knee.ceiling and knee.limit >= knee.ceiling  # and nothing went wrong this time
    return _begin_trial(
        replace(
            knee,
            base=knee.limit,
            at_base=knee.at_trial,
            step_down=STEP_DOWN,
            patience=1,
            ceiling=0 if met else knee.ceiling,
        )
    )


def _keep_lower(knee: Knee, limit: int) -> Knee:
    """As fast with less, so what was seen at the old limit holds for this one; try still less."""
    step = min(STEP_DOWN_MAX, knee.step_down**2)
    kept = replace(knee, base=limit, step_down=step, patience=1)
    return replace(_begin_trial(kept), settle=knee.limit)


def _doubt(knee: Knee) -> Knee:
    """No more, unless the proven limit was seen too little to say so: then it is seen again."""
    if knee.at_base.calls >= TRIAL_CALLS:
        return _take_back(knee)
    return replace(_rest(knee), at_base=Seen(), rest=TRIAL_CALLS)


def _take_back(knee: Knee) -> Knee:
    return replace(
        _rest(knee),
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
