"""Content-addressed texts: stored once under their SHA-256, compressed with zstd."""

import threading
from collections.abc import Iterable, Mapping

import zstandard
from sqlalchemy import Connection, select

from runner.keys import content_digest
from runner.ledger.dialect import chunks, insert_new
from runner.ledger.tables import blob

LEVEL = 3
TEXT_MAX_BYTES = 64 * 1024 * 1024

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


def store(connection: Connection, contents: Iterable[bytes]) -> None:
    """Store each content that is not stored yet."""
    compressor = _compressor()
    by_digest = {content_digest(content): content for content in contents}
    insert_new(
        connection,
        blob,
        [
            {"digest": digest, "size_bytes": len(content), "zstd": compressor.compress(content)}
            for digest, content in sorted(by_digest.items())  # one order: no deadlocks
        ],
    )


def fetch(connection: Connection, digests: Iterable[bytes | None]) -> Mapping[bytes, bytes]:
    """The contents of these digests; one that is not stored (any more) is absent."""
    decompressor = _decompressor()
    found: dict[bytes, bytes] = {}
    for some in chunks({digest for digest in digests if digest is not None}):
        rows = connection.execute(select(blob.c.digest, blob.c.zstd).where(blob.c.digest.in_(some)))
        for digest, packed in rows:
            found[bytes(digest)] = decompressor.decompress(packed, max_output_size=TEXT_MAX_BYTES)
    return found
