"""What `runner revalidate` and `runner compare` print with `--json`."""

from collections.abc import Mapping
from typing import Any, Self

from runner.batchdiff import BatchDiff, Differing, FieldCount
from runner.cli.shapes.base import Shape
from runner.evals.comparing import Compared
from runner.revalidation import Revalidated


class PlaceShape(Shape):
    """A place of two records that differs."""

    place: str
    before: Any  # of batch A, or of the record
    after: Any  # of batch B, or of the answer as it is read now

    @classmethod
    def of(cls, found: Compared) -> Self:
        """A place as it was compared."""
        return cls(place=found.place, before=found.expected, after=found.got)


class RevalidatedShape(Shape):
    """A document of which the present code thinks otherwise."""

    document_id: str
    source: str
    state: str  # before
    verdict: str  # changed, now_good or now_bad
    reason: str | None  # why it is not good now
    message: str | None
    places: tuple[PlaceShape, ...]

    @classmethod
    def of(cls, found: Revalidated) -> Self:
        """A document that was looked at again."""
        return cls(
            document_id=found.document_id,
            source=found.source,
            state=found.state.value,
            verdict=found.verdict.value,
            reason=None if found.failure is None else found.failure.fault.value,
            message=None if found.failure is None else found.failure.message,
            places=tuple(PlaceShape.of(one) for one in found.differing),
        )


class RevalidationShape(Shape):
    """`revalidate`: what a batch's stored answers are by the present schema and checks."""

    batch: str
    documents: int
    same: int
    changed: int
    now_good: int
    now_bad: int
    still_bad: int
    no_answer: int
    decided: int
    applied: int | None  # documents that were written anew; null: only looked at
    listed: tuple[RevalidatedShape, ...]  # what changed, --limit at most


class FieldCountShape(Shape):
    """How often two batches agree in a field."""

    same: int
    differ: int
    only_a: int
    only_b: int

    @classmethod
    def of(cls, found: FieldCount) -> Self:
        """A field as it was counted."""
        return cls(same=found.same, differ=found.differ, only_a=found.only_a, only_b=found.only_b)


class DifferingShape(Shape):
    """A document that two batches have different records of."""

    source: str
    document_a: str
    document_b: str
    state_a: str
    state_b: str
    places: tuple[PlaceShape, ...]

    @classmethod
    def of(cls, found: Differing) -> Self:
        """A document as it was compared."""
        a, b = found.pair.a, found.pair.b
        assert a is not None
        assert b is not None
        return cls(
            source=a.source,
            document_a=a.document_id,
            document_b=b.document_id,
            state_a=a.state,
            state_b=b.state,
            places=tuple(PlaceShape.of(one) for one in found.places),
        )


class StatePairShape(Shape):
    """How many documents ended so in A and so in B."""

    state_a: str
    state_b: str
    documents: int


class CompareShape(Shape):
    """`compare`: two batches of the same documents, field by field."""

    a: str
    b: str
    both: int  # documents, by their text
    only_a: int
    only_b: int
    with_records: int  # of both, those of which both have data
    same: int  # of those, equal in every field
    states: tuple[StatePairShape, ...]
    fields: Mapping[str, FieldCountShape]
    differing: tuple[DifferingShape, ...]  # --limit at most

    @classmethod
    def of(cls, a: str, b: str, found: BatchDiff) -> Self:
        """Two batches as they were compared."""
        return cls(
            a=a,
            b=b,
            both=found.both,
            only_a=found.only_a,
            only_b=found.only_b,
            with_records=found.with_records,
            same=found.same,
            states=tuple(
                StatePairShape(state_a=one, state_b=other, documents=count)
                for (one, other), count in sorted(found.states.items())
            ),
            fields={name: FieldCountShape.of(one) for name, one in found.fields.items()},
            differing=tuple(DifferingShape.of(one) for one in found.differing),
        )
