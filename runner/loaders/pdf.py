"""The text layer of a PDF, page by page."""

import re
from contextlib import closing

import pypdfium2
from pypdfium2 import raw

from runner.errors import UnparsableError
from runner.loaders.limits import TEXT_MAX_BYTES
from runner.loaders.texts import over_cap

PAGE_BREAK = "\f"

# PDFium writes U+FFFE for "a hyphen, and the line ends here"
_LINE_END_HYPHEN = re.compile("\ufffe(?:\r?\n)?")


def pdf_text(content: bytes) -> str:
    """The text of every page, pages divided by form feeds.

    A page of images among pages of text is said to be one, in the text itself: neither the model
    nor the reader of its answer should take a half-read document for a whole one.

    PDFium is not thread-safe: one call at a time in a process. Raises UnparsableError when the
    file needs a password, is broken, has only images, or has too much text.
    """
    with closing(_open(content)) as document:
        pages: list[str] = []
        has_images: list[bool] = []
        size_bytes = 0
        for page in document:
            has_images.append(_has_image(page))
            pages.append(_page_text(page))
            size_bytes += len(pages[-1].encode("utf-8", "replace"))
            if size_bytes > TEXT_MAX_BYTES:
                raise UnparsableError(over_cap("its text", TEXT_MAX_BYTES))
    if not any(page.strip() for page in pages):
        if not any(has_images):
            raise UnparsableError(f"empty: no text and no image on its {len(pages)} pages")
        raise UnparsableError(f"no text layer: {len(pages)} pages of images; run OCR first")
    return PAGE_BREAK.join(
        page if page.strip() or not images else f"[page {number} has no text layer]"
        for number, (page, images) in enumerate(zip(pages, has_images, strict=True), start=1)
    )


def _open(content: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise UnparsableError("encrypted PDF: save it without its password") from error
        raise UnparsableError(f"broken PDF: {error}") from error


def _has_image(page: pypdfium2.PdfPage) -> bool:
    return next(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]), None) is not None


def _page_text(page: pypdfium2.PdfPage) -> str:
    with closing(page), closing(page.get_textpage()) as layer:
        text = _LINE_END_HYPHEN.sub("-\n", layer.get_text_range())
    return text.replace("\0", "")  # fonts without a character map give NULs
