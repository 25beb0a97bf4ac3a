"""The failure table row by row, and what no history and no stream of failures can make it do."""

import random
from dataclasses import replace
from typing import assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import (
    PROVIDER_FAULTS,
    Again,
    Charge,
    Dead,
    Failure,
    Fault,
    FieldError,
    History,
    Policy,
    Review,
)
from runner.retry import (
    FAILURE_TABLE,
    SIGNATURE_MAX_CHARS,
    Step,
    decide,
    describe,
    record_attempt,
    signature,
)

ERRORS = (FieldError("total", "not a number"),)
LADDER = Policy(ladder_length=2)
ALONE = Policy()
ASK = Policy(review_ambiguous=True)


def after(
    fault: Fault, history: History, policy: Policy = ALONE, *, retry_after_s: float | None = None
) -> Again | Review | Dead:
    failure = Failure(
        fault, "it failed", errors=ERRORS, retry_after_s=retry_after_s, data_json='{"a":1}'
    )
    return decide(failure, history, policy, random.Random(1))


def shape(outcome: Again | Review | Dead) -> str:
    """An outcome in one line, so that the rows below read like the table."""
    match outcome:
        case Dead():
            return f"dead {outcome.reason}" + (", alike pauses" if outcome.alike_pauses else "")
        case Review():
            return f"review {outcome.reason} {outcome.data_json}"
        case Again():
            words = [f"again {outcome.charge.value} on {outcome.ladder_step}"]
            words += ["reask"] if outcome.reask else []
            words += ["doubled"] if outcome.output_doubled else []
            words += [f"{outcome.pauses} pauses"] if outcome.pauses else []
            words += ["alike pauses"] if outcome.alike_pauses else []
            return ", ".join(words)
        case _:
            assert_never(outcome)


ONE = History(attempts=1)
FREE = History()
LATE = History(attempts=1, deferrals=99, deferred_s=86_400.5)
SPENT = History(attempts=5)
SECOND = History(attempts=1, ladder_step=1)

