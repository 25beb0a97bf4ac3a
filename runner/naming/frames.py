"""What a submission and its naming process say to each other: lists behind their length.

Both ends run the same interpreter and the same code, so that `marshal` may carry them. A question
lists, of each input, its content and its text: bytes, True where the content is the text, None
without one. The answer lists the id of each document and, of its text, digest, size and zstd.
"""

import marshal
import struct

Question = list[tuple[bytes, bytes | bool | None]]
Answer = list[tuple[str, tuple[bytes, int, bytes] | None]]

_HEADER = struct.Struct("!Q")
HEADER_BYTES = _HEADER.size


def frame(said: Question | Answer) -> bytes:
    """A list as it goes through a pipe."""
    body = marshal.dumps(said)
    return _HEADER.pack(len(body)) + body


def body_bytes(header: bytes) -> int:
    """The length of what follows a header."""
    (size_bytes,) = _HEADER.unpack(header)
    return int(size_bytes)


def question(body: bytes) -> Question:
    """A question behind its header."""
    asked: Question = marshal.loads(body)  # noqa: S302 - our parent wrote it
    return asked


def answer(body: bytes) -> Answer:
    """An answer behind its header."""
    answered: Answer = marshal.loads(body)  # noqa: S302 - our child wrote it
    return answered
