"""Hostile files, each made by a few lines: bombs, loops, lies and depths, and how each ends."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import docx

SPARSE_BYTES = 10 * 1024**3

TOO_SLOW = "took longer than .* s to read"
# a busy machine may take all its time before it runs out of memory
TOO_LARGE = f"needs more than 512 MB of memory|{TOO_SLOW}"


@dataclass(frozen=True)
class Hostile:
    """A file of this name and content, and the reason it is refused for; None: it is a text."""

    name: str
    make: Callable[[], bytes]
    reason: str | None


def flate_bomb(block: bytes, *, times: int) -> bytes:
    """A zlib stream of `block` many times over, made without packing more than one of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\x9c" + packed * times + b"\x03\x00"


# PDF


def pdf(objects: dict[int, bytes], trailer: bytes = b"") -> bytes:
    """A PDF of these objects, whose first is the catalog."""
    out, places = b"%PDF-1.7\n", {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start, size = len(out), max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    out += b"".join(b"%010d 00000 n \n" % places.get(number, 0) for number in range(1, size))
    trailer = trailer.replace(b"START", b"%d" % start)
    return out + (
        b"trailer<</Size %d/Root 1 0 R%b>>\nstartxref\n%d\n%%%%EOF" % (size, trailer, start)
    )


def stream(body: bytes, keys: bytes = b"") -> bytes:
    """A stream object."""
    return b"<<%b/Length %d>>stream\n%b\nendstream" % (keys, len(body), body)


def pages(tree: bytes, node: bytes = b"<</Type/Page/Parent 2 0 R>>") -> bytes:
    """A PDF whose root of pages has these entries and one child."""
    catalog = b"<</Type/Catalog/Pages 2 0 R>>"
    return pdf({1: catalog, 2: b"<</Type/Pages%b>>" % tree, 3: node})


def page(content: bytes, others: dict[int, bytes] | None = None, trailer: bytes = b"") -> bytes:
    """A PDF of one page with this content stream; object 6 is the form X."""
    node = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>/XObject<</X 6 0 R>>>>>>"
    )
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        3: node,
        4: content,
        5: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    }
    return pdf(objects | (others or {}), trailer)


def form(content: bytes, drawn: int) -> bytes:
    """A form that may draw another one as X."""
    keys = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</Font<</F 5 0 R>>"
    return stream(content, b"%b/XObject<</X %d 0 R>>>>" % (keys, drawn))


def doubling_forms() -> bytes:
    """Ten forms in a form, fifteen deep, each writing."""
    forms = {number: form(b"/X Do " * 10, number + 1) for number in range(6, 20)}
    forms[20] = form(b"BT /F 9 Tf (x) Tj ET", 20)
    return page(stream(b"/X Do " * 10), forms)


def one_page_very_often() -> bytes:
    """A page of 5,000 letters, that is ten thousand pages of its document."""
    lines = b"".join(b"1 0 0 1 9 %d Tm (%b) Tj " % (9 * row, b"x" * 100) for row in range(50))
    made = page(stream(b"BT /F 1 Tf %b ET" % lines))
    return made.replace(
        b"/Kids[3 0 R]/Count 1>>", b"/Kids[" + b"3 0 R " * 10_000 + b"]/Count 10000>>"
    )


FLATE = b"/Filter/FlateDecode"
HELLO = stream(b"BT /F 9 Tf 9 9 Td (hello) Tj ET")
NO_TEXT = "empty: no text and no image"
BROKEN_PDF = "broken pdf file|broken PDF"

