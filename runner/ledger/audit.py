"""Does everything add up: every document in one state with what that state owes, and all money."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, or_, select

from runner.ledger.money import DAY, DAY_US, budget_scope, day_scope
from runner.ledger.sources import HAS_SOURCE
from runner.ledger.tables import attempt, batch, budget, document, record, source
from runner.ledger.tallies import Count, Tally, TallyFilter, read_tallies
from runner.model import OPEN_STATES, TERMINAL_STATES, AttemptState, BatchState, DocumentState

LIVE = (AttemptState.INTENT, AttemptState.ANSWERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was counted, and every sentence about what does not balance."""

    batches: int
    documents: int
    attempts: int
    settled_nusd: int
    ambiguous_nusd: int
    held_nusd: int
    problems: tuple[str, ...]


def audit(connection: Connection, batch_id: str | None = None) -> AuditReport:
    """Check conservation of documents and of money, in one batch, or in all and by day.

    Run it inside one transaction: it compares counts with each other.
    """
    ids = (
        [batch_id]
        if batch_id is not None
        else list(connection.execute(select(batch.c.id)).scalars())
    )
    problems = [problem for one in ids for problem in _document_problems(connection, one)]
    settled = ambiguous = held = 0
    for one in ids:
        money = connection.execute(select(budget).where(budget.c.scope == budget_scope(one))).one()
        settled += money.settled_nusd
        ambiguous += money.ambiguous_nusd
        held += money.held_nusd
        problems += _money_problems(connection, one, money)
        problems += _tally_problems(connection, one)
    if batch_id is None:
        problems += _day_problems(connection)
    return AuditReport(
        batches=len(ids),
        documents=_count(connection, document.c.batch_id.in_(ids)),
        attempts=_count(connection, attempt.c.batch_id.in_(ids)),
        settled_nusd=settled,
        ambiguous_nusd=ambiguous,
        held_nusd=held,
        problems=tuple(problems),
    )


def _count(connection: Connection, *conditions: object) -> int:
    counted = select(func.count()).where(*conditions)  # type: ignore[arg-type] # columns and booleans alike
    return int(connection.execute(counted).scalar_one())


def _document_problems(connection: Connection, batch_id: str) -> list[str]:
    here = document.c.batch_id == batch_id
    has_record = select(record.c.document_id).where(record.c.document_id == document.c.id).exists()
    has_live = (
        select(attempt.c.id)
        .where(attempt.c.document_id == document.c.id, attempt.c.state == AttemptState.INTENT)
        .exists()
    )
    has_source = select(source.c.id).where(HAS_SOURCE).exists()
    calls = (
        select(func.count())
        .where(attempt.c.document_id == document.c.id, attempt.c.state != AttemptState.NOT_SENT)
        .scalar_subquery()
    )
    has_answer = (
        select(attempt.c.id)
        .where(attempt.c.document_id == document.c.id, attempt.c.state == AttemptState.ANSWERED)
        .exists()
    )
    live = (
        select(func.count())
        .where(attempt.c.document_id == document.c.id, attempt.c.state.in_(LIVE))
        .scalar_subquery()
    )
    in_cancelled_batch = (
        select(batch.c.id)
        .where(batch.c.id == batch_id, batch.c.state == BatchState.CANCELLED)
        .exists()
    )
    waiting = document.c.state.in_([DocumentState.QUEUED, DocumentState.READY])
    ended = document.c.state.in_(TERMINAL_STATES)
    running = document.c.state == DocumentState.RUNNING
    leased = and_(document.c.lease_token.is_not(None), document.c.worker_id.is_not(None))
    rules = {
        "are in a state that does not exist": document.c.state.not_in(list(DocumentState)),
        "are done without a record": and_(document.c.state == DocumentState.DONE, ~has_record),
        "have a record but are neither done nor in review": and_(
            document.c.state.not_in([DocumentState.DONE, DocumentState.REVIEW]), has_record
        ),
        "are dead without a reason": and_(
            document.c.state == DocumentState.DEAD, document.c.reason.is_(None)
        ),
        "are to be called, or are being called, without a text": and_(
            document.c.state.in_(OPEN_STATES), document.c.text_digest.is_(None)
        ),
        "run without a lease": and_(running, ~leased),
        "hold a lease without running": and_(~running, document.c.lease_token.is_not(None)),
        "have a call in flight without running": and_(~running, has_live),
        "have more than one call in flight": live > 1,
        "ended with a paid answer that nobody read": and_(ended, has_answer),
        "wait in a cancelled batch for no answer": and_(waiting, in_cancelled_batch, ~has_answer),
        "have no source": ~has_source,
        "count another number of calls than there are attempts": document.c.calls != calls,
        "ended without a time or go on with one": or_(
            and_(ended, document.c.finished_us.is_(None)),
            and_(document.c.state.in_(OPEN_STATES), document.c.finished_us.is_not(None)),
        ),
    }
    found = []
    for rule, condition in rules.items():
        if count := _count(connection, here, condition):
            found.append(f"batch {batch_id}: {count} documents {rule}")
    return found


