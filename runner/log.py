"""What a process says of its work on standard error: from one place, as text or as lines of JSON.

`RUNNER_LOG=json` makes each event one JSON object on one line: `time` (UTC), `level`, `event`,
`message`, `pid`, `worker` once there is one, and what the event is about (`document_id`,
`trace_id`, `batch_id`, `model`, `fault` …). Otherwise it is text for a person. Who calls `log`
gives ids, names and words of our own: never text of a document or an answer, and never a key.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from runner.errors import ConfigError
from runner.keys import trace_id

VARIABLE = "RUNNER_LOG"
TEXT, JSON = "text", "json"
MESSAGE_CHARS_MAX = 2_000  # a line that a pipe takes as one

Value = str | int | float | bool | None


class Level(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"  # somebody should know
    ERROR = "error"  # something did not work


@dataclass(slots=True)
class _Voice:
    """How this process speaks."""

    is_json: bool = False
    worker: str | None = None


_voice = _Voice()


def begin(env: Mapping[str, str]) -> None:
    """Speak as the environment asks for. Raises ConfigError for a form that there is not."""
    form = env.get(VARIABLE) or TEXT
    if form not in (TEXT, JSON):
        raise ConfigError(f"{VARIABLE} is {form!r}; it is {TEXT} or {JSON}")
    _voice.is_json, _voice.worker = form == JSON, None
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _OfLibraries)]:
        root.removeHandler(handler)
    if _voice.is_json:
        root.addHandler(_OfLibraries(logging.WARNING))


def of_worker(worker_id: str) -> None:
    """From now on this process speaks as that worker."""
    _voice.worker = worker_id


def is_json() -> bool:
    """Whether events are lines of JSON."""
    return _voice.is_json


def log(event: str, message: str, *, level: Level = Level.WARNING, **about: Value) -> None:
    """Say that something happened, in words that need no other field."""
    if _voice.is_json:
        _say(event, message, level=level, about=about)
    else:
        # names of batches and words of servers: nothing of them moves a terminal
        shown = "".join(sign if sign.isprintable() else " " for sign in message)
        sys.stderr.write(f"runner: {shown}\n")


def detail(event: str, message: str, *, level: Level = Level.INFO, **about: Value) -> None:
    """Say what is too much for a person, and welcome to a machine."""
    if _voice.is_json:
        _say(event, message, level=level, about=about)


def pass_on(line: str) -> None:
    """Write what a child said: its events as they are, any other words as an event."""
    if read_event(line) is None:
        _say("said", line, level=Level.WARNING, about={})
    else:
        sys.stderr.write(line + "\n")


def read_event(line: str) -> Mapping[str, Value] | None:
    """The event of a line that `log` wrote; None when it is something else."""
    if not line.startswith('{"time":'):
        return None
    try:
        found: dict[str, Value] = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found.get("event"), str) else None


def _say(event: str, message: str, *, level: Level, about: Mapping[str, Value]) -> None:
    fields: dict[str, Value] = {
        "time": _now(),
        "level": level.value,
        "event": event,
        "message": message[:MESSAGE_CHARS_MAX],
        "pid": os.getpid(),
        "worker": _voice.worker,
        **about,
    }
    document_id = about.get("document_id")
    if isinstance(document_id, str):
        fields["trace_id"] = trace_id(document_id)
    kept = {name: value for name, value in fields.items() if value is not None}
    # written at once: lines of several processes share one pipe; ASCII: nothing moves a terminal
    sys.stderr.write(json.dumps(kept).replace("\x7f", "\\u007f") + "\n")
    sys.stderr.flush()


def _now(clock_s: Callable[[], float] = time.time) -> str:
    whole, part = divmod(round(clock_s() * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{part:03}Z"


class _OfLibraries(logging.Handler):
    """What libraries warn of, without the values that their errors quote."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        kind = record.exc_info[0] if record.exc_info else None
        words = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
        error = None if kind is None else kind.__name__
        about: dict[str, Value] = {"library": record.name, "error": error}
        _say("library", words, level=level, about=about)