PDFS = (
    Hostile(
        "flate-1-gb.pdf",
        lambda: page(stream(flate_bomb(b" " * 10**7, times=100), FLATE)),
        TOO_LARGE,
    ),
    Hostile("forms-in-forms.pdf", doubling_forms, TOO_LARGE),
    Hostile("form-in-itself.pdf", lambda: page(stream(b"/X Do"), {6: form(b"/X Do", 6)}), NO_TEXT),
    Hostile("pages-in-themselves.pdf", lambda: pages(b"/Kids[2 0 R]/Count 9"), BROKEN_PDF),
    Hostile(
        "pages-in-a-ring.pdf",
        lambda: pages(b"/Kids[3 0 R]/Count 9", b"<</Type/Pages/Parent 2 0 R/Kids[2 0 R]/Count 9>>"),
        BROKEN_PDF,
    ),
    Hostile("pages-two-billion.pdf", lambda: pages(b"/Kids[3 0 R]/Count 2147483647"), NO_TEXT),
    Hostile("pages-a-million.pdf", lambda: pages(b"/Kids[3 0 R]/Count 1000000"), BROKEN_PDF),
    Hostile("pages-less-than-none.pdf", lambda: pages(b"/Kids[3 0 R]/Count -1"), NO_TEXT),
    Hostile(
        "pages-all-the-same.pdf",
        one_page_very_often,
        f"its text is larger than the cap of 5 MB|{TOO_SLOW}",
    ),
    Hostile("arrays-in-arrays.pdf", lambda: pages(b"/Kids" + b"[" * 10**6), BROKEN_PDF),
    Hostile("operands-in-operands.pdf", lambda: page(stream(b"[" * 10**6)), NO_TEXT),
    Hostile(
        "length-of-2-gb.pdf", lambda: page(b"<</Length 2147483647>>stream\nx\nendstream"), NO_TEXT
    ),
    Hostile(
        "length-of-itself.pdf", lambda: page(b"<</Length 4 0 R>>stream\nx\nendstream"), NO_TEXT
    ),
    Hostile(
        "tables-in-a-ring.pdf",
        lambda: page(stream(b"x"), trailer=b"/Prev START"),
        BROKEN_PDF + "|" + NO_TEXT,
    ),
    Hostile(
        "objects-in-themselves.pdf",
        lambda: pages(
            b"/Kids 3 0 R", stream(b"3 0 <<>>", b"/Type/ObjStm/N 1/First 4/Extends 3 0 R")
        ),
        BROKEN_PDF + "|" + NO_TEXT,
    ),
    Hostile(
        "image-of-10-gb.pdf",
        lambda: page(
            stream(b"/X Do"),
            {
                6: stream(
                    b"x",
                    b"/Type/XObject/Subtype/Image/Width 60000/Height 60000/BitsPerComponent 8"
                    b"/ColorSpace/DeviceRGB",
                )
            },
        ),
        "no text layer",
    ),
    Hostile("cut-off.pdf", lambda: page(HELLO)[:300], BROKEN_PDF),
    Hostile("fine.pdf", lambda: page(HELLO), None),
)


# DOCX

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
BODY, RELATIONS = "word/document.xml", "_rels/.rels"


@cache
def sound_package() -> bytes:
    """An empty document as python-docx writes it."""
    target = io.BytesIO()
    docx.Document().save(target)
    return target.getvalue()


