"""Drops blobs that nothing refers to any more, while others go on storing and referring.

What removes a reference puts the blob's digest on the list `unwanted` in the same transaction, so a
removal that is cut off is finished by the next one. Storing a content again takes it off the list:
of what is still on it after all references were looked at, none can have come meanwhile. No index
of references is needed, which every submission and every call would have to pay for.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, tuple_, union

from runner.ledger import Ledger
from runner.ledger.blobs import REMOVAL
from runner.ledger.dialect import chunks, insert_new, one_at_a_time
from runner.ledger.tables import attempt, blob, document, unwanted

ROUND = 100_000  # digests looked for in one pass over all references
TRANSACTION_MAX_BYTES = 4_000_000
REMOVED = bytes(32)  # stands for the head of a request that was removed

_marks = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Swept:
    """What was dropped, in bytes as they were stored (compressed)."""

    blobs: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Listed:
    """A blob on the list; a later removal lists it with another mark."""

    digest: bytes
    mark: int
    stored_bytes: int


def list_unwanted(connection: Connection, digests: Iterable[bytes | None]) -> None:
    """Let the next sweep drop these, unless something refers to them then."""
    one_at_a_time(connection, REMOVAL)
    mark = _marks.getrandbits(62)
    wanted = sorted({digest for digest in digests if digest not in (None, REMOVED)})
    insert_new(connection, unwanted, [{"digest": digest, "mark": mark} for digest in wanted])


def sweep(ledger: Ledger) -> Swept:
    """Drop every listed blob that nothing refers to, in short transactions."""
    blobs = stored_bytes = 0
    while listed := _listed(ledger):
        with ledger.snapshot() as connection:
            referred = _referred(connection)
        with ledger.transaction() as connection:
            _take_off(connection, [one for one in listed if one.digest in referred])
        for some in _portions([one for one in listed if one.digest not in referred]):
            with ledger.transaction() as connection:
                dropped = _drop(connection, some)
            blobs += len(dropped)
            stored_bytes += sum(one.stored_bytes for one in dropped)
    return Swept(blobs, stored_bytes)


def _listed(ledger: Ledger) -> list[_Listed]:
    query = (
        select(unwanted.c.digest, unwanted.c.mark, func.coalesce(func.length(blob.c.zstd), 0))
        .outerjoin(blob, blob.c.digest == unwanted.c.digest)
        .order_by(unwanted.c.digest)
        .limit(ROUND)
    )
    with ledger.snapshot() as connection:
        return [
            _Listed(bytes(digest), mark, size) for digest, mark, size in connection.execute(query)
        ]


def _referred(connection: Connection) -> set[bytes]:
    """Those on the list that something refers to: one pass over documents and attempts."""
    on_list = select(unwanted.c.digest)
    columns = (
        document.c.text_digest,
        attempt.c.request_head_digest,
        attempt.c.request_tail_digest,
        attempt.c.answer_digest,
    )
    found = union(*(select(column).where(column.in_(on_list)) for column in columns))
    return {bytes(digest) for digest in connection.execute(found).scalars()}


def _portions(listed: Sequence[_Listed]) -> Iterator[list[_Listed]]:
    """Of bounded size each, because nobody else writes while one is dropped."""
    for some in chunks(listed):
        portion: list[_Listed] = []
        size = 0
        for one in some:
            portion.append(one)
            size += one.stored_bytes
            if size >= TRANSACTION_MAX_BYTES:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion


def _drop(connection: Connection, portion: Sequence[_Listed]) -> list[_Listed]:
    one_at_a_time(connection, REMOVAL)
    still = _take_off(connection, portion)
    dropped = [one for one in portion if one.digest in still]
    connection.execute(delete(blob).where(blob.c.digest.in_([one.digest for one in dropped])))
    return dropped


def _take_off(connection: Connection, listed: Sequence[_Listed]) -> set[bytes]:
    """Take these off the list; which of them were still on it, with the same mark."""
    taken: set[bytes] = set()
    for some in chunks(listed):
        pairs = tuple_(unwanted.c.digest, unwanted.c.mark)
        rows = connection.execute(
            delete(unwanted)
            .where(pairs.in_([(one.digest, one.mark) for one in some]))
            .returning(unwanted.c.digest)
        )
        taken |= {bytes(digest) for digest in rows.scalars()}
    return taken
