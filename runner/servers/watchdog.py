"""Runs one server for as long as anyone uses it; started detached by `runner.servers.resident`.

`python -m runner.servers.watchdog FOLDER LOCK_FD COMMAND…`: LOCK_FD is the inherited, locked
`watchdog.lock`. It ends when the server ends, or after nobody has held `use.lock` for 2 s: then it
takes that lock, stops the server and ends. When it is killed itself, the server dies with it, by
the parent-death signal on Linux; elsewhere the next start ends the orphan by `server.pid`.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from runner.servers.resident import closing_fd, open_private, try_lock

_POLL_S = 0.2
_UNUSED_S = 2.0
_TERMINATE_MAX_S = 5.0
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """Detach from the starter, run the server, and see to its end."""
    folder, command = Path(arguments[0]), arguments[2:]
    if os.fork():  # the starter waits for this process only, and is left with no child to reap
        return 0
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.umask(0o077)
    with closing_fd(open_private(folder / "use.lock")) as use_fd:
        server = subprocess.Popen(  # noqa: S603 - a command line that our own code made
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - no thread runs in this process
        )
        try:
            _note(folder, server.pid)
            why = _watch(server, use_fd)
        finally:
            _stop(server)
    sys.stdout.write(f"watchdog: {why}\n")
    return 0


def _watch(server: "subprocess.Popen[bytes]", use_fd: int) -> str:
    """Wait until the server has ended or nobody uses it; in that case, `use.lock` is held."""
    unused_since_s: float | None = None
    while server.poll() is None:
        if not try_lock(use_fd, fcntl.LOCK_EX):
            unused_since_s = None
        elif unused_since_s is None:
            unused_since_s = time.monotonic()
        elif time.monotonic() - unused_since_s >= _UNUSED_S:
            return "nobody uses the server any more; stopped it"
        if unused_since_s is not None:
            fcntl.flock(use_fd, fcntl.LOCK_UN)
        time.sleep(_POLL_S)
    return f"the server ended by itself with status {server.returncode}"


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_TERMINATE_MAX_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _note(folder: Path, pid: int) -> None:
    """Write down which process is the server, for a start after this process was killed."""
    note = json.dumps({"pid": pid, "started_s": psutil.Process(pid).create_time()})
    with closing_fd(open_private(folder / "server.pid", flags=os.O_WRONLY | os.O_TRUNC)) as fd:
        os.write(fd, note.encode())


def _dies_with(parent_pid: int) -> Callable[[], None] | None:
    """What the server's process does first: ask the kernel to be killed when its parent dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent_pid:  # it died before the kernel was asked
            os._exit(1)

    return ask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
