"""Turns under way: one each, outliving who waits for them, and none that fails unseen."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from runner.keys import Ticket
from runner.turns.underway import Turns

ONE, TWO, THREE = (Ticket(f"d{number}", 1) for number in range(3))


@dataclass
class Scripted:
    """Turns that go on until they are let end, and the times that one was told to be broken."""

    begun: list[Ticket] = field(default_factory=list)
    cancelled: list[Ticket] = field(default_factory=list)
    fails: dict[Ticket, Exception] = field(default_factory=dict)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    told: int = 0

    async def run_turn(self, ticket: Ticket) -> None:
        """As a pipeline does: a cancellation is an end like any other."""
        self.begun.append(ticket)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(ticket)
        if ticket in self.fails:
            raise self.fails[ticket]

    def tell(self) -> None:
        """A turn is broken."""
        self.told += 1


@pytest.fixture
async def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
async def turns(scripted: Scripted) -> Turns:
    return Turns(scripted.run_turn, on_broken=scripted.tell)


async def wait_for(turn: "asyncio.Task[object]") -> None:
    await asyncio.shield(turn)


async def test_a_ticket_that_comes_again_joins_its_turn(turns: Turns, scripted: Scripted) -> None:
    turn = turns.begin(ONE)
    assert turns.begin(ONE) is turn
    assert (len(turns), ONE in turns, TWO in turns) == (1, True, False)
    scripted.may_end.set()
    await turn
    assert scripted.begun == [ONE]
    assert (len(turns), ONE in turns) == (0, False)


async def test_a_turn_that_fails_after_its_waiter_has_gone_is_told(
    turns: Turns, scripted: Scripted
) -> None:
    scripted.fails[ONE] = OSError("the ledger is gone")
    waiter = asyncio.create_task(wait_for(turns.begin(ONE)))
    await asyncio.sleep(0)
    waiter.cancel()  # as when Redis is away, and an arq worker ends
    with suppress(asyncio.CancelledError):
        await waiter
    assert ONE in turns
    scripted.may_end.set()
    await turns.finish(within_s=5, cut_off=asyncio.Event())
    assert (turns.broken, scripted.told) == (scripted.fails[ONE], 1)


async def test_of_several_that_fail_the_first_is_kept(turns: Turns, scripted: Scripted) -> None:
    scripted.fails = {ONE: OSError("first"), TWO: OSError("second")}
    both = [turns.begin(ticket) for ticket in (ONE, TWO)]
    scripted.may_end.set()
    await asyncio.gather(*both, return_exceptions=True)
    assert (str(turns.broken), scripted.told) == ("first", 2)


async def test_what_waits_is_cancelled_and_what_is_called_goes_on(
    turns: Turns, scripted: Scripted
) -> None:
    for ticket in (ONE, TWO, THREE):
        turns.begin(ticket)
    await asyncio.sleep(0)
    await turns.cancel(but={TWO})
    assert scripted.cancelled == [ONE, THREE]
    assert turns.broken is None
    assert TWO in turns


@pytest.mark.parametrize("by", ["time", "cut-off"])
async def test_what_does_not_end_in_time_or_before_the_cut_off_is_cancelled(
    turns: Turns, scripted: Scripted, by: str
) -> None:
    cut_off = asyncio.Event()
    turns.begin(ONE)
    await asyncio.sleep(0)
    if by == "cut-off":
        asyncio.get_running_loop().call_later(0.01, cut_off.set)
    async with asyncio.timeout(5):
        await turns.finish(within_s=0.01 if by == "time" else 60, cut_off=cut_off)
    assert scripted.cancelled == [ONE]
    assert len(turns) == 0


async def test_nothing_under_way_is_not_waited_for(turns: Turns) -> None:
    async with asyncio.timeout(5):
        await turns.finish(within_s=60, cut_off=asyncio.Event())
