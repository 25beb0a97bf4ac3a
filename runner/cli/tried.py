"""What a person is told of a try at its end: its outcome, its cost, what a run would do next."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from runner.budget import nusd_to_usd
from runner.cli.exits import Exit
from runner.cli.fields import NO_GROUND
from runner.cli.shapes.base import FieldErrorShape, in_s, in_usd
from runner.cli.shapes.documents import EvidenceShape
from runner.cli.shapes.trying import TriedOutcome, TryShape
from runner.cli.terminal import lines_of, plain, say, talk
from runner.cli.wording import duration, usd
from runner.keys import trace_id
from runner.ledger import Ledger
from runner.ledger.calls import AttemptRow, document_calls, view_document
from runner.ledger.gate import Refusal
from runner.ledger.money import DAY
from runner.model import (
    Again,
    AttemptState,
    Dead,
    Done,
    Evidence,
    Failure,
    Fault,
    Pauses,
    Review,
    Unconfirmed,
)
from runner.pinned import Pinned
from runner.stream import Stream
from runner.trying import Tried

SPENT = (Refusal.BUDGET_SPENT, Refusal.BUDGET_WAIT, Refusal.PRICE_UNKNOWN, Refusal.KEY_PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A try at its end, with all that is told of it."""

    tried: Tried
    pinned: Pinned
    source: str
    stream: Stream
    interrupted: bool
    seconds: float

    @property
    def failure(self) -> Failure | None:
        """Why its answer gave no record, or none that needs nobody."""
        match self.tried.ended:
            case Again(failure=failure) | Review(failure=failure) | Dead(failure=failure):
                return failure
            case _:
                return None

    @property
    def data_json(self) -> str | None:
        """The valid data of its answer, if it came to that."""
        ended = self.tried.ended
        if isinstance(ended, Done):
            return ended.data_json
        return None if self.failure is None else self.failure.data_json

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Where its values stand in the document."""
        ended = self.tried.ended
        if isinstance(ended, Done):
            return ended.evidence
        return () if self.failure is None else self.failure.evidence

    @property
    def exit(self) -> Exit:
        """The exit code; a record is worth more than the Ctrl-C that came too late for it."""
        match self.tried.ended:
            case Done():
                return Exit.DONE
            case _ if self.interrupted:
                return Exit.INTERRUPTED
            case Again(pauses=Pauses()):
                return Exit.PAUSED
            case Unconfirmed() | Again() | Review() | Dead():
                return Exit.UNFINISHED
            case Refusal() as refusal:
                return Exit.PAUSED if refusal in SPENT else Exit.FAILED
            case None:
                return Exit.FAILED
            case _:
                assert_never(self.tried.ended)


def shape_of(ledger: Ledger, end: End, *, marks: Mapping[str, str]) -> TryShape:
    """All that is known of a try."""
    document_id = end.tried.document_id
    with ledger.snapshot() as connection:
        view = view_document(connection, document_id)
        calls = document_calls(connection, document_id)
    call = calls[-1] if calls else None
    failure = end.failure
    return TryShape(
        document_id=document_id,
        batch=view.batch_name,
        job=view.job,
        source=end.source,
        prompt=end.pinned.prompt.version,
        model=call.model if call is not None else end.pinned.models[0],
        simulated=end.tried.batch.simulated,
        outcome=_outcome(end.tried),
        interrupted=end.interrupted,
        state=view.state,
        reason=_reason(end),
        message=_message(end, call),
        errors=tuple(
            FieldErrorShape(path=error.path, message=error.message)
            for error in (failure.errors if failure is not None else ())
        ),
        next=what_next(end.tried, models=end.pinned.models),
        data=None if end.data_json is None else json.loads(end.data_json),
        flags=view.flags,
        evidence=tuple(
            EvidenceShape(path=one.path, start=one.start, end=one.end, how=one.how)
            for one in end.evidence
        ),
        no_ground=tuple(path for path, mark in marks.items() if mark == NO_GROUND),
        attempt_id=None if call is None else call.id,
        streamed=end.stream.first_us is not None,
        first_token_s=in_s(end.stream.first_us),
        total_s=round(end.seconds, 3),
        **_used(call),
        cost_usd=in_usd(view.cost_nusd if call is None or call.cost_nusd is not None else None),
        ambiguous_usd=nusd_to_usd(view.ambiguous_nusd),
        trace_id=trace_id(document_id),
    )


def _used(call: AttemptRow | None) -> dict[str, int | None]:
    names = ("input_tokens", "cached_tokens", "output_tokens")
    return {name: None if call is None else getattr(call, name) for name in names}


def _outcome(tried: Tried) -> TriedOutcome:
    match tried.ended:
        case Done() | Unconfirmed():
            return "done"
        case Again():
            return "again"
        case Review():
            return "review"
        case Dead():
            return "dead"
        case Refusal():
            return "refused"
        case None:
            return "stopped"
        case _:
            assert_never(tried.ended)


def _reason(end: End) -> str | None:
    match end.tried.ended:
        case Review(reason=reason) | Dead(reason=reason):
            return reason
        case Again(failure=failure):
            return failure.fault.value
        case Refusal() as refusal:
            return refusal.value
        case _:
            return None


def _message(end: End, call: AttemptRow | None) -> str | None:
    if end.failure is not None:
        return end.failure.message
    match end.tried.ended:
        case Refusal() as refusal:
            return _refusal_words(refusal, end.tried)
        case None:
            return _stop_words(end, call)
        case _:
            return None


def _stop_words(end: End, call: AttemptRow | None) -> str:
    if call is None:
        stopped = "interrupted before the call" if end.interrupted else "nobody was called"
        return end.tried.why or stopped
    if call.state == AttemptState.ANSWERED:
        return "its answer is kept: the next worker reads it, and pays nothing"
    return "this process was silent for so long that it was taken for dead; its call may be paid"


def _refusal_words(refusal: Refusal, tried: Tried) -> str:
    match refusal:
        case Refusal.BUDGET_SPENT if _is_of_day(tried):
            return "the budget of the day, of all batches together, has no room for this call"
        case Refusal.BUDGET_SPENT | Refusal.PRICE_UNKNOWN | Refusal.KEY_PAUSED:
            return tried.why
        case Refusal.BUDGET_WAIT:
            return "what is left of the budget is held by calls that run now"
        case Refusal.WORKER_LOST:
            return "this process was silent for so long that it was taken for dead"
        case Refusal.STALE | Refusal.BATCH_NOT_ACTIVE:
            return f"batch {tried.batch.name} was paused or cancelled meanwhile"
        case _:
            assert_never(refusal)


def _is_of_day(tried: Tried) -> bool:
    return (tried.batch.pause_scope or "").startswith(DAY)


def what_next(tried: Tried, *, models: Sequence[str]) -> str | None:
    """What a run would do with the document now, or what helps where the gate refused it."""
    match tried.ended:
        case Again() as again:
            return _after_again(again, models)
        case Review():
            return "a run would leave it to a person, too"
        case Dead():
            return "a run would end it here, too"
        case Refusal() as refusal:
            return _after_refusal(refusal, tried)
        case _:
            return None


def _after_again(again: Again, models: Sequence[str]) -> str:
    if again.pauses is Pauses.BATCH:
        return "a run would pause its batch until a person resumes it"
    if again.pauses is not None:
        return "a run would pause whatever is called with this key; `runner doctor` checks it"
    if again.ladder_step:
        return f"a run would ask {models[again.ladder_step]} next"
    if again.reask:
        return f"a run would ask {models[0]} again, with these errors"
    if again.failure.fault is Fault.TRUNCATED:
        return "a run would ask again, for twice the output tokens"
    return f"a run would ask again in about {duration(again.delay_s)}"


def _after_refusal(refusal: Refusal, tried: Tried) -> str:
    match refusal:
        case Refusal.BUDGET_SPENT if _is_of_day(tried):
            return "a larger day_usd under [budget] in runner.toml, or 00:00 UTC, lets it through"
        case Refusal.BUDGET_SPENT:
            return "a larger --budget-usd lets it through"
        case Refusal.PRICE_UNKNOWN:
            return "the model's prices in runner.toml, or no limit of money, let it through"
        case Refusal.KEY_PAUSED:
            return "`runner status` shows who waits for this key, and what lets them go on"
        case _:
            return "the same command tries it again"


def say_try(shape: TryShape) -> None:
    """Write how a try ended, for a person; its fields have been shown."""
    say("\n" + lines_of(_facts(shape)))
    for error in shape.errors:
        say(f"  {plain(error.path) or 'the whole'}: {plain(error.message)}")


def tell_next(shape: TryShape, *, typed: Sequence[str]) -> None:
    """Say which command shows more, and after a Ctrl-C which one tries again."""
    talk(f"`runner show {shape.document_id}` shows its text, its call and its state")
    if shape.interrupted and shape.outcome != "done":
        talk(f"\ninterrupted; this tries it again:\n  {shlex.join(['runner', *typed])}")


def _facts(shape: TryShape) -> list[tuple[str, object]]:
    return [
        ("outcome", _outcome_words(shape)),
        ("next", shape.next),
        ("flags", ", ".join(shape.flags)),
        ("document", shape.document_id),
        ("model", f"{shape.model}, prompt {shape.prompt}"),
        ("first token", _first_token(shape)),
        ("in all", duration(shape.total_s)),
        ("tokens", _tokens(shape)),
        ("cost", _cost(shape)),
    ]


def _outcome_words(shape: TryShape) -> str:
    name = {
        "done": "done",
        "review": "to review",
        "dead": "dead",
        "again": "not done",
        "refused": "not asked",
        "stopped": "not asked" if shape.attempt_id is None else "unknown",
    }[shape.outcome]
    named = shape.outcome in ("review", "dead", "again")
    why = [shape.reason if named else None, shape.message]
    return ": ".join([name, *(part for part in why if part)])


def _first_token(shape: TryShape) -> str | None:
    if shape.first_token_s is not None:
        return duration(shape.first_token_s)
    return None if shape.output_tokens is None else "with the whole answer: it was not streamed"


def _tokens(shape: TryShape) -> str | None:
    if shape.input_tokens is None or shape.output_tokens is None:
        return None
    cached = f" ({shape.cached_tokens:,} cached)" if shape.cached_tokens else ""
    return f"{shape.input_tokens:,} in{cached}, {shape.output_tokens:,} out"


def _cost(shape: TryShape) -> str | None:
    if shape.attempt_id is None:
        return None
    made_up = ", made up" if shape.simulated else ""
    if shape.ambiguous_usd:
        return f"up to {usd(shape.ambiguous_usd)}: nobody knows whether the call was paid{made_up}"
    return usd(shape.cost_usd) + made_up