def _money_problems(connection: Connection, batch_id: str, money: Row[Any]) -> list[str]:
    sums = connection.execute(
        select(
            func.coalesce(func.sum(attempt.c.cost_nusd), 0).label("settled_nusd"),
            func.coalesce(func.sum(attempt.c.ambiguous_nusd), 0).label("ambiguous_nusd"),
        ).where(attempt.c.batch_id == batch_id)
    ).one()
    held = connection.execute(
        select(func.coalesce(func.sum(attempt.c.hold_nusd), 0)).where(
            attempt.c.batch_id == batch_id, attempt.c.state.in_(LIVE)
        )
    ).scalar_one()
    by_document = connection.execute(
        select(
            func.coalesce(func.sum(document.c.cost_nusd), 0),
            func.coalesce(func.sum(document.c.ambiguous_nusd), 0),
        ).where(document.c.batch_id == batch_id)
    ).one()
    pairs = [
        ("settled", money.settled_nusd, sums.settled_nusd, "attempts"),
        ("ambiguous", money.ambiguous_nusd, sums.ambiguous_nusd, "attempts"),
        ("held", money.held_nusd, held, "live attempts"),
        ("settled", money.settled_nusd, by_document[0], "documents"),
        ("ambiguous", money.ambiguous_nusd, by_document[1], "documents"),
    ]
    return [
        f"batch {batch_id}: {name} {booked} nano-dollars, but its {whose} say {counted}"
        for name, booked, counted, whose in pairs
        if booked != counted
    ]


def _tally_problems(connection: Connection, batch_id: str) -> list[str]:
    """Where what reports say of a batch's calls is not what its attempts say."""
    sent = case((attempt.c.state != AttemptState.NOT_SENT, 1), else_=0)
    sums = connection.execute(
        select(
            func.coalesce(func.sum(sent), 0).label(Count.CALLS),
            *(
                func.coalesce(func.sum(attempt.c[name]), 0).label(name)
                for name in (Count.COST_NUSD, Count.INPUT_TOKENS, Count.OUTPUT_TOKENS)
            ),
        ).where(attempt.c.batch_id == batch_id, attempt.c.state.not_in(LIVE))
    ).one()
    tallied = Tally()
    for row in read_tallies(connection, TallyFilter(batch_id=batch_id)):
        tallied.add(row.tally)
    return [
        f"batch {batch_id}: its tallies have {tallied.counts[name]} {name}, its attempts {counted}"
        for name, counted in sums._mapping.items()  # noqa: SLF001 - SQLAlchemy's public name for it
        if tallied.counts[name] != counted
    ]


def _day_problems(connection: Connection) -> list[str]:
    """Where a day's money is not what the attempts say that were claimed on it."""
    day = (attempt.c.created_us // DAY_US).label("day")
    held = case((attempt.c.state.in_(LIVE), attempt.c.hold_nusd), else_=0)
    counted = connection.execute(
        select(
            day,
            func.coalesce(func.sum(attempt.c.cost_nusd), 0).label("settled"),
            func.coalesce(func.sum(attempt.c.ambiguous_nusd), 0).label("ambiguous"),
            func.coalesce(func.sum(held), 0).label("held"),
        )
        .join(batch, batch.c.id == attempt.c.batch_id)
        .where(batch.c.simulated.is_(False))
        .group_by("day")
    )
    sums = {day_scope(row.day * DAY_US): row for row in counted}
    rows = connection.execute(select(budget).where(budget.c.scope.startswith(DAY, autoescape=True)))
    booked = {row.scope: row for row in rows}
    return [
        f"{scope}: {name} {in_book} nano-dollars, but its attempts say {in_attempts}"
        for scope in sorted(set(sums) | set(booked))
        for name in ("settled", "ambiguous", "held")
        if (in_attempts := int(getattr(sums.get(scope), name, 0)))
        != (in_book := getattr(booked.get(scope), f"{name}_nusd", 0))
    ]
