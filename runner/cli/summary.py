"""What a run tells the person at its end: what became of the batch, which command is next."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from runner.budget import format_usd
from runner.cli.export import Exported
from runner.cli.terminal import plain, talk
from runner.cli.watch import Ending
from runner.cli.wording import duration, several
from runner.exporters import STDOUT
from runner.ledger import Ledger
from runner.ledger.deadletters import DeadFilter, group_dead
from runner.ledger.money import DAY
from runner.ledger.standing import BatchStanding
from runner.model import DeadReason, DocumentState

GROUPS_MAX = 5
BUDGET = "--budget-usd"
SIGNATURE_CHARS_MAX = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A run at its end."""

    ending: Ending
    why: str
    standing: BatchStanding
    seconds: float
    out: str | None
    exported: Exported | None
    again: Sequence[str]  # the command line that was typed


def tell_ending(ledger: Ledger, told: Told) -> None:
    """Say how a run ended, on stderr."""
    talk(_counts_line(told))
    talk(_money_line(told.standing))
    _tell_results(told)
    _tell_dead(ledger, told.standing)
    _tell_reviews(told)
    _tell_next(told)


def _counts_line(told: Told) -> str:
    standing = told.standing
    states = standing.states
    parts = [
        (states[DocumentState.DONE], "done"),
        (states[DocumentState.REVIEW], "to review"),
        (states[DocumentState.DEAD], "dead"),
        (states[DocumentState.CANCELLED], "cancelled"),
        (standing.open, "not ended"),
    ]
    shown = ", ".join(f"{count:,} {name}" for count, name in parts if count) or "nothing in it"
    of = several(standing.accepted, "document")
    if standing.duplicate:
        of += f" from {several(standing.sources, 'source')}"
    return f"{standing.batch.name}: {of}: {shown} ({duration(told.seconds)})"


def _money_line(standing: BatchStanding) -> str:
    calls = several(standing.calls, "call")
    if not standing.cost_known:
        return f"{calls}, cost unknown (runner.toml can give the model's prices)"
    parts = [f"{calls}, {format_usd(standing.settled_nusd)}"]
    if standing.ambiguous_nusd:
        parts.append(f"and up to {format_usd(standing.ambiguous_nusd)} for calls of unknown end")
    if standing.limit_nusd is not None:
        parts.append(f"of a budget of {format_usd(standing.limit_nusd)}")
    return " ".join(parts)


def _tell_results(told: Told) -> None:
    name = shlex.quote(told.standing.batch.name)
    if told.exported is None:
        talk(f"results: `runner results {name} --out FILE` writes them")
        return
    if told.out != STDOUT:
        talk(f"results: {told.out} ({several(told.exported.lines, 'line')})")
    _tell_flags(told.exported.flags)


def _tell_flags(flags: Counter[str]) -> None:
    if flags:
        shown = ", ".join(f"{flag} {count:,}" for flag, count in flags.most_common(GROUPS_MAX))
        talk(f"flags: {shown}")


def _tell_dead(ledger: Ledger, standing: BatchStanding) -> None:
    dead = standing.states[DocumentState.DEAD]
    if not dead:
        return
    with ledger.snapshot() as connection:
        groups = group_dead(connection, DeadFilter(batch_id=standing.batch.id))
    name = shlex.quote(standing.batch.name)
    talk(f"\n{several(dead, 'dead letter')}:")
    for group in groups[:GROUPS_MAX]:
        words = plain(group.signature or group.reason, chars_max=SIGNATURE_CHARS_MAX)
        talk(f"  {group.documents:>6,}  {words}")
    if len(groups) > GROUPS_MAX:
        talk(f"          and {several(len(groups) - GROUPS_MAX, 'kind')} more")
    talk(f"  `runner dead list --batch {name}` lists them")
    if any(group.reason != DeadReason.UNPARSABLE for group in groups):
        talk(f"  `runner dead retry --batch {name}` tries them again, priced first")


def _tell_reviews(told: Told) -> None:
    waiting = told.standing.states[DocumentState.REVIEW]
    if not waiting:
        return
    name = shlex.quote(told.standing.batch.name)
    have = "has a record that waits" if waiting == 1 else "have records that wait"
    talk(f"\n{several(waiting, 'document')} {have} for a person: `runner review list {name}`")


def _going_on(told: Told) -> str:
    """How a paused batch goes on: a spent budget by a larger one, anything else by `resume`."""
    batch = told.standing.batch
    resume = f"runner batch resume {shlex.quote(batch.name)}"
    again = shlex.join(["runner", *told.again])
    if (batch.pause_scope or "").startswith(DAY):
        return (
            f"`{resume} --day-budget-usd USD` lets it go on today; then, or once the day is over, "
            f"this goes on:\n  {again}"
        )
    if batch.pause_scope is None and (batch.pause_reason or "").startswith("budget spent"):
        again = shlex.join(["runner", *_without_budget(told.again)])
        return f"the same command with a larger budget goes on:\n  {again} --budget-usd USD"
    return f"`{resume}` lets it go on, then:\n  {again}"


def _without_budget(typed: Sequence[str]) -> list[str]:
    kept = list(typed)
    while BUDGET in kept:
        place = kept.index(BUDGET)
        del kept[place : place + 2]
    return [part for part in kept if not part.startswith(f"{BUDGET}=")]


def _tell_next(told: Told) -> None:
    """Which command comes next, when the run did not end by itself."""
    batch = told.standing.batch
    again = shlex.join(["runner", *told.again])
    match told.ending:
        case Ending.FINISHED:
            return
        case Ending.CANCELLED:
            talk(f"\nbatch {batch.name} was cancelled; another --batch name begins a new one")
        case Ending.PAUSED:
            talk(f"\nbatch {batch.name} is paused: {batch.pause_reason}\n{_going_on(told)}")
        case Ending.STALLED:
            why = told.why or "no call came back"
            talk(
                f"\nstopped after --max-wait without an end of any document: {why}\n"
                f"this goes on:\n  {again}"
            )
        case Ending.INTERRUPTED:
            tell_interrupted(told.again)
        case _:
            assert_never(told.ending)


def tell_interrupted(typed: Sequence[str]) -> None:
    """Say which command goes on where an interrupted run stopped."""
    talk(f"\ninterrupted; this goes on:\n  {shlex.join(['runner', *typed])}")