ROWS = [
    (Fault.RATE_LIMITED, FREE, ALONE, "again deferral on 0"),
    (Fault.RATE_LIMITED, SECOND, LADDER, "again deferral on 1"),
    (Fault.RATE_LIMITED, LATE, ALONE, "dead deferred_too_long"),
    (Fault.RAMPED_TOO_FAST, FREE, ALONE, "again deferral on 0"),
    (Fault.RAMPED_TOO_FAST, LATE, ALONE, "dead deferred_too_long"),
    (Fault.MONEY_OUT, FREE, LADDER, "again deferral on 0, key pauses"),
    (Fault.MONEY_OUT, LATE, ALONE, "again deferral on 0, key pauses"),
    (Fault.MONEY_OUT, SPENT, ALONE, "again deferral on 0, key pauses"),
    (Fault.BAD_KEY, FREE, LADDER, "again deferral on 0, key pauses"),
    (Fault.BAD_KEY, LATE, ALONE, "again deferral on 0, key pauses"),
    (Fault.NO_PERMISSION, SECOND, LADDER, "again deferral on 1, lane pauses"),
    (Fault.MODEL_GONE, FREE, LADDER, "again deferral on 1"),
    (Fault.MODEL_GONE, SECOND, LADDER, "again deferral on 1, batch pauses"),
    (Fault.MODEL_GONE, FREE, ALONE, "again deferral on 0, batch pauses"),
    (Fault.TOO_LONG, ONE, LADDER, "again attempt on 1"),
    (Fault.TOO_LONG, SECOND, LADDER, "dead too_long"),
    (Fault.TOO_LONG, ONE, ALONE, "dead too_long"),
    (Fault.TOO_LONG, SPENT, ALONE, "dead too_long"),
    (Fault.REQUEST_REFUSED, FREE, LADDER, "again deferral on 0, alike pauses"),
    (Fault.REQUEST_REFUSED, LATE, ALONE, "dead deferred_too_long, alike pauses"),
    (Fault.BAD_REQUEST, ONE, LADDER, "dead bad_request, alike pauses"),
    (Fault.CONFLICT, ONE, ALONE, "again attempt on 0"),
    (Fault.CONFLICT, SPENT, ALONE, "dead attempts_exhausted"),
    (Fault.SERVER_ERROR, ONE, ALONE, "again attempt on 0"),
    (Fault.SERVER_ERROR, replace(ONE, output_doubled=True), ALONE, "again attempt on 0, doubled"),
    (Fault.SERVER_ERROR, replace(SPENT, attempts=4), ALONE, "again attempt on 0"),
    (Fault.SERVER_ERROR, SPENT, LADDER, "dead attempts_exhausted"),
    (Fault.NOT_SENT, FREE, ALONE, "again deferral on 0"),
    (Fault.NOT_SENT, LATE, ALONE, "dead deferred_too_long"),
    (Fault.AMBIGUOUS, replace(ONE, ambiguous=1), ALONE, "again attempt on 0"),
    (Fault.AMBIGUOUS, replace(ONE, ambiguous=2), LADDER, "dead ambiguous"),
    (Fault.AMBIGUOUS, replace(SPENT, ambiguous=1), ALONE, "dead attempts_exhausted"),
    (Fault.AMBIGUOUS, replace(ONE, ambiguous=1), ASK, 'review ambiguous {"a":1}'),
    (Fault.AMBIGUOUS, replace(SPENT, ambiguous=1), ASK, 'review ambiguous {"a":1}'),
    (Fault.NOT_A_COMPLETION, ONE, ALONE, "again attempt on 0"),
    (Fault.NOT_A_COMPLETION, SPENT, ALONE, "dead attempts_exhausted"),
    (Fault.TRUNCATED, ONE, LADDER, "again attempt on 0, doubled"),
    (Fault.TRUNCATED, replace(ONE, output_doubled=True), LADDER, "again attempt on 1"),
    (Fault.TRUNCATED, replace(SECOND, output_doubled=True), LADDER, "dead truncated"),
    (Fault.TRUNCATED, SPENT, ALONE, "dead attempts_exhausted"),
    (Fault.REFUSED, ONE, LADDER, "again attempt on 1"),
    (Fault.REFUSED, SECOND, Policy(ladder_length=3), "dead refused"),
    (Fault.REFUSED, ONE, ALONE, "dead refused"),
    (Fault.FILTERED, ONE, LADDER, "again attempt on 1"),
    (Fault.FILTERED, ONE, ALONE, "dead filtered"),
    (Fault.INVALID_JSON, ONE, LADDER, "again attempt on 0, reask"),
    (Fault.INVALID_JSON, replace(ONE, reasks=2), LADDER, "again attempt on 1"),
    (Fault.INVALID_JSON, replace(SECOND, reasks=2), LADDER, "dead invalid_json"),
    (Fault.INVALID_JSON, SPENT, ALONE, "dead attempts_exhausted"),
    (Fault.SCHEMA_INVALID, replace(ONE, reasks=1), LADDER, "again attempt on 0, reask"),
    (Fault.SCHEMA_INVALID, replace(ONE, reasks=2), LADDER, "again attempt on 1"),
    (Fault.SCHEMA_INVALID, replace(SPENT, reasks=2), ALONE, "dead schema_invalid"),
    (Fault.SCHEMA_INVALID, ONE, Policy(max_reasks=0), "dead schema_invalid"),
    (Fault.NOT_GROUNDED, ONE, LADDER, "again attempt on 0, reask"),
    (Fault.NOT_GROUNDED, replace(ONE, check_reasks=1), LADDER, 'review not_grounded {"a":1}'),
    (Fault.CHECK_FAILED, ONE, ALONE, "again attempt on 0, reask"),
    (Fault.CHECK_FAILED, replace(ONE, check_reasks=1), LADDER, 'review check_failed {"a":1}'),
    (Fault.SECOND_READ_DIFFERS, ONE, LADDER, 'review second_read_differs {"a":1}'),
    (Fault.CHECK_FAILED, SPENT, LADDER, 'review check_failed {"a":1}'),
    (
        Fault.INTERNAL_ERROR,
        replace(ONE, internal_errors=1),
        LADDER,
        "again deferral on 0, alike pauses",
    ),
    (
        Fault.INTERNAL_ERROR,
        replace(ONE, internal_errors=2),
        ALONE,
        "again deferral on 0, alike pauses",
    ),
    (
        Fault.INTERNAL_ERROR,
        replace(ONE, internal_errors=3),
        ALONE,
        "dead internal_error, alike pauses",
    ),
    (Fault.OVER_CEILING, ONE, LADDER, "dead over_ceiling"),
    (Fault.WORKER_LOST, ONE, ALONE, "again attempt on 0"),
    (Fault.WORKER_LOST, replace(ONE, attempts=4, ambiguous=4), ALONE, "again attempt on 0"),
    (Fault.WORKER_LOST, SPENT, ALONE, "dead attempts_exhausted"),
    (Fault.WORKER_LOST, ONE, ASK, 'review worker_lost {"a":1}'),
    (Fault.POISON, ONE, LADDER, "dead poison"),
]


