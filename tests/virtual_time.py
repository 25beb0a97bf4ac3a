"""An event loop whose clock skips every wait: minutes of pacing take milliseconds."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

OUTSIDE_MAX_S = 30.0  # a part that owes an answer for so long has failed


class _SkippingSelector(selectors.DefaultSelector):
    """Instead of waiting, moves the clock; a microsecond passes at every turn, as in real life."""

    now_s = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits and no timer is set: a deadlock")
        self.now_s += timeout + 1e-6
        self.turns += 1
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs as fast as its callbacks do; `virtual.now_s` is what time it believes it is."""

    def __init__(self) -> None:
        self.virtual = _SkippingSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.virtual.now_s


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def now_s() -> float:
    """What time it is in the running loop."""
    return asyncio.get_running_loop().time()


class _PatientSelector(_SkippingSelector):
    """Skips waits only while nothing outside (a database thread, a server) owes an answer."""

    outside = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.outside:
            return super().select(timeout)
        self.now_s += 1e-6
        self.turns += 1
        return selectors.DefaultSelector.select(self, 0 if timeout == 0 else OUTSIDE_MAX_S)


class PatientLoop(asyncio.SelectorEventLoop):
    """Virtual time with real parts: it stands still while one of them works, see `outside`."""

    def __init__(self) -> None:
        self.virtual = _PatientSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.virtual.now_s


@contextmanager
def outside() -> Iterator[None]:
    """Time stands still in here."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    loop.virtual.outside += 1
    try:
        yield
    finally:
        loop.virtual.outside -= 1


def in_patient_time(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end in virtual time that waits for real parts."""
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(main)
