"""Decides whether a document says what an extraction says, and where each value stands in it.

A `Stated` value is looked for in the document. A `Grounded[T]` brings its own quote: the quote must
be in the document (exactly, else with letter case, blanks and widths aside, else, for prose only,
nearly), and the value must follow from the quote. What has no ground is an error of its field.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any

from runner.fields import Compare, FieldSpec
from runner.model import Evidence, FieldError, How

from .amounts import Amounts
from .dates import days
from .words import Folded, Span, alike, exact, folded

SHOWN_CHARS_MAX = 80
PLACES_MAX = 50  # of one value that are looked at to choose the likeliest
MISSES_MAX = 20  # after so many the rest is not looked for: long lists invented for long documents


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the values of an extraction stand, and what has no ground."""

    evidence: tuple[Evidence, ...]
    errors: tuple[FieldError, ...]


@dataclass
class _Document:
    """A text, read once when a value asks for its kind, and what was found in it so far."""

    text: str
    bare: bool = False
    evidence: list[Evidence] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)
    in_row: bool = False  # the value is a part of a list's element
    row_starts: int | None = None  # where the present element's first value was found
    rows_end: int = 0  # where the first value of the last element was

    @cached_property
    def folded(self) -> Folded:
        return Folded(self.text)

    @cached_property
    def amounts(self) -> Amounts:
        return Amounts(self.text)

    @cached_property
    def days(self) -> Mapping[date, list[Span]]:
        return days(self.text)

    def begin_row(self) -> None:
        if self.row_starts is not None:
            self.rows_end = self.row_starts + 1
        self.in_row, self.row_starts = True, None

    def end_rows(self) -> None:
        self.in_row, self.row_starts, self.rows_end = False, None, 0


def ground(spec: FieldSpec, data: Any, text: str, *, bare: bool = False) -> Ground:
    """Look for every stated and grounded value of `data` in the document.

    `data` is the schema's model as plain Python values (dates and decimals may be such, or as in
    JSON). A grounded value must bring its quote, unless `bare`: what people write has none. The
    search ends after 20 values without ground.
    """
    document = _Document(text, bare)
    _ground(spec, data, "", document)
    return Ground(tuple(document.evidence), tuple(document.errors))


def _ground(spec: FieldSpec, value: Any, path: str, document: _Document) -> None:
    if value is None or len(document.errors) >= MISSES_MAX:
        return
    if spec.quoted:
        _quoted(spec, value, path, document)
    elif spec.parts is not None:
        for name, part in spec.parts:
            _ground(part, value.get(name), _joined(path, name), document)
    elif spec.element is not None:
        _ground_rows(spec.element, value, path, document)
    elif spec.stated is not None and value not in spec.stated.unless:
        _stated(spec, value, path, document)


def _ground_rows(element: FieldSpec, rows: Iterable[Any], path: str, document: _Document) -> None:
    for place, row in enumerate(rows):
        document.begin_row()
        _ground(element, row, _joined(path, str(place)), document)
    document.end_rows()


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _stated(spec: FieldSpec, value: Any, path: str, document: _Document) -> None:
    found = _likeliest(_places(spec, value, document), path, document)
    if found is not None:
        document.evidence.append(Evidence(path, *found))
        if document.in_row and document.row_starts is None:
            document.row_starts = found[0]
        return
    document.errors.append(
        FieldError(
            path,
            f"{_shown(value)} does not occur in the document: take what the document states, "
            "or null where it states nothing",
        )
    )


def _quoted(spec: FieldSpec, value: Mapping[str, Any], path: str, document: _Document) -> None:
    quote, said = str(value["quote"]).strip(), value["value"]
    if not quote and document.bare:
        _bare(spec, said, path, document)
    elif (found := _quote_place(spec, quote, document)) is None:
        lack = f"the quote {_shown(quote)} is not in the document" if quote else "no quote is given"
        advice = "copy the words verbatim that give the value, or give null"
        document.errors.append(FieldError(path, f"{lack}: {advice}"))
    elif not _follows(spec, said, quote):
        document.errors.append(
            FieldError(path, f"{_shown(said)} does not follow from its quote {_shown(quote)}")
        )
    else:
        document.evidence.append(Evidence(path, *found))


def _bare(spec: FieldSpec, said: Any, path: str, document: _Document) -> None:
    """A value that a person wrote: found where that is possible, else taken at their word."""
    if not _is_judged(spec, said):
        _stated(spec, said, path, document)


