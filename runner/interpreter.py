"""How soon a thread of this process gives up the interpreter to another one that waits for it."""

import sys
import threading
from types import TracebackType

QUICK_S = 0.0005  # between the 5 ms of Python and the 0.05 that waking a thread takes


class _QuickHandover:
    """While anybody is in it, a thread that computes gives way after half a millisecond.

    For a thread that asks a database many times beside one that computes: after each answer it
    waits until the other one gives way. The last one to leave restores what was before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before_s = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before_s, QUICK_S))
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                sys.setswitchinterval(self._before_s)


quick_handover = _QuickHandover()  # the setting is the process's: one of them counts who wants it