@pytest.mark.parametrize(("fault", "history", "policy", "expected"), ROWS)
def test_each_row_of_the_failure_table_decides_as_written(
    fault: Fault, history: History, policy: Policy, expected: str
) -> None:
    assert shape(after(fault, history, policy)) == expected


PAUSES = {Step.PAUSE_BATCH, Step.PAUSE_KEY, Step.PAUSE_LANE}


def test_every_fault_has_a_row_that_is_tested_and_always_ends_somewhere() -> None:
    assert set(FAILURE_TABLE) == set(Fault) == {fault for fault, *_ in ROWS}
    for rule in FAILURE_TABLE.values():
        assert rule.steps[-1] in {Step.AGAIN, *PAUSES, Step.REVIEW, Step.DEAD}
        assert rule.charge is Charge.DEFERRAL or not PAUSES & set(rule.steps)


@pytest.mark.parametrize(
    ("fault", "base_s", "cap_s", "charge"),
    [
        (Fault.RATE_LIMITED, 1, 60, Charge.DEFERRAL),
        (Fault.RAMPED_TOO_FAST, 2, 120, Charge.DEFERRAL),
        (Fault.REQUEST_REFUSED, 5, 300, Charge.DEFERRAL),
        (Fault.CONFLICT, 1, 30, Charge.ATTEMPT),
        (Fault.SERVER_ERROR, 1, 60, Charge.ATTEMPT),
        (Fault.NOT_SENT, 0.5, 30, Charge.DEFERRAL),
        (Fault.AMBIGUOUS, 5, 120, Charge.ATTEMPT),
        (Fault.NOT_A_COMPLETION, 1, 60, Charge.ATTEMPT),
    ],
)
def test_backoff_doubles_from_its_base_to_its_cap_and_is_spread_evenly(
    fault: Fault, base_s: float, cap_s: float, charge: Charge
) -> None:
    rng = random.Random(2)
    failure = Failure(fault, "")
    for before in range(12):
        free = charge is Charge.DEFERRAL
        history = History(attempts=0 if free else before + 1, deferrals=before if free else 9)
        delays_s = []
        for _ in range(300):
            outcome = decide(failure, history, Policy(max_attempts=99), rng)
            assert isinstance(outcome, Again)
            delays_s.append(outcome.delay_s)
        longest_s = min(cap_s, base_s * 2**before)
        assert 0 <= min(delays_s) < 0.1 * longest_s
        assert 0.9 * longest_s < max(delays_s) <= longest_s
        assert 0.4 * longest_s < sum(delays_s) / 300 < 0.6 * longest_s


def test_our_own_bug_waits_five_minutes() -> None:
    outcome = after(Fault.INTERNAL_ERROR, History(internal_errors=1, deferrals=7))
    assert isinstance(outcome, Again)
    assert outcome.delay_s == 300


@pytest.mark.parametrize("fault", [Fault.INVALID_JSON, Fault.TRUNCATED, Fault.REFUSED])
def test_what_another_request_may_mend_is_tried_at_once(fault: Fault) -> None:
    outcome = after(fault, ONE, LADDER)
    assert isinstance(outcome, Again)
    assert outcome.delay_s == 0


def test_a_reask_shows_the_errors_and_the_next_model_starts_without_them() -> None:
    first = after(Fault.SCHEMA_INVALID, ONE, LADDER)
    second = after(Fault.SCHEMA_INVALID, replace(ONE, reasks=2), LADDER)
    assert isinstance(first, Again)
    assert isinstance(second, Again)
    assert first.reask == ERRORS
    assert second.reask == ()


