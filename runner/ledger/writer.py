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
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine

from runner.errors import LedgerError
from runner.ledger.engine import is_transient

A = TypeVar("A")
R = TypeVar("R")

Operation = Callable[[Connection, Sequence[A]], Sequence[R]]

GROUP_MAX = 500
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0


@dataclass(slots=True)
class _Caller(Generic[A, R]):
    operation: Operation[A, R]
    argument: A
    future: "Future[R]" = field(default_factory=Future)


class GroupThread:
    """Runs operations of many callers together; each caller is answered after the commit.

    A full disk or a locked database delays every caller and loses none: the transaction is tried
    again until it succeeds or the thread is closed. `on_trouble` is told why, and None when over.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        read_only: bool = False,
        on_trouble: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._read_only = read_only
        self._on_trouble = on_trouble
        self._waiting: queue.SimpleQueue[_Caller[Any, Any] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        name = "ledger-reader" if read_only else "ledger-writer"
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[A, R], argument: A) -> "Future[R]":
        """Queue one caller's operation; the future is set after its commit."""
        if self._closing.is_set():
            raise LedgerError("the ledger is closed")
        caller = _Caller(operation, argument)
        self._waiting.put(caller)
        return caller.future

    async def run(self, operation: Operation[A, R], argument: A) -> R:
        """Await one caller's result. A cancelled caller's operation is still committed."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(operation, argument)))

    def close(self) -> None:
        """Commit what was queued, then stop."""
        if not self._closing.is_set():
            self._closing.set()
            self._waiting.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (group := self._next_group()) is not None:
            self._commit(group)

    def _next_group(self) -> list[_Caller[Any, Any]] | None:
        first = self._waiting.get()
        if first is None:
            return None
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
            if len(group) > 1:
                for caller in group:
                    self._commit([caller])
                return
            group[0].future.set_exception(error)
            return
        for caller, answer in answers:
            caller.future.set_result(answer)

    def _transact_with_patience(
        self, group: list[_Caller[Any, Any]]
    ) -> list[tuple[_Caller[Any, Any], Any]]:
        delay_s = RETRY_FIRST_S
        troubled = False
        while True:
            try:
                answers = self._transact(group)
            except Exception as error:
                if not is_transient(error) or self._closing.is_set():
                    raise
                troubled = True
                self._on_trouble(f"ledger cannot be written: {error}")
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
        options = {"read_only": True} if self._read_only else {}
        connected = self._engine.connect().execution_options(**options)
        with connected as connection, connection.begin():
            for operation, callers in by_operation.items():
                results = operation(connection, [caller.argument for caller in callers])
                answers += zip(callers, results, strict=True)
        return answers
