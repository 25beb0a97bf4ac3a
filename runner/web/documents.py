"""A document's page: its record beside its text, its calls on a line of time, what can be done."""

from collections.abc import Sequence

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.errors import NotFoundError
from runner.ledger.calls import (
    AttemptRow,
    DocumentView,
    EventRow,
    document_calls,
    events,
    find_documents,
    view_document,
)
from runner.pages.document import document_parts
from runner.web.desk import look, page


async def find(request: Request) -> Response:
    """The document of this id, id prefix or source name, or those that it could be."""
    typed = request.query_params.get("find", "").strip()

    def read(connection: Connection) -> list[DocumentView]:
        found = find_documents(connection, typed) if typed else []
        return [view_document(connection, one) for one in found]

    found = await look(request, read)
    if len(found) == 1:
        return RedirectResponse(f"/documents/{found[0].id}", 303)
    return page(request, "documents.html", typed=typed, found=found)


async def show(request: Request) -> Response:
    """One document."""
    document_id: str = request.path_params["document"]

    def read(
        connection: Connection,
    ) -> tuple[DocumentView, Sequence[AttemptRow], Sequence[EventRow]]:
        if find_documents(connection, document_id)[:1] != [document_id]:
            raise NotFoundError(f"no document {document_id!r}")
        return (
            view_document(connection, document_id),
            document_calls(connection, document_id),
            events(connection, document_id=document_id),
        )

    view, calls, happened = await look(request, read)
    parts = document_parts(view, calls=calls, events=happened)
    return page(request, "document_page.html", **parts)
