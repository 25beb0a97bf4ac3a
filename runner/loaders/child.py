"""The parser process: turns one untrusted file after another into text, within limits.

    python -m runner.loaders.child MEMORY_MAX_BYTES MAX_S

It gets bytes and gives text over its standard input and output, opens no input itself, and ends
when its standard input does. What makes it crash, grow or spin costs this process and the file it
had, and nobody else.
"""

import math
import os
import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from runner.errors import UnparsableError
from runner.loaders.frames import MEMORY, READY, REFUSED, TEXT, read_frame, write_frame
from runner.loaders.kinds import parse

_MEMORY_SPENT = 0.9  # of its limit: what fails from here on may fail for want of memory


def main(memory_max_bytes: int, max_s: float) -> None:
    """Answer every file on standard input until it ends."""
    files, answers = sys.stdin.buffer, _own_stdout()
    _limit(resource.RLIMIT_AS, memory_max_bytes)
    _limit(resource.RLIMIT_CORE, 0)  # a dump would hold the document
    write_frame(answers, READY)
    while frame := read_frame(files):
        _limit_cpu(max_s)
        word, body = _answer(*frame)
        del frame  # the next file may need its place
        if word == REFUSED and _peak_bytes() > _MEMORY_SPENT * memory_max_bytes:
            word, body = MEMORY, b""  # C libraries say "broken" when an allocation fails
        write_frame(answers, word, body)


def _own_stdout() -> BinaryIO:
    """The pipe to the parent, out of reach of libraries that print."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


def _limit(what: int, most: int) -> None:
    """Lower a limit for good; a system that does not know it (macOS, some) goes without."""
    with suppress(OSError, ValueError):
        resource.setrlimit(what, (most, most))


def _limit_cpu(max_s: float) -> None:
    """End this process by SIGXCPU after `max_s` more of a core, even when nobody watches it."""
    _, hard_s = resource.getrlimit(resource.RLIMIT_CPU)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + max_s), hard_s))


def _answer(kind: str, content: bytes) -> tuple[str, bytes]:
    try:
        return TEXT, parse(kind, content).encode()
    except UnparsableError as error:
        return REFUSED, str(error).encode("utf-8", "replace")
    except MemoryError:
        return MEMORY, b""


def _peak_bytes() -> int:
    """The most address space this process has had; 0 where the system does not tell (macOS)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"VmPeak:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
