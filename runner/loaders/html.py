"""The visible text of an HTML page."""

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from runner.loaders.texts import decode

CELL_DIVIDER = " | "

_UNSEEN = frozenset({"script", "style", "template", "noscript", "iframe"})
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details"),
        *("dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "legend", "li", "main", "nav"),
        *("ol", "option", "p", "pre", "section", "select", "summary", "table", "tbody"),
        *("textarea", "tfoot", "thead", "title", "tr", "ul"),
    }
)
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_DECLARED = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?([\w-]{1,20})", re.IGNORECASE)
# only what browsers know and what decodes in linear time (idna and punycode do not)
_CHARSETS = re.compile(
    r"iso-8859-\d+|windows-\d+|koi8-[ru]|shift_jis|euc-(jp|kr)|gb(k|2312|18030)|big5", re.IGNORECASE
)


def html_text(content: bytes) -> str:
    """The title, then the visible text.

    A block element is a line of its own; a table row is one line, its cells divided by ` | `; a
    row that holds tables (a layout) is read cell by cell.
    What scripts, styles, `hidden` or an inline style hide is left out; style sheets are not read.
    Raises UnparsableError when the bytes are no text. The time is quadratic in the depth of the
    nesting (lexbor: 0.1 s for 10,000 elements, 10 s for 100,000).
    """
    page = LexborHTMLParser(decode(content, fallback=_declared_charset(content)))
    return _Reader().read(page.root)


def _declared_charset(content: bytes) -> str:
    declared = _DECLARED.search(content[:2_048])
    name = declared[1].decode("ascii", "replace").lower() if declared else ""
    if name == "iso-8859-1" or not _CHARSETS.fullmatch(name):
        return "cp1252"  # as browsers do
    return name


@dataclass(slots=True)
class _Frame:
    """Lines being gathered: of the page, of one table row, or of one cell."""

    name: str
    lines: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)  # of the line that is not ended yet
    cells: list["_Frame"] = field(default_factory=list)
    has_rows: bool = False  # a table stands in it


class _Reader:
    """Walks a page without recursion: a hostile page nests ten thousand elements."""

    def __init__(self) -> None:
        self._frames = [_Frame("page")]
        self._pre_depth = 0

    def read(self, root: LexborNode | None) -> str:
        pending: list[tuple[LexborNode, bool]] = [(root, False)] if root else []
        while pending:
            node, entered = pending.pop()
            if entered:
                self._leave(node.tag or "")
            elif node.is_text_node:
                self._text(node.text_content or "")
            elif node.is_element_node and not _is_unseen(node):
                self._enter(node.tag or "")
                pending.append((node, True))
                pending.extend((child, False) for child in reversed(_children(node)))
        self._end_line()
        return "\n".join(self._frames[0].lines)

    def _text(self, text: str) -> None:
        if not self._pre_depth:
            self._frames[-1].pieces.append(text)
            return
        for number, line in enumerate(text.split("\n")):
            if number:
                self._end_line()
            self._frames[-1].pieces.append(line)

    def _end_line(self) -> None:
        frame = self._frames[-1]
        text = "".join(frame.pieces)
        line = text.rstrip() if self._pre_depth else " ".join(text.split())
        frame.pieces.clear()
        if line:
            frame.lines.append(line)

    def _enter(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._end_line()
        if tag in {"tr", "td", "th"}:
            self._frames.append(_Frame(tag))
        self._pre_depth += tag == "pre"

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS or tag in {"td", "th"}:
            self._end_line()
        self._pre_depth -= tag == "pre"
        if tag == "tr":
            self._leave_row(self._frames.pop())
        elif tag in {"td", "th"}:
            self._leave_cell(self._frames.pop())

    def _leave_row(self, row: _Frame) -> None:
        outer = self._frames[-1]
        outer.has_rows = True
        outer.lines.extend(row.lines)
        if any(cell.has_rows for cell in row.cells):
            outer.lines.extend(line for cell in row.cells for line in cell.lines)
        elif any(cell.lines for cell in row.cells):
            outer.lines.append(CELL_DIVIDER.join(" ".join(cell.lines) for cell in row.cells))

    def _leave_cell(self, cell: _Frame) -> None:
        outer = self._frames[-1]
        if outer.name == "tr":
            outer.cells.append(cell)
        else:  # a cell in foreign content (svg), where no row need be around it
            outer.lines.extend(cell.lines)


def _children(node: LexborNode) -> list[LexborNode]:
    children = []
    child = node.child
    while child is not None:
        children.append(child)
        child = child.next
    return children


def _is_unseen(node: LexborNode) -> bool:
    if node.tag in _UNSEEN:
        return True
    attributes = node.attributes
    return "hidden" in attributes or bool(_HIDING_STYLE.search(attributes.get("style") or ""))
