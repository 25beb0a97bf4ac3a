"""The text of a DOCX file in document order, read from its XML.

python-docx opens the package; its own paragraph and table views are not used, because they leave
out content controls, tracked insertions and text boxes, and repeat merged cells.
"""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import docx

from runner.errors import UnparsableError
from runner.loaders.limits import UNPACKED_MAX_BYTES
from runner.loaders.texts import over_cap

CELL_DIVIDER = " | "

_OLE_MAGIC = b"\xd0\xcf\x11\xe0"
# deleted text, field codes, properties, and the second copy that Word keeps of a text box
_UNSEEN = frozenset({"del", "moveFrom", "instrText", "pPr", "rPr", "tblPr", "sdtPr", "Fallback"})
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def docx_text(content: bytes) -> str:
    """Headers, then paragraphs and tables in document order, then footers.

    A table row is one line, its cells divided by ` | `.
    Raises UnparsableError when it is no DOCX package, needs a password, or unpacks to more than
    UNPACKED_MAX_BYTES. Footnotes and comments are not read.
    """
    _check_package(content)
    document = docx.Document(io.BytesIO(content))
    _refuse_doctype(document.element)
    headers = _margins(section.header for section in document.sections)
    footers = _margins(section.footer for section in document.sections)
    return "\n".join((*headers, *_blocks(document.element.body), *footers))


def _check_package(content: bytes) -> None:
    if content.startswith(_OLE_MAGIC):
        raise UnparsableError(
            "an old .doc file or an encrypted one: save it as .docx without a password"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            unpacked_bytes = sum(entry.file_size for entry in package.infolist())
    except zipfile.BadZipFile as error:
        raise UnparsableError(f"broken DOCX: not a zip package: {error}") from error
    if unpacked_bytes > UNPACKED_MAX_BYTES:
        raise UnparsableError(over_cap("its unpacked content", UNPACKED_MAX_BYTES))


def _margins(parts: Iterator[Any]) -> list[str]:
    """The lines of headers or footers, each text once however many sections show it."""
    texts: dict[str, None] = {}
    for part in parts:
        if not part.is_linked_to_previous:
            element = part._element  # noqa: SLF001 - python-docx shows no other way to its XML
            _refuse_doctype(element)
            texts["\n".join(_blocks(element))] = None
    return [text for text in texts if text.strip()]


def _refuse_doctype(element: Any) -> None:
    """Raise UnparsableError when a part defines XML entities: they would be missing in its text."""
    if element.getroottree().docinfo.doctype:
        raise UnparsableError("broken DOCX: it declares a document type, which DOCX forbids")


def _name(element: Any) -> str:
    # comments and processing instructions have no string for a tag
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _blocks(container: Any) -> Iterator[str]:
    """The lines of a body, a cell or a content control."""
    for element in container:
        match _name(element):
            case "p":
                yield _inline(element)
            case "tbl":
                yield from _rows(element)
            case name if name not in _UNSEEN:
                yield from _blocks(element)


def _rows(table: Any) -> Iterator[str]:
    for element in table:
        match _name(element):
            case "tr":
                yield CELL_DIVIDER.join(_cells(element))
            case name if name not in _UNSEEN:
                yield from _rows(element)


def _cells(row: Any) -> Iterator[str]:
    for element in row:
        match _name(element):
            case "tc":
                yield " ".join(" ".join(_blocks(element)).split())
            case name if name not in _UNSEEN:
                yield from _cells(element)


def _inline(element: Any) -> str:
    """The text of a paragraph; the paragraphs of a text box in it stand on lines of their own."""
    pieces: list[str] = []
    for child in element:
        name = _name(child)
        if name == "t":
            pieces.append(_characters(child))
        elif name in _SIGNS:
            pieces.append(_SIGNS[name])
        elif name == "txbxContent":
            pieces.append("\n" + "\n".join(_blocks(child)) + "\n")
        elif name not in _UNSEEN:
            pieces.append(_inline(child))
    return "".join(pieces)


def _characters(element: Any) -> str:
    """The text of a run, also what follows a comment in it."""
    return "".join((element.text or "", *(child.tail or "" for child in element)))
