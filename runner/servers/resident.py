"""A server process that all commands of a home share and that stops when the last one leaves.

Files in `HOME/<name>/`, all readable by their owner only:

| file | is |
|---|---|
| `use.lock` | held shared by every command in use of the server, exclusively by who stops it |
| `start.lock` | held by the one command that looks whether the server runs, and starts it |
| `watchdog.lock` | held by the watchdog for its whole life, so also: whether there is one |
| `server.log` | what the watchdog and the server print |
| `server.pid` | the server's process id and start time, as JSON |

Locks are `flock` on open files: the kernel gives them back however a process ends.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from runner.errors import RoadError

_POLL_S = 0.02
_USE_WAIT_MAX_S = 20.0  # a server that is being stopped has 5 s before it is killed
_START_LOCK_EXTRA_S = 5.0
_PROBE_MAX_S = 1.0
_LAUNCH_MAX_S = 15.0
_LAUNCHES_MAX = 3
_ORPHAN_END_MAX_S = 5.0
_LOG_KEPT_BYTES = 1_000_000  # a longer log starts anew with the next server
_SAME_START_S = 1.0  # a process id that was given again belongs to a later start
# What a server may inherit: enough to run Python and find temporary files, and no API key.
_ENV_KEPT = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKind:
    """How one kind of server is started and found. `folder` is its own folder in the home.

    `prepare(folder)` is called when none runs: it removes what a dead one left behind and returns
    the command line. `url(folder)` is where the server is, or None before it has said so.
    `answers(url)` tells within a second or so whether it serves.
    """

    name: str  # the folder's name, and what messages call it
    prepare: Callable[[Path], Sequence[str]]
    url: Callable[[Path], str | None]
    answers: Callable[[str], bool]
    start_max_s: float = 30.0


class Resident:
    """A server in use by this process; made by `use`."""

    def __init__(self, *, folder: Path, kind: ServerKind) -> None:
        self.folder = folder
        self.kind = kind
        self.url = ""
        self._log_from = 0  # what the log held before this process started the server

    def ensure(self) -> str:
        """Start the server unless it answers; returns its URL, which may differ from the last one.

        Call it again whenever the server is lost. Blocks, up to the kind's `start_max_s` and as
        long again when another command is just starting it: from a coroutine, call it in a thread.
        Raises RoadError naming the log when the server does not come to answer.
        """
        wait_max_s = self.kind.start_max_s + _START_LOCK_EXTRA_S
        start_lock = self.folder / "start.lock"
        with locked(start_lock, fcntl.LOCK_EX, wait_max_s=wait_max_s):
            self.url = self._started()
        return self.url

    @property
    def log_path(self) -> Path:
        """What the server prints."""
        return self.folder / "server.log"

    def _started(self) -> str:
        """The URL of the running server, which is started if need be; called under the start lock.

        One that ends before it answers is started again: somebody may have killed it.
        """
        deadline_s = time.monotonic() + self.kind.start_max_s
        self._log_from = launches = 0
        while time.monotonic() < deadline_s:
            with _watchdog_lock(self.folder) as lock_fd:
                if lock_fd is None:
                    url = self.kind.url(self.folder)
                    if url is not None and self.kind.answers(url):
                        return url
                elif launches == _LAUNCHES_MAX:
                    raise self._failure("stopped right after its start")
                else:
                    self._launch(lock_fd)
                    launches += 1
            time.sleep(_POLL_S)
        raise self._failure(f"did not answer within {self.kind.start_max_s:g} s")

    def _launch(self, lock_fd: int) -> None:
        """Start a watchdog, which starts the server; the watchdog inherits its lock, held."""
        _end_orphan(self.folder)
        command = (*_WATCHDOG, str(self.folder), str(lock_fd), *self.kind.prepare(self.folder))
        with _open_log(self.log_path) as log:
            self._log_from = os.fstat(log).st_size
            try:
                subprocess.run(  # noqa: S603 - this interpreter, and a command line of ours
                    command,
                    pass_fds=(lock_fd,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=_server_env(),
                    check=True,
                    timeout=_LAUNCH_MAX_S,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise self._failure(f"could not be started ({error})") from error

    def _failure(self, what: str) -> RoadError:
        log = self.log_path.read_bytes() if self.log_path.is_file() else b""
        told = log[self._log_from :].decode(errors="replace").strip()
        if told:
            last = f"ends with: {told.splitlines()[-1]}"
        else:
            last = "has nothing of it: see whether the disk is full"
        return RoadError(
            f"the {self.kind.name} server {what}; its log is {self.log_path}, and {last}"
        )


@contextmanager
def use(home: Path, kind: ServerKind) -> Iterator[Resident]:
    """Use a server of this home, started if need be; it stops 2 s after its last user has left.

    Each process enters for itself; leaving, or dying in any way, ends its use. Blocks while it
    starts (see `Resident.ensure`). Raises RoadError when the server cannot be started.
    """
    folder = private_folder(home.absolute() / kind.name)
    with locked(folder / "use.lock", fcntl.LOCK_SH, wait_max_s=_USE_WAIT_MAX_S):
        resident = Resident(folder=folder, kind=kind)
        resident.ensure()
        yield resident


@contextmanager
def locked(path: Path, mode: int, *, wait_max_s: float) -> Iterator[None]:
    """Hold a `flock` of `mode` on `path`. Raises RoadError when it is not free in time."""
    deadline_s = time.monotonic() + wait_max_s
    with closing_fd(open_private(path)) as lock_fd:
        while not try_lock(lock_fd, mode):
            if time.monotonic() > deadline_s:
                raise RoadError(
                    f"{path} is still locked after {wait_max_s:g} s: another command is starting "
                    "or stopping the server and hangs; end that command and try again"
                )
            time.sleep(_POLL_S)
        yield


def try_lock(lock_fd: int, mode: int) -> bool:
    """Take a `flock` if it is free now."""
    try:
        fcntl.flock(lock_fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def accepts_connections(url: str) -> bool:
    """Whether something listens at an HTTP URL of this machine."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=_PROBE_MAX_S):
            return True
    except (OSError, ValueError):
        return False


