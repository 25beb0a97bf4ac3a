"""The simulated provider of a home: `python -m runner.testing` as a shared server."""

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path

from runner.servers.resident import (
    Resident,
    ServerKind,
    accepts_connections,
    python_command,
    use,
    written_url,
)


def use_simulator(home: Path, *arguments: str) -> AbstractContextManager[Resident]:
    """Use this home's simulated provider; `.url` is its base URL, `http://127.0.0.1:PORT/v1`.

    `arguments` go to its command line; commands that give the same ones share a server. Blocks
    while it starts, as does `Resident.ensure`. Raises RoadError when it cannot be started.
    """
    return use(home, simulator(*arguments))


def simulator(*arguments: str) -> ServerKind:
    """The simulator with these command line arguments."""

    def prepare(folder: Path) -> tuple[str, ...]:
        (folder / "url").unlink(missing_ok=True)
        command = python_command("runner.testing")
        return *command, "--port", "0", "--port-file", str(folder / "url"), *arguments

    return ServerKind(
        name=_name(arguments), prepare=prepare, url=written_url, answers=accepts_connections
    )


def _name(arguments: tuple[str, ...]) -> str:
    if not arguments:
        return "simulator"
    digest = hashlib.blake2b("\0".join(arguments).encode(), digest_size=4).hexdigest()
    return f"simulator-{digest}"
