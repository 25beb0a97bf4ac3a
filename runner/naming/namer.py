"""Names the chunks of one submission; those of a large one in a process beside the reading one."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from runner.children import Child, GoneError, LateError
from runner.model import SourceText
from runner.naming.frames import HEADER_BYTES, Answer, Question, answer, body_bytes, frame
from runner.naming.named import Named, name_documents
from runner.naming.packed import Packed

LARGE = 5_000  # documents; fewer are named in the time in which a process starts
WAIT_MAX_S = 5.0  # for a child that neither takes nor gives anything


class Namer:
    """The chunks of one batch, named in the order in which they are begun.

    `begin` is called by one thread; what it returns, in the same order, by the same one or another.
    A child that ends, hangs or does not start costs time and nothing else: what it has not
    answered is named here.
    """

    def __init__(self, batch_id: str, *, large: int = LARGE) -> None:
        self._batch_id = batch_id
        self._large = large
        self._begun = 0
        self._child: Child | None = None
        self._ready = False
        self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.end()

    @property
    def is_helped(self) -> bool:
        """Whether the child takes chunks."""
        return self._ready and not self._lost

    def begin(self, texts: Sequence[SourceText]) -> Callable[[], list[Named]]:
        """Begin to name a chunk; what to call for its outcome, once."""
        self._begun += len(texts)
        if self._may_ask():
            assert self._child is not None
            try:
                self._child.write(frame(_question(texts)), _until_s())
            except (LateError, GoneError):
                self._lost = True
            else:
                return partial(self._finish, texts)
        named = name_documents(self._batch_id, texts)
        return lambda: named

    def _may_ask(self) -> bool:
        """Whether the child can take a chunk now; it is started once the submission is large."""
        if self._child is None:
            if self._begun > self._large and not self._lost and _processors() > 1:
                try:
                    self._child = Child("runner.naming.child", self._batch_id)
                except OSError:
                    self._lost = True
            return False
        if not self._ready and not self._lost:
            try:
                self._ready = _receive(self._child, until_s=time.monotonic()) == []
            except LateError:
                pass  # it is starting
            except GoneError:
                self._lost = True
        return self.is_helped

    def _finish(self, texts: Sequence[SourceText]) -> list[Named]:
        assert self._child is not None
        if not self._lost:
            try:
                return _joined(texts, _receive(self._child, until_s=_until_s()))
            except (LateError, GoneError):
                self._lost = True
        return name_documents(self._batch_id, texts)


def _question(texts: Sequence[SourceText]) -> Question:
    encoded = [None if one.text is None else one.text.encode() for one in texts]
    return [
        (one.content, True if text == one.content else text)
        for one, text in zip(texts, encoded, strict=True)
    ]


def _joined(texts: Sequence[SourceText], answered: Answer) -> list[Named]:
    return [
        Named(document_id, one.source, None if text is None else Packed(*text), one.error)
        for one, (document_id, text) in zip(texts, answered, strict=True)
    ]


def _receive(child: Child, *, until_s: float) -> Answer:
    return answer(child.read(body_bytes(child.read(HEADER_BYTES, until_s)), until_s))


def _until_s() -> float:
    return time.monotonic() + WAIT_MAX_S


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
