"""Error rates from reviews: counted by stratum over a real ledger, told honestly or not at all."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errorrates import REVIEWS_MIN, ErrorRate, error_rates
from runner.evals.statistics import clopper_pearson
from runner.ledger.confirmed import confirmed
from runner.ledger.deadletters import retry_dead
from runner.ledger.reviews import Decision, ReviewFilter, decide, list_waiting
from runner.ledger.strata import BatchStrata, Scope, count_strata
from runner.ledger.submission import Batch
from runner.model import Decided, Failure, Fault, Outcome, Review, Stratum
from tests.ledgers import DONE, REVIEW, World, open_world

NO_ANSWER = Review("ambiguous", Failure(Fault.AMBIGUOUS, "timed out"))


def strata(
    name: str = "b",
    *,
    flagged: tuple[int, int, int] = (0, 0, 0),
    others: tuple[int, int, int] = (0, 0, 0),
    waiting: int = 0,
) -> BatchStrata:
    """Records, reviewed and wrong ones of a batch, by stratum."""
    pairs = {Stratum.FLAGGED: flagged, Stratum.SAMPLED: others}
    records, reviewed, wrong = (
        Counter({stratum: counts[place] for stratum, counts in pairs.items()}) for place in range(3)
    )
    return BatchStrata(name=name, records=records, reviewed=reviewed, wrong=wrong, waiting=waiting)


# ------------------------------------------------------------ what is told


def test_nothing_is_told_from_too_few_reviews() -> None:
    found = error_rates([strata(others=(1000, REVIEWS_MIN - 1, 0))])
    assert (found.sampled.rate, found.overall, found.sampled.missing) == (None, None, 1)
    found = error_rates([strata(others=(1000, REVIEWS_MIN, 0))])
    assert found.sampled.rate is not None
    assert found.sampled.rate.high == pytest.approx(clopper_pearson(0, REVIEWS_MIN).high)


def test_a_sample_without_an_error_still_leaves_room_for_one() -> None:
    found = error_rates([strata(others=(100_000, 300, 0))])
    assert found.overall is not None
    assert found.overall.estimate == 0
    assert 0.009 < found.overall.high < 0.014


def test_flagged_records_count_by_their_number_and_not_by_their_reviews() -> None:
    """990 sure records of which 1 in 100 is wrong, 10 flagged ones of which 8 are: 1.8 %."""
    found = error_rates([strata(flagged=(10, 10, 8), others=(990, 100, 1))])
    assert found.overall is not None
    assert found.overall.estimate is not None
    assert found.overall.estimate == pytest.approx(0.01 * 0.99 + 0.8 * 0.01)
    assert found.overall.low < 0.0179 < found.overall.high
    assert found.overall.estimate * 4 < (8 + 1) / 110, "what counting reviews alone would say"


def test_records_that_were_all_reviewed_are_known() -> None:
    found = error_rates([strata(flagged=(2, 2, 1), others=(8, 8, 1))])
    assert found.overall is not None
    assert (found.overall.low, found.overall.estimate, found.overall.high) == pytest.approx(
        (0.2, 0.2, 0.2)
    )


def test_the_whole_is_not_told_while_one_kind_is_unknown() -> None:
    found = error_rates([strata(flagged=(50, 5, 1), others=(900, 100, 1))])
    assert found.sampled.rate is not None
    assert (found.flagged.rate, found.flagged.missing, found.overall) == (None, 25, None)


def test_a_batch_of_which_nothing_was_drawn_is_left_out() -> None:
    drawn = strata("drawn", flagged=(4, 4, 1), others=(1000, 100, 2))
    small = strata("small", others=(5, 0, 0))
    never = strata("never", flagged=(9, 0, 0), others=(5000, 0, 0))
    found = error_rates([drawn, small, never])
    assert found.left_out == ("never",)
    assert (found.records, found.sampled.records) == (1009, 1005)


COUNTS = st.integers(0, 60).flatmap(
    lambda records: st.integers(0, records).flatmap(
        lambda reviewed: st.tuples(st.just(records), st.just(reviewed), st.integers(0, reviewed))
    )
)


@given(flagged=COUNTS, others=COUNTS)
def test_an_estimate_lies_in_its_interval_and_the_interval_in_what_is_possible(
    flagged: tuple[int, int, int], others: tuple[int, int, int]
) -> None:
    found: ErrorRate = error_rates([strata(flagged=flagged, others=others)])
    if found.overall is None:
        assert found.left_out or found.flagged.missing or found.sampled.missing or not found.records
        return
    records = flagged[0] + others[0]
    wrong = flagged[2] + others[2]
    right = flagged[1] + others[1] - wrong
    assert found.overall.estimate is not None
    assert found.overall.low <= found.overall.estimate + 1e-9
    assert found.overall.estimate <= found.overall.high + 1e-9
    assert found.overall.low >= wrong / records - 1e-9
    assert found.overall.high <= 1 - right / records + 1e-9


# ------------------------------------------------------------ what is counted


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def through(
    world: World, batch: Batch, *texts: str, outcome: Outcome = DONE, drawn: bool = False
) -> None:
    """New documents of a batch through one turn."""
    world.sql("DELETE FROM leader")
    worker = world.worker()
    world.add(batch, *texts, first_position=len(world.rows(batch)))
    for ticket in world.feed(worker):
        lease = world.claim(ticket, worker)
        world.store(lease)
        end = replace(world.end(lease, outcome), audit_percent=100.0 if drawn else 0.0)
        assert world.finish_all([end]) == [True]


def rule(world: World, source: str, decided: Decided, data_json: str | None = None) -> None:
    """A decision on the waiting document of this source."""
    with world.ledger.snapshot() as connection:
        (one,) = [
            found for found in list_waiting(connection, ReviewFilter()) if found.source == source
        ]
    decision = Decision(
        document_id=one.document_id,
        decided=decided,
        reviewer="ann",
        now_us=world.tick(),
        data_json=data_json,
    )
    with world.ledger.transaction() as connection:
        assert decide(connection, [decision]) == [None]


def counts(world: World, scope: Scope) -> dict[str, tuple[int, int, int]]:
    """Records, reviewed and wrong ones of the scope, by stratum; how many wait."""
    with world.ledger.snapshot() as connection:
        found = count_strata(connection, scope)
    return {
        stratum.value: (
            sum(one.records[stratum] for one in found),
            sum(one.reviewed[stratum] for one in found),
            sum(one.wrong[stratum] for one in found),
        )
        for stratum in Stratum
    } | {"waiting": (sum(one.waiting for one in found), 0, 0)}


def test_each_document_counts_once_by_the_kind_of_its_record(world: World) -> None:
    batch = world.batch()
    through(world, batch, "sure", "surer")
    through(world, batch, "drawn 1", "drawn 2", "drawn 3", "drawn 4", drawn=True)
    through(world, batch, "flag 1", "flag 2", "flag 3", "flag 4", outcome=REVIEW)
    through(world, batch, "lost 1", "lost 2", "lost 3", outcome=NO_ANSWER)
    rule(world, "drawn 1", Decided.ACCEPTED)
    rule(world, "drawn 2", Decided.CORRECTED, '{"a":5}')
    rule(world, "drawn 3", Decided.REJECTED)
    rule(world, "flag 1", Decided.ACCEPTED)
    rule(world, "flag 2", Decided.CORRECTED, '{"a":5}')
    rule(world, "flag 3", Decided.REJECTED)
    rule(world, "lost 1", Decided.CORRECTED, '{"a":5}')
    rule(world, "lost 2", Decided.REJECTED)
    assert counts(world, Scope(batch_id=batch.id)) == {
        "flagged": (4, 3, 2),
        "sampled": (6, 3, 2),
        "waiting": (1, 0, 0),
    }


def test_what_was_run_again_counts_by_what_came_of_it(world: World) -> None:
    batch = world.batch()
    through(world, batch, "flag 1", "flag 2", outcome=REVIEW)
    rule(world, "flag 1", Decided.AGAIN)
    rule(world, "flag 2", Decided.REJECTED)
    (dead,) = [row.id for row in world.rows(batch) if row.state == "dead"]
    with world.ledger.transaction() as connection:
        assert retry_dead(connection, [dead], pins=None, now_us=world.tick()) == [dead]
    nothing = {"flagged": (0, 0, 0), "sampled": (0, 0, 0), "waiting": (0, 0, 0)}
    assert counts(world, Scope(batch_id=batch.id)) == nothing
    through(world, batch, drawn=True)
    assert counts(world, Scope(batch_id=batch.id)) == {
        "flagged": (0, 0, 0),
        "sampled": (2, 0, 0),
        "waiting": (2, 0, 0),
    }
    rule(world, "flag 1", Decided.ACCEPTED)
    assert counts(world, Scope(batch_id=batch.id))["sampled"] == (2, 1, 0)


def test_a_job_counts_its_batches_but_no_simulation_and_no_evaluation(world: World) -> None:
    for name in ("a", "b", "simulated", "eval"):
        batch = world.batch(name, simulated=name == "simulated")
        through(world, batch, f"{name} 1", outcome=REVIEW)
    world.sql("UPDATE batch SET purpose = 'eval' WHERE name = 'eval'")
    other = world.batch("other", job="ticket")
    through(world, other, "other 1", outcome=REVIEW)
    assert counts(world, Scope(job="invoice"))["flagged"] == (2, 0, 0)
    simulated = world.batch("simulated", simulated=True)
    assert counts(world, Scope(batch_id=simulated.id))["flagged"] == (1, 0, 0)


def test_confirmed_records_are_given_with_their_texts_once_a_text(world: World) -> None:
    first, second = world.batch("a"), world.batch("b")
    through(world, first, "same", "once", "wrong", "again", outcome=REVIEW)
    rule(world, "same", Decided.ACCEPTED)
    rule(world, "once", Decided.CORRECTED, '{"a":7}')
    rule(world, "wrong", Decided.REJECTED)
    through(world, second, "same", outcome=REVIEW)
    rule(world, "same", Decided.CORRECTED, '{"a":9}')
    with world.ledger.snapshot() as connection:
        found = list(confirmed(connection, Scope(job="invoice")))
        of_first = list(confirmed(connection, Scope(batch_id=first.id)))
    assert [(one.text, one.data_json) for one in found] == [
        ("same", '{"a":9}'),
        ("once", '{"a":7}'),
    ]
    assert [(one.text, one.data_json) for one in of_first] == [
        ("once", '{"a":7}'),
        ("same", '{"a":2}'),
    ]
