"""The texts that are searched: what a call's answer, message, document and sources have to say.

Each is the same whenever it is made from the same stored bytes: the index keeps no texts, and takes
one out by being shown it again.
"""

import json
from collections.abc import Mapping

from runner.ledger.indexable import Indexable
from runner.outputs import data_in, leaves, words_of
from runner.search.query import clean

CHARS_MAX = 500_000  # of one text: what stands behind is not found


def text_piece(stored: bytes) -> str:
    """A document's text."""
    return clean(stored.decode("utf-8", "replace")[:CHARS_MAX])


def answer_piece(call: Indexable, bodies: Mapping[bytes, bytes]) -> str:
    """The values in an answer's data; its words where they are no data; empty once removed."""
    body = bodies.get(call.answer_digest) if call.answer_digest is not None else None
    if body is None:
        return ""
    headers = json.loads(call.headers_json or "{}")
    words = words_of(status=call.status, body=body, headers=headers)
    if words is None:
        return clean(body.decode("utf-8", "replace")[:CHARS_MAX])
    data = data_in(words)
    return clean((words if data is None else " | ".join(leaves(data)))[:CHARS_MAX])


def message_piece(call: Indexable) -> str:
    """Why it failed; empty once erased."""
    return "" if call.is_erased else clean(call.message or "")


def name_piece(name: str) -> str:
    """What a source is called."""
    return clean(name[:CHARS_MAX])
