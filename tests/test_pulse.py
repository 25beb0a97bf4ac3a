"""A worker's pulse: only a loop that should run and does not come round is silent."""

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from runner.pulse import BEAT_EVERY_S, LOOK_COUNTS_MAX_S, Pulse, beating


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """The present time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Iterator[Pulse]:
    made = Pulse(clock_s=clock)
    yield made
    made.close()


def silence_after(pulse: Pulse, clock: Clock, seconds: int) -> float:
    """What is heard when the listener looks once a second."""
    for _ in range(seconds):
        clock.now_s += 1.0
        pulse.silence_s()
    return pulse.silence_s()


def test_a_child_that_has_not_beaten_yet_is_starting_and_not_silent(
    pulse: Pulse, clock: Clock
) -> None:
    assert silence_after(pulse, clock, 60) == 0
    os.close(pulse.child_end)


def test_silence_is_counted_from_the_last_beat(pulse: Pulse, clock: Clock) -> None:
    os.write(pulse.child_end, b"..")
    assert pulse.silence_s() == 0
    assert silence_after(pulse, clock, 7) == 7
    os.write(pulse.child_end, b".")
    assert pulse.silence_s() == 0
    os.close(pulse.child_end)


def test_a_listener_that_was_away_counts_one_look_and_hears_what_was_said_meanwhile(
    pulse: Pulse, clock: Clock
) -> None:
    os.write(pulse.child_end, b".")
    pulse.silence_s()
    clock.now_s += 3_600
    assert pulse.silence_s() == LOOK_COUNTS_MAX_S
    os.write(pulse.child_end, b".")
    clock.now_s += 3_600
    assert pulse.silence_s() == 0
    os.close(pulse.child_end)


def test_forgiven_silence_is_counted_anew(pulse: Pulse, clock: Clock) -> None:
    os.write(pulse.child_end, b".")
    pulse.silence_s()
    assert silence_after(pulse, clock, 7) == 7
    pulse.forgive()
    assert silence_after(pulse, clock, 2) == 2
    os.close(pulse.child_end)


async def test_a_loop_beats_while_it_comes_round_and_its_end_is_no_silence() -> None:
    pulse = Pulse()
    async with beating(pulse.child_end):
        await asyncio.sleep(BEAT_EVERY_S / 10)
        assert pulse.silence_s() == 0
        time.sleep(BEAT_EVERY_S / 2)  # noqa: ASYNC251 - the loop is blocked, that is the point
        assert pulse.silence_s() > 0
    assert pulse.silence_s() == 0
    time.sleep(BEAT_EVERY_S / 2)  # noqa: ASYNC251 - as above
    assert pulse.silence_s() == 0
    pulse.close()


async def test_a_loop_goes_on_when_nobody_listens_any_more_or_the_pipe_is_full() -> None:
    for left in (True, False):
        pulse = Pulse()
        if left:
            pulse.close()
        else:
            os.write(pulse.child_end, b"." * 65_536)
        async with beating(pulse.child_end):
            await asyncio.sleep(BEAT_EVERY_S / 10)
        if not left:
            pulse.close()
