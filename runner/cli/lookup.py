"""Finds the one document or call that a person means."""

from runner.cli.terminal import plain
from runner.errors import NotFoundError, UsageError
from runner.ledger import Ledger
from runner.ledger.calls import find_documents, view_document

NAMED_MAX = 10


def find_document(ledger: Ledger, typed: str) -> str:
    """The id of the document of this id, id prefix or source name.

    Raises NotFoundError, or UsageError with the documents it could be when there are several.
    """
    with ledger.snapshot() as connection:
        found = find_documents(connection, typed) if typed else []
        if len(found) == 1:
            return found[0]
        views = [view_document(connection, one) for one in found[:NAMED_MAX]]
    if not found:
        raise NotFoundError(
            f"no document {typed!r}: give its id, the beginning of its id, or its source exactly "
            "as `runner results BATCH` names it"
        )
    lines = [
        f"  {view.id}  {view.state}  batch {view.batch_name}  {plain(', '.join(view.sources))}"
        for view in views
    ]
    more = "\n  …" if len(found) > NAMED_MAX else ""
    raise UsageError(f"{typed!r} means several documents:\n" + "\n".join(lines) + more)