def test_a_reask_without_listed_errors_shows_the_message() -> None:
    failure = Failure(Fault.INVALID_JSON, "not valid JSON")
    outcome = decide(failure, ONE, ALONE, random.Random(1))
    assert isinstance(outcome, Again)
    assert outcome.reask == (FieldError("", "not valid JSON"),)


def test_a_wait_that_would_end_after_the_last_day_is_not_begun() -> None:
    nearly = History(deferrals=3, deferred_s=86_000)
    assert shape(after(Fault.RATE_LIMITED, nearly, retry_after_s=300)) == "again deferral on 0"
    assert shape(after(Fault.RATE_LIMITED, nearly, retry_after_s=500)) == "dead deferred_too_long"


def test_a_ladder_that_became_shorter_is_not_overstepped() -> None:
    assert shape(after(Fault.SERVER_ERROR, History(attempts=1, ladder_step=4))) == (
        "again attempt on 0"
    )


failures = st.builds(
    Failure,
    fault=st.sampled_from(Fault),
    message=st.text(max_size=20),
    errors=st.sampled_from([(), ERRORS]),
    retry_after_s=st.none() | st.floats(0, 86_400),
)
policies = st.builds(
    Policy,
    ladder_length=st.integers(1, 4),
    max_attempts=st.integers(1, 8),
    max_reasks=st.integers(0, 3),
    max_check_reasks=st.integers(0, 2),
    review_ambiguous=st.booleans(),
)
histories = st.builds(
    History,
    attempts=st.integers(0, 10),
    deferrals=st.integers(0, 100_000),
    deferred_s=st.floats(0, 200_000),
    reasks=st.integers(0, 4),
    check_reasks=st.integers(0, 3),
    ambiguous=st.integers(0, 4),
    internal_errors=st.integers(0, 5),
    ladder_step=st.integers(0, 5),
    output_doubled=st.booleans(),
)


@pytest.mark.parametrize("fault", sorted(PROVIDER_FAULTS))
def test_trouble_of_a_provider_that_is_out_is_charged_to_no_document(fault: Fault) -> None:
    out = Failure(fault, "down", outage=True)
    history = record_attempt(History(attempts=4, ambiguous=0), out)
    ended = decide(out, history, Policy(max_attempts=5), random.Random(1))
    if fault is Fault.AMBIGUOUS:  # it may have been paid, whoever is to blame
        assert isinstance(ended, Dead)
        return
    assert isinstance(ended, Again)
    assert ended.charge is Charge.DEFERRAL
    assert history.attempts == 4


@given(failure=failures, history=histories, policy=policies, seed=st.integers(0, 99))
def test_any_decision_keeps_every_bound(
    failure: Failure, history: History, policy: Policy, seed: int
) -> None:
    outcome = decide(failure, history, policy, random.Random(seed))
    assert outcome.failure is failure
    assert outcome == decide(failure, history, policy, random.Random(seed))
    if not isinstance(outcome, Again):
        return
    backoff = FAILURE_TABLE[failure.fault].backoff
    asked_s = failure.retry_after_s or 0.0
    assert asked_s <= outcome.delay_s <= max(asked_s, backoff.cap_s if backoff else 0.0)
    assert 0 <= outcome.ladder_step < policy.ladder_length
    assert outcome.pauses or history.attempts < policy.max_attempts
    if outcome.charge is Charge.DEFERRAL and not outcome.pauses:
        assert history.deferred_s + outcome.delay_s <= policy.deferral_max_s


def lived(history: History, fault: Fault) -> History:
    """The history at the moment of deciding; a charged call ends a run of deferrals."""
    counted = record_attempt(history, Failure(fault, ""))
    charged = FAILURE_TABLE[fault].charge is Charge.ATTEMPT
    return replace(counted, deferrals=0, deferred_s=0.0) if charged else counted


def test_a_failure_is_counted_as_its_row_says_before_it_is_decided() -> None:
    assert record_attempt(ONE, Failure(Fault.RATE_LIMITED, "")) == ONE
    assert record_attempt(ONE, Failure(Fault.CONFLICT, "")) == History(attempts=2)
    assert record_attempt(ONE, Failure(Fault.AMBIGUOUS, "")) == History(attempts=2, ambiguous=1)
    assert record_attempt(ONE, Failure(Fault.INTERNAL_ERROR, "")) == replace(ONE, internal_errors=1)


