"""A worker's pulse: its event loop writes into a pipe, and the supervisor listens at the other end.

A pipe keeps what was said while the listener itself was stopped, and it ends when the loop does. So
silence means one thing only: the loop should run and does not come round.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

BEAT_EVERY_S = 0.5
LOOK_COUNTS_MAX_S = 1.0  # between two looks: beyond it the listener was away, not the loop silent
PIPE_BYTES = 65_536


@asynccontextmanager
async def beating(descriptor: int | None) -> AsyncIterator[None]:
    """Beat while this block runs, and close the pipe at its end; None: nobody listens."""
    if descriptor is None:
        yield
        return
    os.set_inheritable(descriptor, False)  # a server started here must not keep the pipe open
    beats = asyncio.create_task(_beat_forever(descriptor))
    try:
        yield
    finally:
        beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)
        os.close(descriptor)


async def _beat_forever(descriptor: int) -> None:
    while True:
        with suppress(BlockingIOError, BrokenPipeError):  # a stopped or dead listener is no reason
            os.write(descriptor, b".")
        await asyncio.sleep(BEAT_EVERY_S)


class Pulse:
    """What a supervisor hears of one child. `child_end` is for the child to write to."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ear, self.child_end = os.pipe()
        for end in (self._ear, self.child_end):
            os.set_blocking(end, False)
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._beats = False
        self._silent_s = 0.0

    def silence_s(self) -> float:
        """How long the loop has been silent while this process was there to listen.

        0 before its first beat, as starting may take long, and after its end.
        """
        now_s = self._clock_s()
        passed_s = min(now_s - self._looked_s, LOOK_COUNTS_MAX_S)
        self._looked_s = now_s
        heard = self._hear()
        if heard is None:
            self._silent_s += passed_s if self._beats else 0.0
        else:
            self._beats = heard != b""
            self._silent_s = 0.0
        return self._silent_s

    def forgive(self) -> None:
        """Count silence anew."""
        self._silent_s = 0.0

    def close(self) -> None:
        """Stop listening."""
        os.close(self._ear)

    def _hear(self) -> bytes | None:
        """What was said since the last look; nothing at all when the loop has ended."""
        try:
            return os.read(self._ear, PIPE_BYTES)
        except BlockingIOError:
            return None
