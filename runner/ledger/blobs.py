"""Content-addressed texts: stored once under their SHA-256, compressed with zstd."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import zstandard
from sqlalchemy import Connection, delete, select

from runner.keys import content_digest
from runner.ledger.dialect import chunks, insert_many, many_at_a_time
from runner.ledger.tables import blob, unwanted

LEVEL = 1  # of short texts it leaves as little as level 3, in two thirds of the time
TEXT_MAX_BYTES = 64 * 1024 * 1024
MANY = 50  # of so many contents, making ready to compress them in one go costs less than it saves
REMOVAL = "remove blobs"  # what is done one at a time, and not while others store

_local = threading.local()


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=LEVEL)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _local.decompressor
    return decompressor


class Packed(NamedTuple):  # made a million times in a row: thrice as fast as a frozen dataclass
    """A content as it is stored."""

    digest: bytes  # SHA-256 of the content
    size_bytes: int  # of the content
    zstd: bytes


def pack(contents: Sequence[bytes]) -> list[Packed]:
    """Compress contents, in this thread: other threads of the process go on meanwhile."""
    frames = zip(contents, _compressed(contents), strict=True)
    return [Packed(content_digest(content), len(content), zstd) for content, zstd in frames]


def _compressed(contents: Sequence[bytes]) -> list[bytes]:
    compressor = _compressor()
    if len(contents) < MANY or not any(contents):  # it refuses to compress nothing
        return [compressor.compress(content) for content in contents]
    # Each call gives up the interpreter. For a short text it is back before a thread that waits for
    # the interpreter has woken up: that one slept and woke 22,000 times beside 200,000 texts.
    frames = compressor.multi_compress_to_buffer(list(contents))
    return [frames[place].tobytes() for place in range(len(frames))]


def store(connection: Connection, contents: Iterable[bytes]) -> None:
    """Store each content that is not stored yet."""
    store_packed(connection, pack(list(contents)))


def store_packed(connection: Connection, packed: Iterable[Packed]) -> None:
    """Store each of these that is not stored yet; none of them is to be dropped any more."""
    by_digest = {one.digest: one for one in packed}
    _want_again(connection, by_digest)
    insert_many(
        connection,
        blob,
        ("digest", "size_bytes", "zstd"),
        [
            (digest, one.size_bytes, one.zstd)
            for digest, one in sorted(by_digest.items())  # one order: no deadlocks
        ],
    )


def _want_again(connection: Connection, digests: Iterable[bytes]) -> None:
    many_at_a_time(connection, REMOVAL)
    # nearly always the list is empty: this look is all that it costs a writer
    if connection.exec_driver_sql("SELECT 1 FROM unwanted LIMIT 1").first() is None:
        return
    for some in chunks(sorted(digests)):
        connection.execute(delete(unwanted).where(unwanted.c.digest.in_(some)))


def fetch(connection: Connection, digests: Iterable[bytes | None]) -> Mapping[bytes, bytes]:
    """The contents of these digests; one that is not stored (any more) is absent."""
    decompressor = _decompressor()
    found: dict[bytes, bytes] = {}
    for some in chunks({digest for digest in digests if digest is not None}):
        rows = connection.execute(select(blob.c.digest, blob.c.zstd).where(blob.c.digest.in_(some)))
        for digest, packed in rows:
            found[bytes(digest)] = decompressor.decompress(packed, max_output_size=TEXT_MAX_BYTES)
    return found
