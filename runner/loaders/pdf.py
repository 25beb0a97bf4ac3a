"""The text layer of a PDF, page by page."""

import re
from contextlib import closing

import pypdfium2
from pypdfium2 import raw

from runner.errors import UnparsableError
from runner.loaders.texts import TEXT_MAX_BYTES, over_cap

PAGE_BREAK = "\f"

# PDFium writes U+FFFE for "a hyphen, and the line ends here"
_LINE_END_HYPHEN = re.compile("\ufffe(?:\r?\n)?")


def pdf_text(content: bytes) -> str:
    """The text of every page, pages divided by form feeds; a page without text is an empty one.

    PDFium is not thread-safe: one call at a time in a process. Raises UnparsableError when the
    file needs a password, is broken, has only images, or has too much text.
    """
    with closing(_open(content)) as document:
        pages: list[str] = []
        size_bytes = 0
        for page in document:
            pages.append(_page_text(page))
            size_bytes += len(pages[-1].encode("utf-8", "replace"))
            if size_bytes > TEXT_MAX_BYTES:
                raise UnparsableError(over_cap("its text", TEXT_MAX_BYTES))
    if not any(page.strip() for page in pages):
        raise UnparsableError(f"no text layer: {len(pages)} pages of images; run OCR first")
    return PAGE_BREAK.join(pages)


def _open(content: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise UnparsableError("encrypted PDF: save it without its password") from error
        raise UnparsableError(f"broken PDF: {error}") from error


def _page_text(page: pypdfium2.PdfPage) -> str:
    with closing(page), closing(page.get_textpage()) as layer:
        text = _LINE_END_HYPHEN.sub("-\n", layer.get_text_range())
    return text.replace("\0", "")  # fonts without a character map give NULs
