"""One streamed answer: the text so far, and the completion that its server-sent events come to."""

import time
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json

_HEAD = ("id", "created", "model", "service_tier", "system_fingerprint")
_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
_LAST_WORD = b"[DONE]"
LINE_MAX_BYTES = 1024 * 1024  # a longer one is no event


class Stream:
    """Hears the pieces of one answer as they come, and puts them together at its end.

    A server that does not stream is heard too: its answer stays as it is, and `text` empty.
    """

    def __init__(self, *, monotonic_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._begun_ns: int | None = None
        self._rest = b""  # of a line that has not ended
        self._data: list[bytes] = []  # lines of an event that has not ended
        self._parts: list[str] = []
        self._refusal = ""
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._head: dict[str, Any] = {}
        self._error: bytes | None = None
        self._has_choice = False
        self._is_done = False  # the last word was heard
        self._is_broken = False  # an event was none of a completion
        self._is_over = False
        self.first_us: int | None = None  # from the call to the first words of its answer

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._parts)

    @property
    def is_complete(self) -> bool:
        """Whether all that matters has come: nothing is lost by waiting for the end."""
        has_all = self._finish_reason is not None and self._usage is not None
        return self._is_over or self._is_done or has_all

    def begin(self) -> None:
        """The call is about to be sent."""
        self._begun_ns = self._monotonic_ns()

    def hear(self, piece: bytes) -> bool:
        """Take the next bytes; False when the server has said its last word."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._take_line(line.removesuffix(b"\r"))
        if len(self._rest) > LINE_MAX_BYTES:
            self._rest, self._is_broken = b"", True
        return not self._is_done

    def end(self, raw: bytes) -> bytes:
        """All has come: the completion as one JSON object, for whoever reads whole answers.

        Bytes that are no such events stay as they are, and so does a stream that ended before its
        answer did: read as a whole, it is no completion. An error among the events is the answer.
        """
        self._is_over = True
        if not raw.lstrip().startswith(_BEGINNINGS):
            return raw
        self.hear(b"\n\n")  # the last event may want its end
        if self._error is not None:
            return self._error
        ended = self._is_done or self._finish_reason is not None
        return self._completion() if ended and not self._is_broken else raw

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line.removeprefix(b"data:").strip())
        elif not line and self._data:
            event, self._data = b"\n".join(self._data), []
            self._take_event(event)

    def _take_event(self, event: bytes) -> None:
        if event == _LAST_WORD:
            self._is_done = True
            return
        try:
            chunk = from_json(event)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            self._is_broken = True
            return
        if chunk.get("error"):
            self._error = event
            return
        self._head |= {name: chunk[name] for name in _HEAD if chunk.get(name) is not None}
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._take_choice(choices[0])

    def _take_choice(self, choice: dict[str, Any]) -> None:
        self._has_choice = True
        if isinstance(choice.get("finish_reason"), str):
            self._finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        if isinstance(delta.get("refusal"), str):
            self._refusal += delta["refusal"]
        if isinstance(delta.get("content"), str) and delta["content"]:
            self._parts.append(delta["content"])
            if self.first_us is None and self._begun_ns is not None:
                self.first_us = (self._monotonic_ns() - self._begun_ns) // 1_000

    def _completion(self) -> bytes:
        message = {"role": "assistant", "content": self.text, "refusal": self._refusal or None}
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        completion: dict[str, Any] = {"object": "chat.completion", **self._head}
        completion["choices"] = [choice] if self._has_choice else []
        if self._usage is not None:
            completion["usage"] = self._usage
        return to_json(completion)
