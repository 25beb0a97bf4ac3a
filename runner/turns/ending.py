"""How a turn ends: its outcome, and what its call cost; decides, and writes nothing down."""

import random

from runner import secondread
from runner.completion import Reading, read_answer
from runner.ledger.ends import Settlement
from runner.model import Again, Done, Failure, Fault, Outcome, Purpose, Unanswered, Unconfirmed
from runner.prices import PriceList
from runner.retry import decide, record_attempt
from runner.settling import settle
from runner.turns.turn import Turn


def outcome_of(turn: Turn, verdict: Done | Failure, *, now_us: int, rng: random.Random) -> Outcome:
    """What becomes of the document: by its second read where it has one, else by the verdict."""
    outcome: Outcome
    if isinstance(verdict, Done):
        outcome = _of_good(turn, verdict)
    else:
        history = record_attempt(turn.work.history_at(now_us), verdict)
        outcome = decide(verdict, history, turn.pinned.policy, rng)
    if turn.work.first is None:
        return outcome
    return secondread.concluded(outcome, turn.work.first, schema=turn.pinned.job.schema)


def _of_good(turn: Turn, done: Done) -> Done | Unconfirmed:
    second = turn.work.second
    if turn.work.first is not None or second is None:
        return done
    if not secondread.is_wanted(second, done, turn.work):
        return done
    assert turn.attempt_id is not None
    return secondread.first_read(
        done,
        attempt_id=turn.attempt_id,
        model=turn.model,
        prompt_id=turn.pinned.prompt_id,
    )


def settlement_of(
    turn: Turn,
    outcome: Outcome,
    *,
    reading: Reading | None,
    unanswered: Unanswered | None,
    prices: PriceList,
    parse_us: int | None,
    now_ns: int,
) -> Settlement | None:
    """What the attempt cost; None when nothing was called, or when it will be read again."""
    if turn.lease_token is None or turn.attempt_id is None:
        return None
    reads_again = isinstance(outcome, Again) and turn.work.purpose is not Purpose.TRY
    if turn.answer is not None and reading is None and reads_again:
        return None  # our own bug while reading: the paid answer stays for the next turn
    if reading is None and turn.answer is not None:
        reading = read_answer(turn.answer)
    settled = settle(
        price=prices.price(turn.model),
        hold_nusd=turn.hold_nusd,
        answer=turn.answer,
        reading=reading,
        unanswered=unanswered,
    )
    elapsed = turn.answer or unanswered
    return Settlement(
        attempt_id=turn.attempt_id,
        state=settled.state,
        cost_nusd=settled.cost_nusd,
        ambiguous_nusd=settled.ambiguous_nusd,
        usage=reading.completion.usage if reading and reading.completion else None,
        response_us=elapsed.elapsed_us if elapsed else None,
        parse_us=parse_us,
        total_us=(now_ns - turn.started_ns) // 1000,
    )


def unsent(turn: Turn) -> Unanswered | None:
    """What is known of a call that never left; None where it may have, or is answered already."""
    if turn.sent or turn.work.stored is not None:
        return None
    return Unanswered(Fault.NOT_SENT, "stopped before the call was sent")
