"""How many records there are, how many a person has judged, and how many of those were wrong.

Records that were flagged and those that were not are counted apart: people see nearly all of the
first and a sample of the second. A document counts once, by the record it has, or by the one that
was rejected; one that was run again counts by what came of that.
"""

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Integer, and_, case, cast, func, or_, select

from runner.ledger.sampling import KEPT, last_decision
from runner.ledger.tables import batch, document, record, review
from runner.model import DeadReason, Decided, DocumentState, Purpose, Stratum


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The records that are meant: of one batch, or of a job's batches that were meant seriously.

    Those are neither simulated nor made by an evaluation.
    """

    batch_id: str | None = None
    job: str | None = None

    def of_batch(self) -> ColumnElement[bool]:
        """Whether a batch is meant, in a query over `batch`."""
        if self.batch_id is not None:
            return batch.c.id == self.batch_id
        return and_(
            batch.c.job == self.job, batch.c.purpose == Purpose.RUN, batch.c.simulated.is_(False)
        )


@dataclass(slots=True, kw_only=True)
class BatchStrata:
    """One batch: its records, those judged by a person, and those found wrong, by stratum."""

    name: str
    records: Counter[Stratum] = field(default_factory=Counter)
    reviewed: Counter[Stratum] = field(default_factory=Counter)
    wrong: Counter[Stratum] = field(default_factory=Counter)
    waiting: int = 0  # drawn for an audit and not judged yet

    @property
    def drawn(self) -> int:
        """How many of the records that were not flagged are, or were, in the sample."""
        return self.reviewed[Stratum.SAMPLED] + self.waiting


def count_strata(connection: Connection, scope: Scope) -> list[BatchStrata]:
    """Every batch of the scope, the oldest first."""
    rows = connection.execute(
        select(batch.c.id, batch.c.name).where(scope.of_batch()).order_by(batch.c.id)
    )
    counted = {row.id: BatchStrata(name=row.name) for row in rows}
    meant = select(batch.c.id).where(scope.of_batch())
    _count_records(connection, meant.scalar_subquery(), counted)
    _count_judged(connection, meant.scalar_subquery(), counted)
    _count_waiting(connection, meant.scalar_subquery(), counted)
    return list(counted.values())


def _count_records(
    connection: Connection, meant: ColumnElement[str], counted: dict[str, BatchStrata]
) -> None:
    done = (
        select(document.c.batch_id, func.count().label("records"))
        .where(document.c.state == DocumentState.DONE, document.c.batch_id.in_(meant))
        .group_by(document.c.batch_id)
    )
    for row in connection.execute(done):
        counted[row.batch_id].records[Stratum.SAMPLED] += row.records
    flagged = (
        select(document.c.batch_id, func.count().label("records"))
        .join(record, record.c.document_id == document.c.id)
        .where(
            document.c.state == DocumentState.REVIEW,
            document.c.batch_id.in_(meant),
            record.c.data_json.is_not(None),
        )
        .group_by(document.c.batch_id)
    )
    for row in connection.execute(flagged):
        counted[row.batch_id].records[Stratum.FLAGGED] += row.records


def _count_judged(
    connection: Connection, meant: ColumnElement[str], counted: dict[str, BatchStrata]
) -> None:
    last = (
        select(func.max(review.c.id))
        .where(review.c.batch_id.in_(meant))
        .group_by(review.c.document_id)
    )
    kept = and_(review.c.decision.in_(KEPT), document.c.state == DocumentState.DONE)
    rejected = and_(
        review.c.decision == Decided.REJECTED,
        document.c.state == DocumentState.DEAD,
        document.c.reason == DeadReason.REJECTED_IN_REVIEW,
    )
    had_record = review.c.before_json.is_not(None)
    rows = connection.execute(
        select(
            review.c.batch_id,
            review.c.stratum,
            func.sum(case((kept, 1), else_=0)).label("kept"),
            func.sum(case((had_record, 1), else_=0)).label("judged"),
            func.sum(cast(review.c.was_wrong, Integer)).label("wrong"),
        )
        .join(document, document.c.id == review.c.document_id)
        .where(review.c.id.in_(last), or_(kept, rejected))
        .group_by(review.c.batch_id, review.c.stratum)
    )
    for row in rows:
        found, stratum = counted[row.batch_id], Stratum(row.stratum)
        found.records[Stratum.SAMPLED] -= row.kept  # counted as done, and here as what they were
        found.records[stratum] += row.judged
        found.reviewed[stratum] += row.judged
        found.wrong[stratum] += row.wrong


def _count_waiting(
    connection: Connection, meant: ColumnElement[str], counted: dict[str, BatchStrata]
) -> None:
    rows = connection.execute(
        select(record.c.batch_id, func.count().label("waiting"))
        .join(document, document.c.id == record.c.document_id)
        .where(
            record.c.sampled.is_(True),
            record.c.batch_id.in_(meant),
            func.coalesce(document.c.state, "") == DocumentState.DONE,  # as in `reviews`
            last_decision().not_in(KEPT),
        )
        .group_by(record.c.batch_id)
    )
    for row in rows:
        counted[row.batch_id].waiting = row.waiting
