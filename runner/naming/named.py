"""Inputs under the ids of their documents, their texts packed: all that needs no ledger."""

from collections.abc import Sequence
from typing import NamedTuple

from runner.keys import document_ids
from runner.model import SourceText
from runner.naming.packed import Packed, pack


class Named(NamedTuple):
    """An input under the id of its document."""

    document_id: str
    source: str
    text: Packed | None  # none: it is unparsable, and `error` says why
    error: str | None


def name_documents(batch_id: str, texts: Sequence[SourceText]) -> list[Named]:
    """Prepare one chunk of inputs for `add_documents`."""
    packed = iter(pack([text.text.encode() for text in texts if text.text is not None]))
    document_id = document_ids(batch_id)
    return [
        Named(
            document_id(text.content),
            text.source,
            None if text.text is None else next(packed),
            text.error,
        )
        for text in texts
    ]
