"""Counts Ctrl-C and SIGTERM instead of dying of them."""

import signal
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