def tried_again(history: History, again: Again, *, call_s: float) -> History:
    """The history after the next call began, as the ledger counts."""
    free = again.charge is Charge.DEFERRAL
    same = again.ladder_step == history.ladder_step
    check = again.failure.fault in {Fault.CHECK_FAILED, Fault.NOT_GROUNDED}
    return replace(
        history,
        deferrals=history.deferrals + free,
        deferred_s=history.deferred_s + (again.delay_s + call_s if free else 0.0),
        reasks=(history.reasks + (bool(again.reask) and not check)) if same else 0,
        check_reasks=history.check_reasks + (bool(again.reask) and check),
        ladder_step=again.ladder_step,
        output_doubled=again.output_doubled,
    )


@given(
    stream=st.lists(st.sampled_from(Fault), min_size=1, max_size=6),
    policy=policies,
    rng=st.randoms(use_true_random=False),
)
def test_any_endless_stream_of_failures_ends_without_overcharging(
    stream: list[Fault], policy: Policy, rng: random.Random
) -> None:
    history = History()
    call_s = 1_800.0
    calls_max = (policy.max_attempts + 1) * (int(policy.deferral_max_s / call_s) + 2)
    for number in range(calls_max):
        fault = stream[number % len(stream)]
        history = lived(history, fault)
        outcome = decide(Failure(fault, ""), history, policy, rng)
        assert history.attempts <= policy.max_attempts
        if not isinstance(outcome, Again):
            return
        if outcome.pauses:
            return  # nothing happens until a person resumes the batch
        history = tried_again(history, outcome, call_s=call_s)
    pytest.fail(f"{stream} went on for {calls_max} calls")


def test_the_rendered_table_has_every_fault_with_its_steps_backoff_and_charge() -> None:
    head, ruler, *rows = describe().strip().split("\n")
    columns = head.count("|")
    assert [row.count("|") for row in (ruler, *rows)] == [columns] * (1 + len(Fault))
    for row, (fault, rule) in zip(rows, FAILURE_TABLE.items(), strict=True):
        assert row.startswith(f"| `{fault.value}` | {rule.recognised} | ")
        free = "; deferral while the breaker is open" if rule.free_in_outage else ""
        assert row.endswith(f"| {rule.charge.value}{free} |")
        for step in rule.steps:
            assert step.value in row
    assert "| B(0.5, 30) s | deferral |" in describe()
    assert "| 300 s | deferral |" in describe()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 400: 5133 tokens exceed 4096", "HTTP 400: 9001 tokens exceed 8192"),
        (
            'lines.1.qty: should be a number; got "many"',
            'lines.12.qty: should be a number; got "x"',
        ),
        ("the model's limit; got 'a b'", "the model's limit; got 'c'"),
        ("request req_9f8e7d6c5b failed", "request req_0a1b2c3d4e failed"),
        ("id 550e8400-e29b-41d4-a716-446655440000", "id deadbeef-0000-41d4-a716-446655440000"),
        ("at 12:30:01,\n 4.5 %", "at 01:02:03, -10.25 %"),
    ],
)
def test_messages_that_differ_by_document_only_share_a_signature(one: str, other: str) -> None:
    assert signature(Failure(Fault.BAD_REQUEST, one)) == signature(
        Failure(Fault.BAD_REQUEST, other)
    )


def test_different_faults_and_different_words_have_different_signatures() -> None:
    texts = [
        (Fault.BAD_REQUEST, "total: no"),
        (Fault.BAD_REQUEST, "day: no"),
        (Fault.CONFLICT, "day: no"),
    ]
    assert len({signature(Failure(fault, text)) for fault, text in texts}) == 3


@given(fault=st.sampled_from(Fault), message=st.text(max_size=500))
def test_a_signature_is_one_short_line_that_names_its_fault(fault: Fault, message: str) -> None:
    line = signature(Failure(fault, message))
    assert line.startswith(fault.value)
    assert len(line) <= SIGNATURE_MAX_CHARS
    assert "\n" not in line
