"""What happens after a failed call: one table of faults, and the pure function that applies it."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

from runner.model import (
    Again,
    Charge,
    Dead,
    DeadReason,
    Failure,
    Fault,
    FieldError,
    History,
    Pauses,
    Policy,
    Review,
)

SIGNATURE_MAX_CHARS = 120
INTERNAL_ERRORS_MAX = 3
AMBIGUOUS_MAX = 2  # one call of unknown end, and one more try

_EXPONENT_MAX = 30  # any cap is reached long before; beyond it only the number would grow


class Step(StrEnum):
    """One way on after a fault; a row of the table lists them in order, the first that may, is."""

    AGAIN = "again"
    AGAIN_ONCE = "again, once"
    AGAIN_TWICE = "again, twice"
    DOUBLE_OUTPUT = "once with twice the output tokens"
    REASK = "re-asked with its errors, at most `max_reasks` times a model"
    REASK_CHECK = "re-asked with its errors, once"
    NEXT_MODEL = "next model"
    NEXT_MODEL_ONCE = "next model, once"
    PAUSE_BATCH = "the batch pauses"
    PAUSE_KEY = "the key pauses"
    PAUSE_LANE = "the key pauses for this model"
    REVIEW_IF_ASKED = 'with `on_ambiguous = "review"` a person decides'
    REVIEW = "review"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait: between `floor_s` and min(`cap_s`, `base_s` · 2ⁿ), drawn evenly."""

    base_s: float
    cap_s: float
    floor_s: float = 0.0

    def delay_s(self, *, failures_before: int, rng: random.Random) -> float:
        """Seconds to wait after `failures_before` earlier failures of the same charge."""
        longest_s = min(self.cap_s, self.base_s * 2 ** min(failures_before, _EXPONENT_MAX))
        return rng.uniform(self.floor_s, longest_s)

    def __str__(self) -> str:
        if self.floor_s == self.cap_s:
            return f"{self.cap_s:g} s"
        return f"B({self.base_s:g}, {self.cap_s:g}) s"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the failure table.

    `steps` are tried in order; the last one always may. Without `backoff` another call is due at
    once, or when the provider asked for it.
    `alike_pauses`: three distinct documents in succession with this fault pause the batch.
    `free_in_outage`: counts as a deferral while the lane's breaker is open.
    """

    recognised: str
    charge: Charge
    steps: tuple[Step, ...]
    backoff: Backoff | None = None
    alike_pauses: bool = False
    free_in_outage: bool = False

    def charge_of(self, failure: Failure) -> Charge:
        """What another try costs after this very failure."""
        return _D if failure.outage and self.free_in_outage else self.charge


_PAUSES: Mapping[Step, Pauses] = MappingProxyType(
    {
        Step.PAUSE_BATCH: Pauses.BATCH,
        Step.PAUSE_KEY: Pauses.KEY,
        Step.PAUSE_LANE: Pauses.LANE,
    }
)

_A, _D = Charge.ATTEMPT, Charge.DEFERRAL

FAILURE_TABLE: Mapping[Fault, Rule] = MappingProxyType(
    {
        Fault.RATE_LIMITED: Rule("429", _D, (Step.AGAIN,), Backoff(1, 60)),
        Fault.RAMPED_TOO_FAST: Rule("429 or 503 `slow_down`", _D, (Step.AGAIN,), Backoff(2, 120)),
        Fault.MONEY_OUT: Rule(
            "402; 4xx `insufficient_quota`, `credit_balance_exhausted`, `billing_*`, "
            "`*_limit_exceeded` of billing",
            _D,
            (Step.PAUSE_KEY,),
        ),
        Fault.BAD_KEY: Rule("401, or no key to send", _D, (Step.PAUSE_KEY,)),
        Fault.NO_PERMISSION: Rule("403", _D, (Step.PAUSE_LANE,)),
        Fault.MODEL_GONE: Rule("404 naming the model", _D, (Step.NEXT_MODEL, Step.PAUSE_BATCH)),
        Fault.TOO_LONG: Rule(
            "400 `context_length_exceeded`, or counted before the call",
            _A,
            (Step.NEXT_MODEL, Step.DEAD),
        ),
        Fault.REQUEST_REFUSED: Rule(
            "400 or 422 naming the schema or a parameter; any other 404; a redirect",
            _D,
            (Step.AGAIN,),
            # A document that is refused alone, between successes, must not spin.
            Backoff(5, 300),
            alike_pauses=True,
        ),
        Fault.BAD_REQUEST: Rule("any other 4xx", _A, (Step.DEAD,), alike_pauses=True),
        Fault.CONFLICT: Rule("408, 409", _A, (Step.AGAIN,), Backoff(1, 30), free_in_outage=True),
        Fault.SERVER_ERROR: Rule("5xx", _A, (Step.AGAIN,), Backoff(1, 60), free_in_outage=True),
        Fault.NOT_SENT: Rule(
            "no connection: refused, unknown host, timeout, TLS",
            _D,
            (Step.AGAIN,),
            Backoff(0.5, 30),
        ),
        Fault.AMBIGUOUS: Rule(
            "dropped, timed out, dripped or over 16 MB after sending; spent at worst case",
            _A,
            (Step.REVIEW_IF_ASKED, Step.AGAIN_ONCE, Step.DEAD),
            Backoff(5, 120),
        ),
        Fault.NOT_A_COMPLETION: Rule(
            "200 with HTML, malformed JSON, `choices` null or empty, or `{error}`",
            _A,
            (Step.AGAIN,),
            Backoff(1, 60),
            free_in_outage=True,
        ),
        Fault.TRUNCATED: Rule(
            "`finish_reason` length", _A, (Step.DOUBLE_OUTPUT, Step.NEXT_MODEL, Step.DEAD)
        ),
        Fault.REFUSED: Rule("`message.refusal`", _A, (Step.NEXT_MODEL_ONCE, Step.DEAD)),
        Fault.FILTERED: Rule(
            "`finish_reason` or 400 `content_filter`", _A, (Step.NEXT_MODEL_ONCE, Step.DEAD)
        ),
        Fault.INVALID_JSON: Rule(
            "no strict JSON (depth, NaN, giant integers, duplicate keys), and no free repair",
            _A,
            (Step.REASK, Step.NEXT_MODEL, Step.DEAD),
        ),
        Fault.SCHEMA_INVALID: Rule(
            "not valid by the schema", _A, (Step.REASK, Step.NEXT_MODEL, Step.DEAD)
        ),
        Fault.NOT_GROUNDED: Rule(
            "a quote is not in the document", _A, (Step.REASK_CHECK, Step.REVIEW)
        ),
        Fault.CHECK_FAILED: Rule("a check of the job", _A, (Step.REASK_CHECK, Step.REVIEW)),
        Fault.SECOND_READ_DIFFERS: Rule(
            "a second read, by another prompt or model, gives other values", _A, (Step.REVIEW,)
        ),
        Fault.INTERNAL_ERROR: Rule(
            "any other exception",
            _D,
            (Step.AGAIN_TWICE, Step.DEAD),
            Backoff(300, 300, floor_s=300),
            alike_pauses=True,
        ),
        # Not `ambiguous`: the worker failed and not the document, so it has all its attempts.
        Fault.WORKER_LOST: Rule(
            "its worker died during the call; spent at worst case",
            _A,
            (Step.REVIEW_IF_ASKED, Step.AGAIN),
            Backoff(0.5, 5),
        ),
        Fault.POISON: Rule("two workers died while rendering or checking it", _A, (Step.DEAD,)),
        Fault.OVER_CEILING: Rule(
            "what it has cost and the expected cost of another call exceed its ceiling",
            _A,
            (Step.DEAD,),
        ),
    }
)


FREE_IN_OUTAGE = frozenset(fault for fault, rule in FAILURE_TABLE.items() if rule.free_in_outage)


def decide(
    failure: Failure, history: History, policy: Policy, rng: random.Random
) -> Again | Review | Dead:
    """What happens to a document after `failure`; touches nothing but `rng`.

    The first step of the fault's row that may be taken, is. Where that is another call:
    - and `max_attempts` are used up: dead `attempts_exhausted`, unless the row ends in a review:
      data that failed only a check is worth a person's look. A row that would end here anyway
      keeps its own reason, which says more.
    - and it is free, but would begin later than `deferral_max_s` after the first deferral: dead
      `deferred_too_long`.
    A pause is exempt from both: the cause is not the document's, and a person has to resume.

    `Again.reask` holds the errors to show next. Empty on the same ladder step, it leaves standing
    what an earlier re-ask asked for; a new model starts without.
    """
    rule = FAILURE_TABLE[failure.fault]
    step = next(step for step in rule.steps if _may(step, history, policy))
    if step in {Step.REVIEW, Step.REVIEW_IF_ASKED}:
        return _review(failure)
    if step is Step.DEAD:
        return Dead(failure.fault.value, failure, alike_pauses=rule.alike_pauses)
    again = _again(step, rule, failure, history=history, policy=policy, rng=rng)
    return again if again.pauses else _within_limits(again, rule, history, policy)


def _within_limits(
    again: Again, rule: Rule, history: History, policy: Policy
) -> Again | Review | Dead:
    """The call, or how the document ends that has had its share of calls or of waiting."""
    if history.attempts >= policy.max_attempts:
        if rule.steps[-1] is Step.REVIEW:
            return _review(again.failure)
        reason = DeadReason.ATTEMPTS_EXHAUSTED
    elif again.charge is _D and history.deferred_s + again.delay_s > policy.deferral_max_s:
        reason = DeadReason.DEFERRED_TOO_LONG
    else:
        return again
    return Dead(reason.value, again.failure, alike_pauses=rule.alike_pauses)


def record_attempt(history: History, failure: Failure) -> History:
    """The history with this failure counted in: what `decide` is to be asked with."""
    charged = FAILURE_TABLE[failure.fault].charge_of(failure) is _A
    return replace(
        history,
        attempts=history.attempts + charged,
        ambiguous=history.ambiguous + (failure.fault is Fault.AMBIGUOUS),
        internal_errors=history.internal_errors + (failure.fault is Fault.INTERNAL_ERROR),
    )


def describe() -> str:
    """The failure table as Markdown, for ARCHITECTURE.md."""
    rows = [
        "| fault | recognised by | what happens | backoff | counts as |",
        "|---|---|---|---|---|",
    ]
    for fault, rule in FAILURE_TABLE.items():
        happens = "; else ".join(step.value for step in rule.steps)
        if rule.alike_pauses:
            happens += "; three documents alike pause the batch"
        backoff = rule.backoff or "none"
        counts = rule.charge.value
        if rule.free_in_outage:
            counts += "; deferral while the breaker is open"
        rows.append(f"| `{fault}` | {rule.recognised} | {happens} | {backoff} | {counts} |")
    return "\n".join(rows) + "\n"


def signature(failure: Failure) -> str:
    """The group of a dead letter: its fault, and its message without what differs by document.

    Quoted parts become `…`, numbers and ids `#`; at most 120 characters.
    """
    text = failure.message[: 10 * SIGNATURE_MAX_CHARS]
    for pattern, stand_in in _VARIABLE_PARTS:
        text = pattern.sub(stand_in, text)
    line = f"{failure.fault.value}: {' '.join(text.split())}"
    return line if len(line) <= SIGNATURE_MAX_CHARS else line[: SIGNATURE_MAX_CHARS - 1] + "…"


_VARIABLE_PARTS = (
    (re.compile(r'"[^"]*"|`[^`]*`|“[^”]*”|(?<!\w)\'[^\']*\'(?!\w)'), "…"),
    (re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{8,}\b"), "#"),  # ids: letters and digits
    (re.compile(r"[-+]?\d+(?:[.,:]\d+)*"), "#"),
)


def _may(step: Step, history: History, policy: Policy) -> bool:  # noqa: PLR0911 - one a step
    """Whether a document with this history may take `step`, the limits of all calls apart."""
    match step:
        case (
            Step.AGAIN
            | Step.PAUSE_BATCH
            | Step.PAUSE_KEY
            | Step.PAUSE_LANE
            | Step.REVIEW
            | Step.DEAD
        ):
            return True
        case Step.AGAIN_ONCE:
            return history.ambiguous < AMBIGUOUS_MAX
        case Step.AGAIN_TWICE:
            return history.internal_errors < INTERNAL_ERRORS_MAX
        case Step.DOUBLE_OUTPUT:
            return not history.output_doubled
        case Step.REASK:
            return history.reasks < policy.max_reasks
        case Step.REASK_CHECK:
            return history.check_reasks < policy.max_check_reasks
        case Step.NEXT_MODEL:
            return history.ladder_step + 1 < policy.ladder_length
        case Step.NEXT_MODEL_ONCE:
            # The history does not count refusals: a document that has left the first model, for
            # whatever reason, has had its second opinion.
            return history.ladder_step == 0 and policy.ladder_length > 1
        case Step.REVIEW_IF_ASKED:
            return policy.review_ambiguous
        case _:
            assert_never(step)


def _again(
    step: Step,
    rule: Rule,
    failure: Failure,
    *,
    history: History,
    policy: Policy,
    rng: random.Random,
) -> Again:
    moves_on = step in {Step.NEXT_MODEL, Step.NEXT_MODEL_ONCE}
    reasks = step in {Step.REASK, Step.REASK_CHECK}
    present = min(history.ladder_step, policy.ladder_length - 1)
    return Again(
        delay_s=_delay_s(rule, failure, history=history, rng=rng),
        charge=rule.charge_of(failure),
        failure=failure,
        ladder_step=present + 1 if moves_on else present,
        reask=(failure.errors or (FieldError("", failure.message),)) if reasks else (),
        output_doubled=not moves_on and (step is Step.DOUBLE_OUTPUT or history.output_doubled),
        pauses=_PAUSES.get(step),
        alike_pauses=rule.alike_pauses,
    )


def _delay_s(rule: Rule, failure: Failure, *, history: History, rng: random.Random) -> float:
    """The larger of what the provider asked for and our own backoff."""
    asked_s = failure.retry_after_s or 0.0
    if rule.backoff is None:
        return asked_s
    before = history.deferrals if rule.charge_of(failure) is _D else max(history.attempts - 1, 0)
    return max(asked_s, rule.backoff.delay_s(failures_before=before, rng=rng))


def _review(failure: Failure) -> Review:
    return Review(
        failure.fault.value, failure, data_json=failure.data_json, evidence=failure.evidence
    )
