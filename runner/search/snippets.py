"""Shows where in a text the words stand that were searched for.

The few texts that are shown are indexed once more, in memory: so that what is marked is exactly
what SQLite's full-text search takes for a hit, and a text that was changed or removed since it was
indexed is found out.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from runner.search.store import TOKENIZER

WORDS_AROUND = 24
# no text has these: controls are taken out of what is indexed
_OPEN, _CLOSE = "\x02", "\x03"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text around a hit; `marks` are the hits in it: from, up to, in characters."""

    text: str
    marks: tuple[tuple[int, int], ...]
    is_of_other: bool  # the hit is in the second part of the piece

    @property
    def marked(self) -> str:
        """The text with brackets around each hit."""
        parts, end = [], 0
        for start, stop in self.marks:
            parts += [self.text[end:start], "[", self.text[start:stop], "]"]
            end = stop
        return "".join([*parts, self.text[end:]])


def snippets(query: str, pieces: Iterable[tuple[int, str, str]]) -> Mapping[int, Snippet]:
    """Of pieces (a number, and two parts of a text that count as one) those that the query hits."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute(f"CREATE VIRTUAL TABLE piece USING fts5 (one, other, {TOKENIZER})")
        db.executemany("INSERT INTO piece (rowid, one, other) VALUES (?, ?, ?)", pieces)
        rows = db.execute(
            "SELECT rowid, snippet(piece, 0, ?1, ?2, '…', ?3), snippet(piece, 1, ?1, ?2, '…', ?3) "
            "FROM piece WHERE piece MATCH ?4",
            (_OPEN, _CLOSE, WORDS_AROUND, query),
        )
        return {
            number: _read(other, is_of_other=True)
            if _OPEN not in one
            else _read(one, is_of_other=False)
            for number, one, other in rows
        }


def _read(written: str, *, is_of_other: bool) -> Snippet:
    text, marks = "", []
    for part in written.split(_OPEN):
        hit, close, rest = part.partition(_CLOSE)
        if close:
            marks.append((len(text), len(text) + len(hit)))
        text += hit + rest
    return Snippet(text, tuple(marks), is_of_other)
