"""Whole files: real PDF, DOCX, HTML and text files become text, broken ones an error."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import docx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from runner.errors import UnparsableError
from runner.loaders import FILE_MAX_BYTES, TEXT_MAX_BYTES, iter_sources, parse


def pdf_of(*pages: str, password: str | None = None) -> bytes:
    target = io.BytesIO()
    encryption = StandardEncryption(password) if password else None
    canvas = Canvas(target, encrypt=encryption)
    for page in pages:
        for number, line in enumerate(page.splitlines()):
            canvas.drawString(72, 720 - 14 * number, line)
        canvas.showPage()
    canvas.save()
    return target.getvalue()


def scanned_pdf(pages: int) -> bytes:
    target = io.BytesIO()
    canvas = Canvas(target)
    for _ in range(pages):
        canvas.drawImage(ImageReader(Image.new("RGB", (40, 40), "white")), 0, 0)
        canvas.showPage()
    canvas.save()
    return target.getvalue()


def docx_of(document: object) -> bytes:
    target = io.BytesIO()
    document.save(target)  # type: ignore[attr-defined]  # python-docx names no public type
    return target.getvalue()


def docx_with_body(xml: str, *, prolog: str = "") -> bytes:
    """A package whose body is `xml`: what Word writes and python-docx cannot."""
    packed = io.BytesIO(docx_of(docx.Document()))
    target = io.BytesIO()
    namespaces = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    )
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "word/document.xml":
                part = f"{prolog}<w:document {namespaces}><w:body>{xml}</w:body></w:document>"
                content = part.encode()
            new.writestr(entry, content)
    return target.getvalue()


def test_a_pdf_gives_its_pages_divided_by_form_feeds() -> None:
    assert parse("pdf", pdf_of("Invoice 7\nTotal 12.50", "Thank you")) == (
        "Invoice 7\nTotal 12.50\fThank you"
    )


def test_a_word_hyphenated_at_a_line_end_of_a_pdf_keeps_hyphen_and_line() -> None:
    assert parse("pdf", pdf_of("exam-\nple")) == "exam-\nple"


def test_a_pdf_of_empty_pages_does_not_ask_for_ocr() -> None:
    with pytest.raises(UnparsableError, match="empty: no text and no image on its 2 pages"):
        parse("pdf", pdf_of("", ""))


def test_a_scanned_pdf_says_how_many_pages_and_to_run_ocr() -> None:
    with pytest.raises(UnparsableError, match="no text layer: 3 pages of images; run OCR first"):
        parse("pdf", scanned_pdf(3))


def test_an_encrypted_pdf_says_so() -> None:
    with pytest.raises(UnparsableError, match="encrypted PDF"):
        parse("pdf", pdf_of("secret", password="hunter2"))


def test_a_docx_gives_paragraphs_and_tables_in_document_order() -> None:
    document = docx.Document()
    document.add_paragraph("Before")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip((c for row in table.rows for c in row.cells), "abcd", strict=True):
        cell.text = text
    document.add_paragraph("After")
    document.sections[0].header.paragraphs[0].text = "Acme Ltd"
    document.sections[0].footer.paragraphs[0].text = "Page"
    assert parse("docx", docx_of(document)) == "Acme Ltd\nBefore\na | b\nc | d\nAfter\nPage"


def test_a_merged_cell_and_a_table_in_a_cell_stand_once() -> None:
    document = docx.Document()
    table = document.add_table(rows=2, cols=2)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(1, 0).add_table(rows=1, cols=1).cell(0, 0).text = "inner"
    table.cell(1, 1).text = "right"
    assert parse("docx", docx_of(document)) == "wide\ninner | right"


def test_a_docx_gives_content_controls_insertions_and_text_boxes_but_nothing_deleted() -> None:
    body = (
        "<w:sdt><w:sdtPr><w:t>never</w:t></w:sdtPr><w:sdtContent>"
        "<w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:ins><w:r><w:t>new</w:t><w:tab/></w:r>"
        "</w:ins><w:del><w:r><w:t>old</w:t></w:r></w:del><w:r><w:t>kept</w:t><w:br/></w:r></w:p>"
        "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r>"
        "</w:p></w:txbxContent></mc:Choice><mc:Fallback><w:txbxContent><w:p><w:r><w:t>box</w:t>"
        "</w:r></w:p></w:txbxContent></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    assert parse("docx", docx_with_body(body)).split("\n") == [
        *("control", "new\tkept", "", "", "box", "")
    ]


def test_a_docx_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for number in range(11):
            package.writestr(f"{number}.xml", bytes(10_000_000))
    with pytest.raises(UnparsableError, match="unpacked content is larger than the cap of 100 MB"):
        parse("docx", target.getvalue())


def test_a_docx_keeps_what_follows_a_comment_and_refuses_a_document_type() -> None:
    body = "<w:p><w:r><w:t>one<!-- note --> two</w:t></w:r></w:p>"
    assert parse("docx", docx_with_body(body)) == "one two"
    with pytest.raises(UnparsableError, match="declares a document type"):
        parse("docx", docx_with_body(body, prolog='<!DOCTYPE x [<!ENTITY a "b">]>'))


def test_an_old_doc_file_is_named_as_such() -> None:
    with pytest.raises(UnparsableError, match=r"old \.doc file or an encrypted one"):
        parse("docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))


def test_html_gives_the_title_and_the_visible_text_line_by_line() -> None:
    page = """<html><head><title>Offer &amp; more</title><style>p {}</style></head><body>
      <h1>Hello   <b>world</b></h1><script>alert(1)</script><p hidden>ghost</p>
      <p style="color:red; display : none">ghost</p><!-- ghost -->
      <div>one<br>two</div><ul><li>x<li>y</ul><pre>a\n  b</pre>end</body></html>"""
    assert parse("html", page.encode()).split("\n") == [
        *("Offer & more", "Hello world", "one", "two", "x", "y", "a", "  b", "end")
    ]


def test_an_html_table_gives_one_line_a_row() -> None:
    page = b"<table><tr><th>Item</th><th>Price</th><tr><td><p>Tea</p>black<td> 2.50 </table>"
    assert parse("html", page) == "Item | Price\nTea black | 2.50"


def test_an_html_layout_of_tables_in_tables_keeps_the_inner_rows() -> None:
    inner = "<table><tr><td>a<td>b</tr><tr><td>c<td>d</tr></table>"
    page = f"<table><tr><td>logo<td>{inner}</tr></table>"
    assert parse("html", page.encode()) == "logo\na | b\nc | d"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "utf-8"),
        ("", "utf-16"),
        ("", "cp1252"),
        ('<meta charset="iso-8859-1">', "cp1252"),
        ('<meta charset="iso-8859-15">', "iso-8859-15"),
        ('<meta http-equiv="x" content="text/html; charset=windows-1250">', "windows-1250"),
        ('<meta charset="punycode">', "cp1252"),
    ],
)
def test_html_is_decoded_by_its_mark_by_utf8_or_as_declared(head: str, encoding: str) -> None:
    page = f"<head>{head}</head><p>Preis 5 €, schön</p>"
    assert parse("html", page.encode(encoding)) == "Preis 5 €, schön"


def test_html_nested_ten_thousand_deep_is_read() -> None:
    assert parse("html", b"<div>" * 10_000 + b"deep") == "deep"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_read_in_every_usual_encoding(encoding: str) -> None:
    assert parse("text", "Größe „5 €\r\nzwei\rdrei".encode(encoding)) == "Größe „5 €\nzwei\ndrei"


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("text", b"", "empty"),
        ("text", b" \r\n\t", "empty"),
        ("text", b"a\0b", "NUL bytes"),
        ("text", b"\x89PNG\r\n\x1a\x01\xff", "neither UTF-8"),
        ("text", b"\x81\x8d", "neither UTF-8"),
        ("text", b"\xff\xfea", "starts like UTF-16"),
        ("html", b"<script>only()</script>", "empty"),
        ("html", b"\0", "NUL bytes"),
        ("pdf", b"", "broken PDF"),
        ("pdf", b"%PDF-1.7 nonsense", "broken PDF"),
        ("docx", b"not a zip", "not a zip package"),
    ],
)
def test_what_cannot_be_text_says_why(kind: str, content: bytes, message: str) -> None:
    with pytest.raises(UnparsableError, match=message):
        parse(kind, content)


@given(st.sampled_from(["text", "html", "pdf", "docx"]), st.binary(max_size=300), st.integers(0))
def test_parsing_damaged_bytes_raises_nothing_but_unparsable(
    kind: str, noise: bytes, place: int
) -> None:
    sound = SOUND_FILES[kind]
    at = place % len(sound)
    try:
        text = parse(kind, sound[:at] + noise + sound[at + len(noise) :])
    except UnparsableError:
        return
    assert text.strip()


SOUND_FILES = {
    "text": "Grüße".encode(),
    "html": b"<p>hello<table><tr><td>x",
    "pdf": pdf_of("hello"),
    "docx": docx_of(docx.Document()),
}


def test_a_zip_that_is_no_docx_is_a_broken_docx() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as package:
        package.writestr("a.txt", "hello")
    with pytest.raises(UnparsableError, match="broken docx file"):
        parse("docx", target.getvalue())


def test_one_bad_file_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b.pdf").write_bytes(b"broken")
    (tmp_path / "c.docx").write_bytes(b"broken")
    (tmp_path / "d.PDF").write_bytes(pdf_of("last"))
    sources = list(iter_sources([str(tmp_path)]))
    assert [source.text for source in sources] == ["first", None, None, "last"]
    assert [bool(source.error) for source in sources] == [False, True, True, False]
    assert sources[1].content == b"broken"


def test_the_identity_of_a_file_is_its_raw_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfx\r\n")
    [source] = iter_sources([str(tmp_path / "a.txt")])
    assert (source.content, source.text) == (b"\xef\xbb\xbfx\r\n", "x\n")


def test_a_file_over_the_cap_is_not_parsed_and_names_the_cap(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        with (tmp_path / name).open("wb") as big:
            big.truncate(FILE_MAX_BYTES + 1)
    first, second = iter_sources([str(tmp_path)])
    assert first.error == "the file is larger than the cap of 50 MB: split it"
    assert first.content != second.content


def test_a_text_over_the_cap_names_the_cap() -> None:
    with pytest.raises(UnparsableError, match="its text is larger than the cap of 5 MB"):
        parse("text", b"x" * (TEXT_MAX_BYTES + 1))
    assert len(parse("text", b"x" * TEXT_MAX_BYTES)) == TEXT_MAX_BYTES


def test_no_heavy_library_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, runner.loaders as l; l.parse('text', b'x');"
        "print([name for name in ('pypdfium2', 'docx', 'lxml', 'selectolax') "
        "if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert run.stdout.strip() == b"[]"


def test_a_scanned_page_among_pages_of_text_is_named_in_the_text(tmp_path: Path) -> None:
    picture = tmp_path / "scan.png"
    Image.new("RGB", (40, 40), "white").save(picture)
    path = tmp_path / "half.pdf"
    page = Canvas(str(path))
    page.drawString(72, 700, "Invoice number: A-1")
    page.showPage()
    page.drawImage(str(picture), 10, 10)
    page.showPage()
    page.save()
    text = parse("pdf", path.read_bytes())
    assert "Invoice number: A-1" in text
    assert "[page 2 has no text layer]" in text
