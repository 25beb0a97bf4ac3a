"""Starts, watches, changes and stops one test provider as a subprocess; needs urllib only."""

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .book import Entry, Summary

READY_PREFIX = "listening on "  # what the process prints before its base URL
STOP_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 60.0


class ProviderError(Exception):
    """The provider did not start, or refused a change; the message says why."""


class ProviderProcess:
    """One provider process, alive inside the `with` block (or from `start` to `stop`).

    `settings` are those of `runner.testing.settings.ProviderSettings`, as JSON would hold them. The
    provider also stops when this process ends, however it ends.
    """

    def __init__(self, *, port: int = 0, book_path: Path | None = None, **settings: Any) -> None:
        self._arguments = ["--port", str(port), "--settings", json.dumps(settings)]
        if book_path is not None:
            self._arguments += ["--book", str(book_path)]
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url = ""  # with /v1; set by start

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens. Raises ProviderError with its words otherwise."""
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(  # noqa: S603 - this very package
                [sys.executable, "-m", "runner.testing", "--until-stdin-closes", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            assert self._process.stdout
            line = self._process.stdout.readline().decode().strip()
            if not line.startswith(READY_PREFIX):
                self.stop()
                errors.seek(0)
                raise ProviderError(f"the provider did not start: {errors.read().decode()[-2000:]}")
        self.base_url = line.removeprefix(READY_PREFIX)

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process, "the provider was not started"
        return self._process.pid

    def control(self, **changes: Any) -> dict[str, Any]:
        """Change settings (and `heal=True`, `clear=True`); the settings after it.

        Raises ProviderError when a change is unknown or out of bounds; nothing changed then.
        """
        answer: dict[str, Any] = json.loads(self._fetch("/_control", body=changes))
        return answer

    def book(self) -> list[Entry]:
        """Every entry so far, those in flight included, in the order of arrival."""
        return [Entry.from_json(line) for line in self._fetch("/_book").splitlines()]

    def summary(self) -> Summary:
        """The book added up."""
        return Summary.from_json(self._fetch("/_book/summary"))

    def stop(self) -> int:
        """Stop it and give its exit code; a second call changes nothing."""
        assert self._process, "the provider was not started"
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        return code

    def _fetch(self, path: str, *, body: Mapping[str, Any] | None = None) -> str:
        url = self.base_url.removesuffix("/v1") + path
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, content)  # noqa: S310 - our own http server
        # no proxy of the environment may stand between this machine and itself
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=REQUEST_TIMEOUT_S) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            with error:
                raise ProviderError(f"{path}: {error.read().decode()}") from error
