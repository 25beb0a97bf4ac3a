"""Compares three histories: what was submitted, what the provider saw, what the ledger says."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runner.ledger import Ledger
from runner.ledger.audit import AuditReport, audit
from runner.ledger.callfilters import CallFilter
from runner.ledger.calls import AttemptRow, list_calls
from runner.ledger.standing import state_counts
from runner.model import OPEN_STATES, AttemptState, DocumentState, Fault
from runner.testing.book import Entry

ATTEMPTS_MAX = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """All three, as they stand at one moment."""

    submitted: int
    states: Mapping[DocumentState, int]
    attempts: Mapping[str, AttemptRow]
    report: AuditReport
    book: Mapping[str, Entry]  # by attempt id
    strangers: int  # calls that the provider saw without the id of an attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The figures of a comparison, and a sentence for each promise that was not kept.

    `lost` documents were submitted and did not end. `repeated` calls were paid and made again
    because a worker was lost; `after_stored` of them although their answer was stored.
    `unaccounted_nusd` is what the provider billed beyond what the ledger says it may have.
    """

    documents: int
    ended: Mapping[DocumentState, int]
    calls: int
    repeated: int
    lost: int
    after_stored: int
    unaccounted_nusd: int
    problems: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.problems


def read_histories(ledger: Ledger, book: Iterable[Entry], *, submitted: int) -> Histories:
    """The ledger as it stands now, beside the provider's book."""
    with ledger.snapshot() as connection:
        states = state_counts(connection, None)
        attempts = list_calls(connection, CallFilter(limit=ATTEMPTS_MAX))
        report = audit(connection)
    entries = list(book)
    return Histories(
        submitted=submitted,
        states=states,
        attempts={attempt.id: attempt for attempt in attempts},
        report=report,
        book={entry.attempt_id: entry for entry in entries if entry.attempt_id},
        strangers=sum(not entry.attempt_id for entry in entries),
    )


def compare(histories: Histories) -> Judgement:
    """Judge a run that has come to its end."""
    states, book, attempts = histories.states, histories.book, histories.attempts
    ended = {state: count for state, count in states.items() if state not in OPEN_STATES and count}
    lost = histories.submitted - sum(ended.values())
    repeated = [one for one in attempts.values() if _is_lost(one) and _was_paid(book.get(one.id))]
    after_stored = [one for one in attempts.values() if _is_lost(one) and one.status is not None]
    paid = sum(entry.cost_nusd for entry in book.values())
    beyond = paid - histories.report.settled_nusd
    unaccounted = max(0, -beyond, beyond - histories.report.ambiguous_nusd)
    problems = [
        *histories.report.problems,
        *_if(lost, f"{lost} of {histories.submitted} documents are lost or did not end"),
        *_if(histories.report.held_nusd, "money is still held"),
        *_if(len(after_stored), f"{len(after_stored)} answers were stored and asked for again"),
        *_if(unaccounted, f"{unaccounted} nano-dollars of the provider's bill are unaccounted for"),
        *_stranger_problems(histories),
        *_cost_problems(histories),
        *_success_problems(attempts.values()),
    ]
    return Judgement(
        documents=histories.submitted,
        ended=ended,
        calls=len(book) + histories.strangers,
        repeated=len(repeated),
        lost=lost,
        after_stored=len(after_stored),
        unaccounted_nusd=unaccounted,
        problems=tuple(problems),
    )


def _if(count: int, problem: str) -> list[str]:
    return [problem] if count else []


def _is_lost(attempt: AttemptRow) -> bool:
    return attempt.state == AttemptState.AMBIGUOUS and attempt.fault == Fault.WORKER_LOST


def _was_paid(entry: Entry | None) -> bool:
    return entry is not None and entry.paid


def _stranger_problems(histories: Histories) -> list[str]:
    unplanned = set(histories.book) - set(histories.attempts)
    count = len(unplanned) + histories.strangers
    return _if(count, f"the provider saw {count} calls that the ledger did not plan")


def _cost_problems(histories: Histories) -> list[str]:
    """Where a call's cost is not the provider's to the nano-dollar, or not within its bounds."""
    wrong = [one.id for one in histories.attempts.values() if not _is_settled(one, histories.book)]
    return _if(len(wrong), f"{len(wrong)} calls cost other than the ledger says: {wrong[:3]}")


def _is_settled(attempt: AttemptRow, book: Mapping[str, Entry]) -> bool:
    entry = book.get(attempt.id)
    billed = 0 if entry is None else entry.cost_nusd
    if attempt.cost_nusd is not None:
        return attempt.cost_nusd == billed
    return 0 <= billed <= attempt.ambiguous_nusd


def _success_problems(attempts: Iterable[AttemptRow]) -> list[str]:
    """No document is called again once it has a good answer."""
    good = Counter(
        one.document_id
        for one in attempts
        if one.state == AttemptState.CONCLUDED and one.fault is None
    )
    twice = sum(count > 1 for count in good.values())
    return _if(twice, f"{twice} documents have more than one good answer")
