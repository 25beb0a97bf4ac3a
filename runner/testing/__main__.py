"""Runs the test provider as a process: `python -m runner.testing --port 0`."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from .book import Book
from .control import READY_PREFIX
from .provider import Provider
from .server import serve
from .settings import ProviderSettings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runner.testing",
        description="A provider on 127.0.0.1 that speaks the chat completions format, answers from "
        "the documents, keeps its own book, and fails on demand.",
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0 takes a free one")
    add("--port-file", type=Path, help="a file to write the base URL into once it listens")
    add("--book", type=Path, help="a JSON-lines file that every finished call is appended to")
    add("--settings", default="{}", metavar="JSON", help="any of ProviderSettings; @FILE reads it")
    add("--faults", metavar="JSON", help='{"rules": [...], "seed": 7}; @FILE reads it')
    add("--latency-ms", type=float, help="median")
    add("--latency-sigma", type=float, help="of the logarithm of the latency")
    add("--rpm", type=int, help="requests in any rolling window")
    add("--tpm", type=int, help="tokens in any rolling window")
    add("--window-s", type=float, help="length of the rolling window; 60 by default")
    add("--seed", type=int, help="of the latencies")
    add("--input-usd-per-mtok", metavar="USD")
    add("--cached-usd-per-mtok", metavar="USD", help="the input price by default")
    add("--output-usd-per-mtok", metavar="USD")
    add("--until-stdin-closes", action="store_true", help="also stop when stdin ends")
    return parser


def _settings(options: argparse.Namespace) -> ProviderSettings:
    """The settings that the command line asks for. Raises ValueError for bad ones."""
    asked = _json(options.settings)
    if options.faults is not None:
        asked["faults"] = _json(options.faults)
    for name in ProviderSettings.model_fields:
        value = getattr(options, name, None)
        if value is not None and name != "faults":
            asked[name] = value
    return ProviderSettings.model_validate(asked)


def _json(text: str) -> dict[str, object]:
    value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text[:1] == "@" else text)
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object: {text[:80]}")  # noqa: TRY004 - the person's value
    return value


def _stop_on_signals(stopping: asyncio.Event, *, also_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if also_stdin:
        descriptor = sys.stdin.fileno()

        def read() -> None:
            if not os.read(descriptor, 1024):
                loop.remove_reader(descriptor)
                stopping.set()

        loop.add_reader(descriptor, read)


async def _run(options: argparse.Namespace, settings: ProviderSettings) -> None:
    book = Book(path=options.book)
    server = await serve(Provider(settings=settings, book=book), port=options.port)
    stopping = asyncio.Event()
    _stop_on_signals(stopping, also_stdin=options.until_stdin_closes)
    if options.port_file:
        unfinished = options.port_file.with_name(options.port_file.name + ".part")
        unfinished.touch(mode=0o600)
        unfinished.write_text(f"{server.base_url}\n", encoding="utf-8")
        unfinished.replace(options.port_file)  # a reader never sees half of it
    sys.stdout.write(f"{READY_PREFIX}{server.base_url}\n")
    sys.stdout.flush()
    await stopping.wait()
    await server.stop()
    book.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or (if asked for) the end of stdin; 0, or 2 for bad options."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
    except (ValidationError, ValueError, OSError) as error:
        sys.stderr.write(f"runner.testing: {error}\n")
        return 2
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
