"""Pages of HTML: texts are cut at their evidence, and nothing from outside becomes markup."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from runner.ledger.calls import DocumentView
from runner.model import Evidence, How
from runner.pages.document import document_page, field_lines
from runner.pages.marking import leaves, pieces

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\u202e'


class Seen(HTMLParser):
    """The elements of a page, and the text that a person reads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def marked(self) -> list[str | None]:
        """What each marked place says it is."""
        return [attributes.get("title") for tag, attributes in self.elements if tag == "mark"]


def view_of(text: str | None, *, data: object, evidence: tuple[Evidence, ...] = ()) -> DocumentView:
    return DocumentView(
        id="d1",
        batch_id="b1",
        batch_name="june",
        job="invoice",
        state="review",
        turn=1,
        reason="not_grounded",
        message=HOSTILE,
        attempts=1,
        deferrals=0,
        crashes=0,
        calls=1,
        cost_nusd=1_200_000,
        ambiguous_nusd=0,
        created_us=0,
        due_us=0,
        finished_us=1_000_000,
        pruned_us=None,
        sources=(HOSTILE,),
        text=text,
        data=data,
        flags=(),
        evidence=evidence,
        model="small",
        prompt_id="p1",
    )


spans = st.lists(
    st.tuples(st.text("ab.", min_size=1, max_size=3), st.integers(-2, 30), st.integers(-2, 30)),
    max_size=8,
)


@given(text=st.text(max_size=25), spans=spans)
def test_pieces_are_the_text_and_each_stands_where_its_evidence_says(
    text: str, spans: list[tuple[str, int, int]]
) -> None:
    evidence = [Evidence(path, start, end, How.EXACT) for path, start, end in spans]
    found = pieces(text, evidence)
    assert "".join(piece.text for piece in found) == text
    place = 0
    for piece in found:
        inside = [
            one.path
            for one in evidence
            if 0 <= one.start <= place < one.end <= len(text) and one.start < one.end
        ]
        assert sorted(piece.paths) == sorted(inside)
        place += len(piece.text)
    first = [path for piece in found for path in piece.first_of]
    fitting = [one.path for one in evidence if 0 <= one.start < one.end <= len(text)]
    assert sorted(first) == sorted(fitting)


def test_leaves_name_every_value_by_its_path() -> None:
    data = {"lines": [{"price": 2}, {"price": None}], "none": [], "title": "T"}
    assert list(leaves(data)) == [
        ("lines.0.price", 2),
        ("lines.1.price", None),
        ("none", []),
        ("title", "T"),
    ]


def test_a_field_is_shown_with_the_words_it_stands_on() -> None:
    text = "Acme owes 12.50"
    evidence = (
        Evidence("total", 10, 15, How.EXACT),
        Evidence("parties", 0, 4, How.NORMALISED),
    )
    view = view_of(text, data={"total": 12.5, "parties": ["ACME"], "due": None}, evidence=evidence)
    assert [(line.path, line.words) for line in field_lines(view)] == [
        ("total", "12.50"),
        ("parties.0", "Acme"),
        ("due", None),
    ]
    page = Seen(document_page(view, calls=(), events=()))
    assert page.marked() == ["parties", "total"]
    anchors = {attributes.get("id") for _, attributes in page.elements}
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links == {"#at-total", "#at-parties"}
    assert {str(link)[1:] for link in links} <= anchors


def test_nothing_from_outside_becomes_markup() -> None:
    evidence = (Evidence(f"a{HOSTILE}", 0, len(HOSTILE), How.EXACT),)
    view = view_of(HOSTILE, data={f"a{HOSTILE}": HOSTILE}, evidence=evidence)
    page = Seen(document_page(view, calls=(), events=()))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "link", "iframe"})
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert page.text.count(HOSTILE) >= 4, "shown as it is"  # title, head, message, value, text
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_a_document_without_text_or_record_has_a_page() -> None:
    page = Seen(document_page(view_of(None, data=None), calls=(), events=()))
    assert "not kept any more" in page.text
    assert "no record" in page.text
