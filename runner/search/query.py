"""What a person typed to search for, as a query of SQLite's full-text search.

Words, "phrases" and the beginning of a word with `*` behind it; all of them must stand in the same
piece (answer and message of a call, a document's text, the name of a source). Everything is quoted:
nothing typed is an operator.
"""

import re
import unicodedata

from runner.errors import UsageError

PREFIX_CHARS_MIN = 2  # one letter stands for a tenth of all words
TERMS_MAX = 20
CHARS_MAX = 1_000

_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TERM = re.compile(r'"([^"]*)"(\*?)|([^\s"]+)')


def match_query(words: str) -> str:
    """The query. Raises UsageError that says what is wrong with the words."""
    if len(words) > CHARS_MAX:
        raise UsageError(f"the words are longer than {CHARS_MAX:,} characters: search for fewer")
    if words.count('"') % 2:
        raise UsageError(f"{words}: a quotation mark is open: close the phrase, or leave it out")
    terms = [_term(found) for found in _TERM.finditer(words)]
    if not terms:
        raise UsageError(
            'nothing to search for: give words, "phrases", or the beginning of a word*'
        )
    if len(terms) > TERMS_MAX:
        raise UsageError(f"{len(terms)} terms are more than {TERMS_MAX}: search for fewer")
    return " ".join(terms)


def _term(found: re.Match[str]) -> str:
    phrase, star, word = found.groups()
    text = phrase if word is None else word.removesuffix("*")
    is_prefix = bool(star) if word is None else word.endswith("*")
    if "*" in text:
        raise UsageError(f"{found[0]}: a * stands only behind a word or a phrase")
    letters = sum(map(_is_letter, text))
    if letters == 0:
        raise UsageError(f"{found[0]}: there is no letter and no digit to search for in it")
    if is_prefix and sum(map(_is_letter, re.split(r"\W+", text)[-1] or text)) < PREFIX_CHARS_MIN:
        raise UsageError(f"{found[0]}: give at least {PREFIX_CHARS_MIN} letters before the *")
    return f'"{clean(text)}"' + (" *" if is_prefix else "")


def _is_letter(sign: str) -> bool:
    # what SQLite's tokenizer takes for a part of a word
    return unicodedata.category(sign)[0] in "LN" or unicodedata.category(sign) == "Co"


def clean(text: str) -> str:
    """A text as it is indexed, searched and shown: half surrogate pairs and controls are blanks."""
    return _NO_TEXT.sub(" ", text)