def written_url(folder: Path) -> str | None:
    """What the server wrote to `HOME/<name>/url`, or None before it did."""
    try:
        return (folder / "url").read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def python_command(module: str) -> tuple[str, ...]:
    """Run a module of this installation, whatever lies in the current folder."""
    return sys.executable, "-P", "-m", module


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter; its parents too, when they are missing."""
    for folder in (path.parent, path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def open_private(path: Path, *, flags: int = os.O_RDWR) -> int:
    """Open or make a file that only its owner can read."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close a file descriptor, and with it any lock that nobody else holds through it."""
    try:
        yield fd
    finally:
        os.close(fd)


_WATCHDOG = python_command("runner.servers.watchdog")


@contextmanager
def _watchdog_lock(folder: Path) -> Iterator[int | None]:
    """The watchdog's lock if there is no watchdog, else None."""
    with closing_fd(open_private(folder / "watchdog.lock")) as lock_fd:
        yield lock_fd if try_lock(lock_fd, fcntl.LOCK_EX) else None


@contextmanager
def _open_log(path: Path) -> Iterator[int]:
    with closing_fd(open_private(path, flags=os.O_WRONLY | os.O_APPEND)) as log_fd:
        if os.fstat(log_fd).st_size > _LOG_KEPT_BYTES:
            os.ftruncate(log_fd, 0)
        yield log_fd


def _server_env() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ENV_KEPT or name.startswith("LC_")
    }


def _end_orphan(folder: Path) -> None:
    """End a server whose watchdog is dead, should the kernel not have done so already."""
    with suppress(OSError, ValueError, KeyError, psutil.Error):  # no note, or nobody there
        noted = json.loads((folder / "server.pid").read_text(encoding="utf-8"))
        process = psutil.Process(noted["pid"])
        if abs(process.create_time() - noted["started_s"]) < _SAME_START_S:
            process.kill()
            process.wait(_ORPHAN_END_MAX_S)
