"""Group commit: one thread that runs many callers' operations in one transaction.

An operation is a function over a list of arguments, so that a group costs a few statements and not
a few per document. A refusal is a value in its result; an exception is a bug of that caller alone:
the group is rolled back and repeated one by one, and only the culprit fails.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine

from runner.errors import LedgerError
from runner.ledger.engine import is_transient

A = TypeVar("A")
R = TypeVar("R")

Operation = Callable[[Connection, Sequence[A]], Sequence[R]]

GROUP_MAX = 500
# How long the first caller of a group waits for company. Documents come one after another from
# the queue: without it nearly each would be a transaction of its own (measured: 5.2 ms of CPU a
# document instead of 3.1), and beside a call of seconds nobody notices.
GATHER_S = 0.008
# When a commit takes longer (many processes write, or the disk is slow), the next group waits as
# long as that took: fewer and larger commits, instead of a queue in front of the disk.
GATHER_MAX_S = 0.05
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0


@dataclass(slots=True)
class _Caller(Generic[A, R]):
    operation: Operation[A, R]
    argument: A
    future: "asyncio.Future[R]"


class GroupThread:
    """Runs operations of many callers together; each caller is answered after the commit.

    A full disk or a locked database delays every caller and loses none: the transaction is tried
    again until it succeeds or the thread is closed. `on_trouble` is told why, and None when over.
    """

    def __init__(
        self, engine: Engine, *, name: str, on_trouble: Callable[[str | None], None] | None = None
    ) -> None:
        self._engine = engine
        self._on_trouble = on_trouble or (lambda _: None)
        self._waiting: queue.SimpleQueue[_Caller[Any, Any] | None] = queue.SimpleQueue()
        self._closing = False
        self._gather_s = GATHER_S
        self._door = threading.Lock()  # nobody queues behind the last one
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    async def run(self, operation: Operation[A, R], argument: A) -> R:
        """Await one caller's result. A cancelled caller's operation is still committed."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        with self._door:
            if self._closing:
                raise LedgerError("the ledger is closed")
            self._waiting.put(_Caller(operation, argument, future))
        return await future

    @property
    def has_callers(self) -> bool:
        """Whether somebody waits whose operation has not begun."""
        return not self._waiting.empty()

    def close(self) -> None:
        """Commit what was queued, then stop."""
        with self._door:
            if not self._closing:
                self._closing = True
                self._waiting.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (group := self._next_group()) is not None:
            self._commit(group)

    def _next_group(self) -> list[_Caller[Any, Any]] | None:
        first = self._waiting.get()
        if first is None:
            return None
        if not self._closing:
            time.sleep(self._gather_s)
        group = [first]
        while len(group) < GROUP_MAX:
            try:
                caller = self._waiting.get_nowait()
            except queue.Empty:
                break
            if caller is None:
                self._waiting.put(None)
                break
            group.append(caller)
        return group

    def _commit(self, group: list[_Caller[Any, Any]]) -> None:
        try:
            answers = self._transact_with_patience(group)
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to its caller
            # what is transient still, at closing, would be so for each of them alone
            if len(group) > 1 and not is_transient(error):
                for caller in group:
                    self._commit([caller])
                return
            answers = [(caller, error) for caller in group]
        _answer(answers)

    def _transact_with_patience(
        self, group: list[_Caller[Any, Any]]
    ) -> list[tuple[_Caller[Any, Any], Any]]:
        delay_s = RETRY_FIRST_S
        troubled = False
        while True:
            try:
                answers = self._transact(group)
            except Exception as error:
                if not is_transient(error) or self._closing:
                    raise
                troubled = True
                self._on_trouble(f"ledger cannot be written: {getattr(error, 'orig', error)}")
                time.sleep(delay_s)
                delay_s = min(RETRY_MAX_S, 2 * delay_s)
            else:
                if troubled:
                    self._on_trouble(None)
                return answers

    def _transact(self, group: list[_Caller[Any, Any]]) -> list[tuple[_Caller[Any, Any], Any]]:
        by_operation: dict[Operation[Any, Any], list[_Caller[Any, Any]]] = {}
        for caller in group:
            by_operation.setdefault(caller.operation, []).append(caller)
        answers: list[tuple[_Caller[Any, Any], Any]] = []
        began_s = time.monotonic()
        with self._engine.connect() as connection, connection.begin():
            for operation, callers in by_operation.items():
                results = operation(connection, [caller.argument for caller in callers])
                answers += zip(callers, results, strict=True)
        took_s = time.monotonic() - began_s
        self._gather_s = min(GATHER_MAX_S, max(GATHER_S, (self._gather_s + took_s) / 2))
        return answers


def _answer(answers: Sequence[tuple[_Caller[Any, Any], Any]]) -> None:
    """Wake each event loop once for all of its callers: a wake-up is a system call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for caller, answer in answers:
        future = caller.future
        by_loop.setdefault(future.get_loop(), []).append((future, answer))
    for loop, some in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_set_all, some)


def _set_all(answers: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, answer in answers:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
