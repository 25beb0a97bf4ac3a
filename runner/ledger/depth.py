"""How long the queue was: read back from when documents came, ended and were called.

Nothing is stored for it. A document that a person sent on, such as a retried dead letter, counts up
to the end of its last call before, and from then on. What the leader revived after an outage counts
since it came.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select

from runner.keys import first_id
from runner.ledger.flow import UNDER_WAY
from runner.ledger.tables import attempt, document, event

DOCUMENTS_MAX = 1_000_000  # of a ledger whose documents are read: about half a microsecond each
CALLS_MAX = 50_000  # that are read, the newest ones; before them it is not known what ran
EVENTS_MAX = 20_000  # that are read, the newest ones
_SENT_ON = ("dead_retried", "reviewed", "revalidated")

# from the moment with the first number up to, not with, the one with the second
Stay = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """So many moments, one every `step_us`."""

    first_us: int
    step_us: int
    count: int

    @property
    def at_us(self) -> Sequence[int]:
        """Each of them."""
        return range(self.first_us, self.first_us + self.count * self.step_us, self.step_us)

    def after(self, at_us: int) -> int:
        """The number of the first one after that; `count` when there is none."""
        return min(self.count, max(0, (at_us - self.first_us) // self.step_us + 1))

    def sql_after(self, at_us: ColumnElement[Any]) -> ColumnElement[Any]:
        """The same of a column, except that it may be beyond `count`, and null of null."""
        return case((at_us < self.first_us, 0), else_=(at_us - self.first_us) // self.step_us + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """The queue at one moment."""

    at_us: int
    open: int  # documents that had come and not ended
    running: int | None  # calls under way; None: not known
    ended: int  # documents that ended in the step up to here


def past_depth(connection: Connection, moments: Moments, *, documents: int) -> list[Depth]:
    """The queue at these moments; nothing when `documents` in the ledger are too many to read."""
    if documents > DOCUMENTS_MAX:
        return []
    open_, ended = _Stays(moments.count), [0] * (moments.count + 1)
    for row in connection.execute(_documents(moments)):
        until = moments.count if row.went is None else min(moments.count, row.went)
        open_.add((row.came, until), row.documents)
        if row.went is not None:
            ended[until] += row.documents
    for stay, count in _sent_on(connection, moments):
        open_.add(stay, count)
    return [
        Depth(at_us=at_us, open=there, running=running, ended=ended[number])
        for number, (at_us, there, running) in enumerate(
            zip(moments.at_us, open_.counts(), _running(connection, moments), strict=True)
        )
    ]


class _Stays:
    """How many are there at each moment."""

    def __init__(self, count: int) -> None:
        self._changes = [0] * (count + 1)

    def add(self, stay: Stay, count: int) -> None:
        """So many stay for so long."""
        since, until = stay
        if since < until:
            self._changes[since] += count
            self._changes[until] -= count

    def counts(self) -> list[int]:
        """What that comes to."""
        return list(accumulate(self._changes[:-1]))


def _documents(moments: Moments) -> Select[Any]:
    """How many documents came and went in each step; those that went earlier are left out."""
    came = moments.sql_after(document.c.created_us).label("came")
    went = moments.sql_after(document.c.finished_us).label("went")
    here = or_(
        document.c.finished_us.is_(None),
        document.c.finished_us >= moments.first_us - moments.step_us,
    )
    some = select(came, went).where(here, document.c.created_us < moments.at_us[-1]).subquery()
    return select(some.c.came, some.c.went, func.count().label("documents")).group_by(
        some.c.came, some.c.went
    )


def _sent_on(connection: Connection, moments: Moments) -> Iterator[tuple[Stay, int]]:
    """What is to be counted otherwise of documents that a person sent on since the first moment."""
    newest = (
        select(event.c.document_id, event.c.kind, event.c.at_us)
        .order_by(event.c.id.desc())
        .limit(EVENTS_MAX)
        .subquery()
    )
    sent = (
        select(
            newest.c.document_id,
            func.min(newest.c.at_us).label("first_us"),
            func.max(newest.c.at_us).label("last_us"),
        )
        .where(newest.c.kind.in_(_SENT_ON), newest.c.at_us >= moments.first_us)
        .group_by(newest.c.document_id)
        .subquery()
    )
    ended_us = func.max(_ended_us())
    rows = connection.execute(
        select(
            document.c.created_us,
            document.c.finished_us,
            sent.c.last_us,
            ended_us.label("ended_us"),
        )
        .join(sent, sent.c.document_id == document.c.id)
        .join(
            attempt,
            and_(attempt.c.document_id == document.c.id, attempt.c.created_us < sent.c.first_us),
            isouter=True,
        )
        .group_by(document.c.id, sent.c.last_us)
    )
    for row in rows:
        came = moments.after(row.created_us)
        went = moments.count if row.finished_us is None else moments.after(row.finished_us)
        yield (came, went), -1
        yield (moments.after(row.last_us), went), 1
        if row.ended_us is not None:
            yield (came, moments.after(row.ended_us)), 1


def _ended_us() -> ColumnElement[Any]:
    took_us = func.coalesce(attempt.c.total_us - attempt.c.limiter_wait_us, 0)
    return attempt.c.created_us + took_us


def _running(connection: Connection, moments: Moments) -> list[int | None]:
    """How many calls were under way; those that began before the first step are left out."""
    newest = (
        select(attempt.c.created_us, attempt.c.state, _ended_us().label("ended_us"))
        .where(attempt.c.id >= first_id("a", at_us=moments.first_us - moments.step_us))
        .order_by(attempt.c.id.desc())
        .limit(CALLS_MAX)
        .subquery()
    )
    began = moments.sql_after(newest.c.created_us).label("began")
    ended = case(
        (newest.c.state.in_(UNDER_WAY), moments.count),
        else_=moments.sql_after(newest.c.ended_us),
    ).label("ended")
    some = select(began, ended).subquery()
    counted = select(some.c.began, some.c.ended, func.count().label("calls"))
    stays, calls, known_from = _Stays(moments.count), 0, moments.count
    for row in connection.execute(counted.group_by(some.c.began, some.c.ended)):
        stays.add((row.began, min(moments.count, row.ended)), row.calls)
        calls += row.calls
        known_from = min(known_from, row.began)
    unknown = known_from + 1 if calls == CALLS_MAX else 0
    return [None if number < unknown else running for number, running in enumerate(stays.counts())]
