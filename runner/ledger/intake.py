"""Writes the documents of a submission in a thread of its own, while more are read and prepared.

On SQLite a transaction goes on from chunk to chunk: the ids of documents are random, so that each
transaction writes nearly every page of the indexes anew, however few documents it has. It ends when
somebody else waits to write, when nothing more is at hand, and after a share of the time that the
submission has taken so far: what comes first is seen soon, and a million documents, whose indexes
have many pages, are written in few transactions. Who waited has as long for it as the transaction
took, up to `GIVE_WAY_MAX_S`.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sqlalchemy import Connection

from runner.interpreter import quick_handover
from runner.ledger import Ledger
from runner.ledger.engine import BUSY_PAUSES_S
from runner.ledger.submission import Added, Named, add_documents

HOLD_MIN_S = 0.25
HOLD_MAX_S = 4.0  # at a million documents 46 us each, 55 with transactions of a second
HOLD_SHARE = 0.25
NEXT_MAX_S = 0.05  # how long an open transaction waits for the next chunk
CHUNKS_WAITING = 8  # held in memory, so that a commit need not hold up the reading
GIVE_WAY_MIN_S = 2 * BUSY_PAUSES_S[1]  # who waits tries at least once meanwhile
GIVE_WAY_MAX_S = 0.1


def hold_s(since_s: float) -> float:
    """How long a transaction may last that begins so long after its submission did."""
    return min(HOLD_MAX_S, max(HOLD_MIN_S, HOLD_SHARE * since_s))


@dataclass(slots=True)
class _Turn:
    """What one transaction came to."""

    added: list[Added]
    is_last: bool = False
    gives_way: bool = False


class Intake:
    """Adds chunks to a batch in the order in which they are put, each exactly once.

    `on_added` hears of each chunk once it is durable, in the thread that writes. At the end of the
    block all that was put is durable, also when an error ends it; what writing raised is raised
    by the next `put`, or by that end. After an error nothing more is written.
    """

    def __init__(
        self,
        ledger: Ledger,
        batch_id: str,
        *,
        first_position: int,
        clock_us: Callable[[], int],
        on_added: Callable[[Added], None],
    ) -> None:
        self._ledger = ledger
        self._batch_id = batch_id
        self._position = first_position
        self._clock_us = clock_us
        self._on_added = on_added
        self._error: BaseException | None = None
        self._begun_s = time.monotonic()
        self._waiting: queue.Queue[Sequence[Named] | None] = queue.Queue(CHUNKS_WAITING)
        # a daemon: who is ended while a transaction waits for its lock is not kept by it
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, chunk: Sequence[Named]) -> None:
        """Hand a chunk over; waits while enough of them wait to be written."""
        if self._error is None:
            self._waiting.put(chunk)
        self._raise()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with quick_handover:
                self._write()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that reads
            self._error = error
            while self._waiting.get() is not None:
                pass  # so that no `put` waits for ever

    def _write(self) -> None:
        with self._ledger.bulk() as begin:
            chunk = self._waiting.get()
            while chunk is not None:
                began_s = time.monotonic()
                with begin() as connection:
                    turn = self._add_while_alone(connection, chunk, began_s=began_s)
                for one in turn.added:
                    self._on_added(one)
                if turn.is_last:
                    return
                if turn.gives_way or self._ledger.is_waited_for:
                    held_s = time.monotonic() - began_s
                    time.sleep(min(max(GIVE_WAY_MIN_S, held_s), GIVE_WAY_MAX_S))
                chunk = self._waiting.get()

    def _add_while_alone(
        self, connection: Connection, chunk: Sequence[Named], *, began_s: float
    ) -> _Turn:
        """Add a chunk, and those after it as long as nobody else waits."""
        turn = _Turn([self._add(connection, chunk)])
        ends_s = began_s + hold_s(began_s - self._begun_s)
        while self._ledger.is_sqlite and time.monotonic() < ends_s:
            if self._ledger.is_waited_for:
                turn.gives_way = True
                break
            try:
                following = self._waiting.get(timeout=NEXT_MAX_S)
            except queue.Empty:
                break
            if following is None:
                turn.is_last = True
                break
            turn.added.append(self._add(connection, following))
        return turn

    def _add(self, connection: Connection, chunk: Sequence[Named]) -> Added:
        added = add_documents(
            connection,
            self._batch_id,
            chunk,
            first_position=self._position,
            now_us=self._clock_us(),
        )
        self._position += added.accepted
        return added
