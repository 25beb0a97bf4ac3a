"""What a reading process and its parser child say to each other over two pipes.

A frame is a word of at most 8 ASCII letters, the length of its body in bytes, and the body. The
parent sends a kind with a file's bytes; the child says `ready` once, then answers each file with
its `text`, with why it is `refused`, or that its `memory` did not suffice. Nothing is unpickled.
"""

import struct
from typing import BinaryIO

READY, TEXT, REFUSED, MEMORY = WORDS = "ready", "text", "refused", "memory"

_HEADER = struct.Struct("!8sI")
HEADER_BYTES = _HEADER.size


def pack_header(word: str, size_bytes: int) -> bytes:
    """The head of a frame whose body has `size_bytes`."""
    return _HEADER.pack(word.encode("ascii"), size_bytes)


def unpack_header(header: bytes) -> tuple[str, int]:
    """The word and the size in bytes of the body that follows."""
    word, size_bytes = _HEADER.unpack(header)
    return word.rstrip(b"\0").decode("ascii", "replace"), size_bytes


def read_frame(stream: BinaryIO) -> tuple[str, bytes] | None:
    """The next frame; None when the other side is gone, also in the middle of one."""
    header = stream.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    word, size_bytes = unpack_header(header)
    body = stream.read(size_bytes)
    return (word, body) if len(body) == size_bytes else None


def write_frame(stream: BinaryIO, word: str, body: bytes = b"") -> None:
    """Write a frame and flush it."""
    stream.write(pack_header(word, len(body)))
    stream.write(body)
    stream.flush()
