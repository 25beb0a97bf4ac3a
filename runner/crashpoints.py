"""Named points at which a process can be made to crash, for tests of what outlives a crash.

Off by default, and then free: a pass costs one look at an empty dict. `RUNNER_CRASH_POINT` arms
them: `<point>:<action>`, optionally with `:<nth>` pass in this process (the first by default), or
`:p0.01` for a chance at every pass; several with commas between them; `*` is every point. At the
end, `:once=<path>` makes that file before it acts, and does nothing where the file exists: so one
process of a fleet is hit and its successors are spared.

    before_intent      granted a start, nothing of the call in the ledger yet
    after_intent       lease, intent and hold are durable, nothing is sent
    before_send        the very moment of the call
    after_answer       its answer is in memory only
    after_raw_stored   the answer is durable, nothing has read it
    before_record      the outcome is decided, not written
    after_record       the outcome is durable, the id still on the road
    before_ack         the turn is over, arq has not let go of the id
    after_ready        documents are ready in the ledger, their ids not yet on the road
    after_bury         a worker is buried, what it left is not swept yet

    kill    SIGKILL to this process
    stop    SIGSTOP to this process
    raise   an InjectedError
    hang    this process never comes back from the point
"""

import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runner.errors import ConfigError
from runner.log import log

VARIABLE = "RUNNER_CRASH_POINT"
EVERY = "*"
ONCE = ":once="


class Point(StrEnum):
    """Where a crash can be asked for."""

    BEFORE_INTENT = "before_intent"
    AFTER_INTENT = "after_intent"
    BEFORE_SEND = "before_send"
    AFTER_ANSWER = "after_answer"
    AFTER_RAW_STORED = "after_raw_stored"
    BEFORE_RECORD = "before_record"
    AFTER_RECORD = "after_record"
    BEFORE_ACK = "before_ack"
    AFTER_READY = "after_ready"
    AFTER_BURY = "after_bury"


class Action(StrEnum):
    """What happens there."""

    KILL = "kill"
    STOP = "stop"
    RAISE = "raise"
    HANG = "hang"


class InjectedError(Exception):
    """Asked for by RUNNER_CRASH_POINT; stands for any bug at that point."""


@dataclass(slots=True)
class _Trap:
    """Acts at the `nth` pass, or with a chance at each; with a `mark`, once in all processes."""

    action: Action
    nth: int = 1
    chance: float | None = None
    mark: Path | None = None
    passes: int = 0

    def springs(self) -> bool:
        return self._is_due() and self._is_first()

    def _is_due(self) -> bool:
        self.passes += 1
        if self.chance is not None:
            return random.random() < self.chance  # noqa: S311 - chance, not secrets
        return self.passes == self.nth

    def _is_first(self) -> bool:
        if self.mark is None:
            return True
        try:
            self.mark.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        return True


_traps: dict[Point, _Trap] = {}


def arm(env: Mapping[str, str]) -> None:
    """Set the traps that the environment asks for, and none besides. Raises ConfigError."""
    _traps.clear()
    for asked in filter(None, env.get(VARIABLE, "").split(",")):
        _traps.update(_parse(asked.strip()))


def reach(point: Point) -> None:
    """This process has come to that point. Raises InjectedError when it was asked for."""
    if not _traps:
        return
    trap = _traps.get(point)
    if trap is None or not trap.springs():
        return
    log("crash_point", f"{trap.action} at crash point {point}")
    sys.stderr.flush()
    _act(trap.action, point)


def _act(action: Action, point: Point) -> None:
    match action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.RAISE:
            raise InjectedError(f"at crash point {point}")
        case Action.HANG:
            while True:
                time.sleep(1.0)


def _parse(asked: str) -> dict[Point, _Trap]:
    what, once, mark = asked.partition(ONCE)
    name, _, rest = what.partition(":")
    action, _, when = rest.partition(":")
    points = list(Point) if name == EVERY else [one for one in Point if one == name]
    if not points:
        raise _refusal(asked, f"no point is called {name!r}; there are {', '.join(Point)} and *")
    if action not in list(Action):
        raise _refusal(asked, f"{action!r} is none of {', '.join(Action)}")
    if once and not (mark and Path(mark).parent.is_dir()):
        raise _refusal(asked, f"{mark!r} is no file in a folder that exists")
    return {
        point: _trap(asked, Action(action), when, mark=Path(mark) if once else None)
        for point in points
    }


def _trap(asked: str, action: Action, when: str, *, mark: Path | None) -> _Trap:
    try:
        if when.startswith("p"):
            trap = _Trap(action, chance=float(when[1:]), mark=mark)
            known = 0 < (trap.chance or 0) <= 1
        else:
            trap = _Trap(action, nth=int(when or "1"), mark=mark)
            known = trap.nth >= 1
    except ValueError:
        known = False
    if not known:
        raise _refusal(asked, f"{when!r} is neither a number of passes nor a chance such as p0.01")
    return trap


def _refusal(asked: str, why: str) -> ConfigError:
    return ConfigError(f"{VARIABLE}: {asked}: {why}")
