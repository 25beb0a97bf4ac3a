"""Tells wrong values apart by what could have caught them: their ground, or nothing but judgement.

The failure that matters is the value that looks fine, is wrong, and ends as done. What the document
does not say is caught by grounding; what stands elsewhere in it is not.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from runner.fields import FieldSpec, Stated
from runner.grounding import ground

from .comparing import Compared, FieldOutcome


class WrongKind(StrEnum):
    """What is wrong with a value of a record, by what the document has of it."""

    NOT_IN_DOCUMENT = "not_in_document"  # must be stated, and is not
    ELSEWHERE = "elsewhere"  # must be stated, and stands somewhere: of another field, or half
    JUDGED = "judged"  # a field that the document need not state in these words
    MISSED = "missed"  # no value where one was expected


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongValues:
    """How many values of each kind, by the state that their document ended in."""

    done: Counter[WrongKind]
    review: Counter[WrongKind]

    @property
    def silent(self) -> int:
        """Wrong values that nothing pointed at."""
        return sum(self.done.values())


def kind_of(spec: FieldSpec, leaf: Compared, text: str) -> WrongKind | None:
    """What kind of wrong a leaf is; None when it is right. `spec` is the whole schema's."""
    if leaf.is_right:
        return None
    if leaf.outcome is FieldOutcome.MISSED:
        return WrongKind.MISSED
    field = _spec_at(spec, leaf.field)
    if field.stated is None and not field.quoted:
        return WrongKind.JUDGED
    # a quote is not kept with the data: the value itself is looked for, as a stated one is
    plain = replace(field, quoted=False, stated=field.stated or Stated())
    missing = ground(plain, leaf.got, text).errors
    return WrongKind.NOT_IN_DOCUMENT if missing else WrongKind.ELSEWHERE


def wrong_values(
    spec: FieldSpec, documents: Iterable[tuple[str, Iterable[Compared], str]]
) -> WrongValues:
    """Count the wrong values of documents given as (state, leaves, text).

    Only documents with a record (done, review) are counted: others have given no value.
    """
    found = {"done": Counter[WrongKind](), "review": Counter[WrongKind]()}
    for state, leaves, text in documents:
        if state in found:
            kinds = (kind_of(spec, leaf, text) for leaf in leaves)
            found[state].update(kind for kind in kinds if kind is not None)
    return WrongValues(done=found["done"], review=found["review"])


def _spec_at(spec: FieldSpec, field: str) -> FieldSpec:
    """The part of a schema at a generic path such as `line_items[].amount`."""
    for name in filter(None, field.replace("[]", ".[]").split(".")):
        if name == "[]":
            assert spec.element is not None
            spec = spec.element
        else:
            spec = dict(spec.parts or ())[name]
    return spec
