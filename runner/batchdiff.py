"""Compares two batches of the same documents, field by field."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel

from runner.evals.comparing import Compared, FieldOutcome, compared
from runner.fields import FieldSpec, spec_of
from runner.ledger import Ledger
from runner.ledger.pairs import Pair, pairs
from runner.ledger.submission import Batch


@dataclass(slots=True)
class FieldCount:
    """How often two batches agree in a field. Both null counts as nothing."""

    same: int = 0
    differ: int = 0
    only_a: int = 0
    only_b: int = 0

    def note(self, outcome: FieldOutcome) -> None:
        """Count one place."""
        match outcome:
            case FieldOutcome.MATCH:
                self.same += 1
            case FieldOutcome.WRONG:
                self.differ += 1
            case FieldOutcome.MISSED:
                self.only_a += 1
            case FieldOutcome.INVENTED:
                self.only_b += 1
            case FieldOutcome.ABSENT:
                pass


@dataclass(frozen=True, slots=True)
class Differing:
    """A document that two batches have different records of."""

    pair: Pair
    places: tuple[Compared, ...]  # expected: of A; got: of B


@dataclass(slots=True)
class BatchDiff:
    """What two batches have in common, and what not."""

    both: int = 0  # documents
    only_a: int = 0
    only_b: int = 0
    with_records: int = 0  # of both, those of which both have data
    same: int = 0  # of those, equal in every field
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    fields: dict[str, FieldCount] = field(default_factory=dict)
    differing: list[Differing] = field(default_factory=list)
    left_out: int = 0  # differing documents beyond the limit


def compare_batches(
    ledger: Ledger, a: Batch, b: Batch, *, schema: type[BaseModel] | None, limit: int
) -> BatchDiff:
    """Compare the records of documents with one text in both; `limit` differing ones are kept.

    With a schema, values are the same as it declares; without one, when they are equal.
    """
    spec = FieldSpec() if schema is None else spec_of(schema)
    found = BatchDiff()
    with ledger.snapshot() as connection:
        for pair in pairs(connection, a.id, b.id):
            _note(found, pair, spec, limit=limit)
    return found


def _note(found: BatchDiff, pair: Pair, spec: FieldSpec, *, limit: int) -> None:
    if pair.a is None or pair.b is None:
        found.only_a += pair.b is None
        found.only_b += pair.a is None
        return
    found.both += 1
    found.states[pair.a.state, pair.b.state] += 1
    if pair.a.data_json is None or pair.b.data_json is None:
        return
    found.with_records += 1
    differing = []
    for one in _places(pair.a.data_json, pair.b.data_json, spec):
        found.fields.setdefault(one.field, FieldCount()).note(one.outcome)
        if not one.is_right:
            differing.append(one)
    found.same += not differing
    if not differing:
        return
    if len(found.differing) < limit:
        found.differing.append(Differing(pair, tuple(differing)))
    else:
        found.left_out += 1


def _places(a_json: str, b_json: str, spec: FieldSpec) -> Iterator[Compared]:
    yield from compared(spec, expected=json.loads(a_json), got=json.loads(b_json))