def _quote_place(spec: FieldSpec, quote: str, document: _Document) -> tuple[int, int, How] | None:
    if not quote:
        return None
    start = document.text.find(quote)
    if start >= 0:
        return start, start + len(quote), How.EXACT
    for span in document.folded.places(quote, whole=False):
        return *span, How.NORMALISED
    if spec.compare is Compare.PROSE:
        near = alike(quote, document.folded)
        return None if near is None else (*near, How.FUZZY)
    return None


def _follows(spec: FieldSpec, value: Any, quote: str) -> bool:
    """Whether a value stands in its quote; what is judged or worded anew cannot be told by that."""
    return _is_judged(spec, value) or any(True for _ in _places(spec, value, _Document(quote)))


def _is_judged(spec: FieldSpec, value: Any) -> bool:
    if value is None or spec.compare in (Compare.PROSE, Compare.CHOICE):
        return True
    return spec.parts is not None or spec.element is not None


# Where a value stands


def _places(spec: FieldSpec, value: Any, document: _Document) -> Iterator[tuple[int, int, How]]:
    """Every place of a value, the closest writings first."""
    match spec.compare:
        case Compare.AMOUNT:
            number = _number(value)
            yield from _as(document.amounts.places(number) if number is not None else (), How.EXACT)
        case Compare.DATE:
            day = _day(value)
            yield from _as(document.days.get(day, ()) if day else (), How.EXACT)
        case Compare.PROSE:
            yield from _word_places(str(value), document)
            if (span := alike(str(value), document.folded)) is not None:
                yield *span, How.FUZZY
        case _:
            yield from _word_places(_words(value), document)
    if spec.stated is not None:
        for writing in spec.stated.written.get(_words(value), ()):
            yield from _writing_places(writing, document.text)


def _as(spans: Iterable[Span], how: How) -> Iterator[tuple[int, int, How]]:
    return ((span.start, span.end, how) for span in spans)


def _word_places(words: str, document: _Document) -> Iterator[tuple[int, int, How]]:
    first = next(places := exact(words, document.text), None)
    if first is not None:
        yield from _as(chain([first], places), How.EXACT)
    elif folded(words):
        yield from _as(document.folded.places(words), How.NORMALISED)


def _writing_places(writing: str, text: str) -> Iterator[tuple[int, int, How]]:
    if any(sign.isalnum() for sign in writing):
        yield from _as(exact(writing, text), How.NORMALISED)
        return
    start = text.find(writing)  # a sign such as € stands beside anything
    if start >= 0:
        yield start, start + len(writing), How.NORMALISED


def _words(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _day(value: Any) -> date | None:
    if isinstance(value, date):  # a datetime is one
        return date(value.year, value.month, value.day)
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _likeliest(
    places: Iterator[tuple[int, int, How]], path: str, document: _Document
) -> tuple[int, int, How] | None:
    """Of several places the one that fits best, of equals the first.

    In a list that is the first place after the last element's, then what is nearest to the
    element's own line; elsewhere one whose line names the field.
    """
    found = list(islice(places, PLACES_MAX))
    if len(found) < 2:  # noqa: PLR2004 - a choice
        return found[0] if found else None
    if not document.in_row:
        names = [name for name in path.rpartition(".")[2].casefold().split("_") if name]
        return max(found, key=lambda place: _names_before(place[0], names, document.text))
    if document.row_starts is None:
        return min(found, key=lambda place: place[0] < document.rows_end)
    return min(found, key=partial(_rows_apart, document))


def _names_before(start: int, names: Iterable[str], text: str) -> int:
    line = text[text.rfind("\n", 0, start) + 1 : start].casefold()
    return sum(name in line for name in names)


def _rows_apart(document: _Document, place: tuple[int, int, How]) -> tuple[int, int]:
    """How far a place is from its row: lines between them, then characters, what follows first."""
    row, start = document.row_starts or 0, place[0]
    lines = document.text.count("\n", min(row, start), max(row, start))
    return lines, start - row if start >= row else (row - start) + len(document.text)


def _shown(value: Any) -> str:
    words = _words(value)
    return repr(words if len(words) <= SHOWN_CHARS_MAX else words[: SHOWN_CHARS_MAX - 1] + "…")
