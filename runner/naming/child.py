"""The naming process: names and packs one list of inputs after another.

    python -m runner.naming.child BATCH_ID

It answers over its standard output what it reads from its standard input, and ends with it.
"""

import sys

from runner.keys import document_ids
from runner.naming.frames import HEADER_BYTES, Answer, Question, body_bytes, frame, question
from runner.naming.packed import Packed, pack


def main(batch_id: str) -> None:
    """Answer every question until no more come; the first answer, empty, says that it is ready."""
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    said: Answer = []
    while True:
        answers.write(frame(said))
        answers.flush()
        header = asked.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return
        said = _answered(batch_id, question(asked.read(body_bytes(header))))


def _answered(batch_id: str, inputs: Question) -> Answer:
    texts = [content if text is True else text for content, text in inputs]
    packed = iter(pack([text for text in texts if isinstance(text, bytes)]))
    document_id = document_ids(batch_id)
    return [
        (document_id(content), None if text is None else _plain(next(packed)))
        for (content, _), text in zip(inputs, texts, strict=True)
    ]


def _plain(packed: Packed) -> tuple[bytes, int, bytes]:
    return packed.digest, packed.size_bytes, packed.zstd  # marshal takes no named tuple


if __name__ == "__main__":
    main(sys.argv[1])
