"""Counts Ctrl-C and SIGTERM instead of dying of them."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Interrupts:
    """How often the person, or the system, has asked this process to stop."""

    count: int = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM within this block."""

        def hear(_number: int, _frame: object) -> None:
            self.count += 1

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, hear) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def stop_on_eof() -> None:
    """Have this process told to stop when its standard input ends: the one that started it died."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
