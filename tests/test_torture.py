"""The campaign finds what it is to find, and a short one finds nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from runner.ledger.audit import AuditReport
from runner.ledger.calls import AttemptRow
from runner.model import AttemptState, DocumentState, Fault
from runner.testing.book import Entry
from scripts.campaign.faults import KINDS
from scripts.campaign.histories import Histories, compare
from scripts.campaign.rounds import Plan, Report, Round
from scripts.campaign.torture import Campaign

COST, HOLD = 900, 1_000


def attempt(name: str, **changes: Any) -> AttemptRow:
    """A call that gave a good answer."""
    empty: dict[str, Any] = dict.fromkeys((one.name for one in fields(AttemptRow)), None)
    good = {
        "id": name,
        "document_id": f"document of {name}",
        "number": 1,
        "state": AttemptState.CONCLUDED,
        "status": 200,
        "cost_nusd": COST,
        "ambiguous_nusd": 0,
    }
    return AttemptRow(**(empty | good | changes))


def lost(name: str, **changes: Any) -> AttemptRow:
    """A call whose worker died."""
    ended = {
        "state": AttemptState.AMBIGUOUS,
        "fault": Fault.WORKER_LOST,
        "status": None,
        "cost_nusd": None,
        "ambiguous_nusd": HOLD,
    }
    return attempt(name, **(ended | changes))


def entry(name: str | None, *, cost_nusd: int = COST) -> Entry:
    """A call that the provider billed."""
    return Entry(seq=1, received_s=1.0, attempt_id=name, cost_nusd=cost_nusd, paid=cost_nusd > 0)


def histories(
    attempts: list[AttemptRow],
    book: list[Entry],
    *,
    states: Mapping[DocumentState, int] | None = None,
    **changes: Any,
) -> Histories:
    """Two documents, both done; the ledger's sums are those of its attempts."""
    report = AuditReport(
        batches=1,
        documents=2,
        attempts=len(attempts),
        settled_nusd=sum(one.cost_nusd or 0 for one in attempts),
        ambiguous_nusd=sum(one.ambiguous_nusd for one in attempts),
        held_nusd=0,
        problems=(),
    )
    made = Histories(
        submitted=2,
        states=states or {DocumentState.DONE: 2},
        attempts={one.id: one for one in attempts},
        report=report,
        book={one.attempt_id: one for one in book if one.attempt_id},
        strangers=sum(not one.attempt_id for one in book),
    )
    return replace(made, **changes)


GOOD = [attempt("a1"), attempt("a2")]
BILLED = [entry("a1"), entry("a2")]


def test_histories_that_agree_hold() -> None:
    judged = compare(histories(GOOD, BILLED))
    assert judged.holds
    assert (judged.calls, judged.repeated, judged.lost, judged.unaccounted_nusd) == (2, 0, 0, 0)


def test_a_call_whose_worker_died_may_be_paid_again() -> None:
    first = lost("a0", document_id="document of a1")
    judged = compare(histories([first, *GOOD], [entry("a0"), *BILLED]))
    assert judged.holds
    assert (judged.repeated, judged.after_stored) == (1, 0)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (
            histories(GOOD[:1], BILLED[:1], states={DocumentState.DONE: 1}),
            "1 of 2 documents are lost",
        ),
        (
            histories(GOOD, BILLED, states={DocumentState.DONE: 1, DocumentState.RUNNING: 1}),
            "1 of 2 documents are lost or did not end",
        ),
        (histories(GOOD, [*BILLED, entry("a3")]), "1 calls that the ledger did not plan"),
        (histories(GOOD, [*BILLED, entry(None)]), "1 calls that the ledger did not plan"),
        (
            histories([lost("a0", status=200), *GOOD], [entry("a0"), *BILLED]),
            "1 answers were stored and asked for again",
        ),
        (
            histories([attempt("a0", document_id="document of a1"), *GOOD], BILLED),
            "1 documents have more than one good answer",
        ),
        (histories(GOOD, [entry("a1"), entry("a2", cost_nusd=1)]), "1 calls cost other than"),
        (
            histories([lost("a0"), *GOOD], [entry("a0", cost_nusd=HOLD + 1), *BILLED]),
            "1 nano-dollars of the provider's bill are unaccounted for",
        ),
        (histories(GOOD, BILLED[:1]), f"{COST} nano-dollars of the provider's bill"),
    ],
)
def test_every_kind_of_disagreement_is_found(told: Histories, found: str) -> None:
    judged = compare(told)
    assert not judged.holds
    assert any(found in problem for problem in judged.problems), judged.problems


def test_a_campaign_in_which_too_little_happened_is_void() -> None:
    plan = Plan(number=1, seed=1, documents=2, workers=1, kinds=KINDS)
    good = Report(plan, Counter({"kill_worker": 1}), judgement=compare(histories(GOOD, BILLED)))
    assert Campaign([good]).problems == []
    assert "void" in Campaign([replace(good, injected=Counter())]).problems[0]
    half = compare(histories(GOOD[:1], BILLED[:1], states={DocumentState.DONE: 1}))
    assert "void" in Campaign([replace(good, judgement=half)]).problems[0]
    assert "void" in Campaign([]).problems[0]


@pytest.mark.slow
def test_a_short_campaign_keeps_every_promise(tmp_path: Path) -> None:
    quick = [kind for kind in KINDS if kind.name not in ("stop_worker", "stop_redis")]
    plan = Plan(number=1, seed=5, documents=250, workers=2, kinds=quick, faults_max=8)
    said: list[str] = []
    report = Round(plan, tmp_path, said.append).run()
    assert report.problems == [], said
    assert report.injected.total() >= 3, "void: too little happened"
