"""`runner` in a process whose wall clock is wrong by the seconds of the first argument."""

import sys
import time


def main() -> None:
    """Shift the clock before anything of the runner has looked at it."""
    shift_s = int(sys.argv.pop(1))
    true_s, true_ns = time.time, time.time_ns
    time.time = lambda: true_s() + shift_s
    time.time_ns = lambda: true_ns() + shift_s * 1_000_000_000
    from runner.cli import main as run  # noqa: PLC0415 - not before the clock is shifted

    run()


if __name__ == "__main__":
    main()