def package(changed: dict[str, str]) -> bytes:
    """A DOCX some of whose parts are replaced or added."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(sound_package())) as sound,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
    ):
        for entry in sound.infolist():
            if entry.filename not in changed:
                made.writestr(entry, sound.read(entry))
        for name, content in changed.items():
            made.writestr(name, content)
    return target.getvalue()


def body(xml: str, doctype: str = "") -> str:
    """The main part of a document."""
    return f"{doctype}<w:document {W}><w:body>{xml}</w:body></w:document>"


def text(content: str) -> str:
    """A paragraph."""
    return f"<w:p><w:r><w:t>{content}</w:t></w:r></w:p>"


def word(xml: str, doctype: str = "") -> bytes:
    """A DOCX of this body."""
    return package({BODY: body(xml, doctype)})


def doctype(*entities: str) -> str:
    """A document type that declares entities, none of which DOCX allows."""
    return f"<!DOCTYPE x [{''.join(f'<!ENTITY {entity}>' for entity in entities)}]>"


def laughs() -> str:
    """Nine entities, each of ten of the one before."""
    names = "abcdefghij"
    tens = [f'{name} "{f"&{last};" * 10}"' for last, name in pairwise(names)]
    return doctype('a "ha"', *tens)


def relations(target: str) -> bytes:
    """A DOCX that says that its main part is elsewhere."""
    one = f'<Relationship Id="r1" Type="{OFFICE}" Target="{target}"/>'
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return package({RELATIONS: f'<Relationships xmlns="{space}">{one}</Relationships>'})


def lying_directory() -> bytes:
    """A DOCX whose directory says that its parts are small."""
    made = bytearray(word(text("x" * 10**6)))
    at = made.rindex(b"PK\x01\x02")
    made[at + 24 : at + 28] = struct.pack("<I", 9)
    return bytes(made)


def honest_bomb() -> bytes:
    """A DOCX that unpacks to more than 100 MB and says so."""
    return package({f"word/media/{number}.xml": "\0" * 10**7 for number in range(11)})


BROKEN_DOCX = "broken docx file|broken DOCX"

DOCXS = (
    Hostile("paragraphs-8-million.docx", lambda: word("<w:p/>" * 8 * 10**6), TOO_LARGE),
    Hostile("text-of-50-mb.docx", lambda: word(text("x" * 5 * 10**7)), BROKEN_DOCX),
    Hostile(
        "text-of-9-mb.docx",
        lambda: word(text("x" * 9 * 10**6)),
        "its text is larger than the cap of 5 MB",
    ),
    Hostile(
        "unpacked-110-mb.docx", honest_bomb, "unpacked content is larger than the cap of 100 MB"
    ),
    Hostile("lying-directory.docx", lying_directory, BROKEN_DOCX),
    Hostile("billion-laughs.docx", lambda: word(text("&j;"), laughs()), BROKEN_DOCX),
    Hostile(
        "one-laugh-often.docx",
        lambda: word(text("&a;" * 50_000), doctype(f'a "{"a" * 10**5}"')),
        BROKEN_DOCX,
    ),
    Hostile(
        "entity-of-a-file.docx",
        lambda: word(text("x&a;y"), doctype('a SYSTEM "file:///etc/passwd"')),
        "declares a document type",
    ),
    Hostile("nested-100-thousand.docx", lambda: word("<w:sdt>" * 10**5), BROKEN_DOCX),
    Hostile(
        "cells-in-cells.docx",
        lambda: word("<w:tbl><w:tr><w:tc>" * 80 + text("x") + "</w:tc></w:tr></w:tbl>" * 80),
        None,
    ),
    Hostile(
        "entries-outside.docx",
        lambda: package(
            {BODY: body(text("x")), "../../../escaped.txt": "x", "/tmp/escaped.txt": "x"}
        ),
        None,
    ),
    Hostile("part-outside.docx", lambda: relations("/../../../../etc/passwd"), BROKEN_DOCX),
    Hostile("part-is-its-relations.docx", lambda: relations("_rels/.rels"), BROKEN_DOCX),
    Hostile("cut-off.docx", lambda: sound_package()[:-400], BROKEN_DOCX),
)


# HTML, text, rows

HTMLS = (
    Hostile("nested-200-thousand.html", lambda: b"<div>" * 200_000 + b"x", TOO_SLOW),
    Hostile("elements-12-million.html", lambda: b"<a>x" * 12 * 10**6, TOO_LARGE),
    Hostile("comment-never-closed.html", lambda: b"<!--" * 10**6, "empty"),
    Hostile(
        "formats-mixed-up.html",
        lambda: b"<a><b><i><u>" * 3_000 + b"</a></b></i></u>" * 3_000 + b"x",
        None,
    ),
    Hostile("tables-in-tables.html", lambda: b"<table><tr><td>" * 3_000 + b"x", None),
    Hostile("style-of-4-mb.html", lambda: b'<p style="' + b"display " * 500_000 + b'">x', None),
    Hostile("charset-of-2-kb.html", lambda: b"<meta charset=" + b"x" * 2_000 + b"><p>\xff", None),
)

TEXTS = (
    Hostile(
        "text-of-11-mb.txt", lambda: b"x" * 11 * 10**6, "its text is larger than the cap of 5 MB"
    ),
    Hostile("half-a-pair.txt", lambda: b"\xff\xfe" + b"\x00\xd8x", "starts like UTF-16"),
    Hostile("controls.txt", lambda: bytes(range(1, 256)), "neither UTF-8"),
    Hostile("nothing.txt", lambda: b"\n" * 10**6, "empty"),
)

ROWS = (
    Hostile("nested.jsonl", lambda: b"[" * 10**6, "not JSON"),
    Hostile("number.jsonl", lambda: b'{"text": ' + b"9" * 10**6 + b"}", "not JSON"),
    Hostile(
        "field-of-4-mb.jsonl",
        lambda: b'{"' + b"x" * 4 * 10**6 + b'": 1}',
        "no field 'text', only 'x{50}'$",
    ),
    Hostile(
        "quote-never-closed.csv",
        lambda: b'text\n"' + (b"x" * 99 + b"\n") * 10**5,
        "close its open quote",
    ),
    Hostile(
        "columns-2-million.csv", lambda: b"x," * 2 * 10**6 + b"\n", r"which column is the text\?"
    ),
)

SPARSE = (
    *(
        Hostile(f"sparse.{kind}", bytes, "the file is larger than the cap of 50 MB")
        for kind in ("txt", "html", "pdf", "docx")
    ),
    Hostile("sparse.jsonl", bytes, "no end within 100 MB"),
    Hostile("sparse.csv", bytes, "no end within 100 MB"),
)

NAMES = (
    Hostile("line\nend\x1b[31m\u202e.txt", lambda: b"x", None),
    Hostile("\udcff\udcfe.html", lambda: b"x", None),
    Hostile("a..%2f..%2fetc%2fpasswd.txt", lambda: b"x", None),
    Hostile("-rf *.txt", lambda: b"x", None),
)

HOSTILE = (*PDFS, *DOCXS, *HTMLS, *TEXTS, *ROWS, *SPARSE, *NAMES)


def write(folder: Path, hostile: Hostile) -> Path:
    """Put a hostile file into a folder."""
    path = folder / hostile.name
    path.write_bytes(hostile.make())
    if hostile in SPARSE:
        with path.open("r+b") as file:
            file.truncate(SPARSE_BYTES)
    return path


def ends_as_it_must(hostile: Hostile, *, text: str | None, error: str | None) -> bool:
    """Whether a text, or the reason why there is none, is what this file must give."""
    if hostile.reason is None:
        return text is not None
    return text is None and re.search(hostile.reason, error or "") is not None
