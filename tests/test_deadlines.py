"""No call outlives its deadline, whatever the network does, and none is called unsent that was not.

Each fault strikes one call, and fifty at once; the provider's own book says what it was asked.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from runner.config import ModelSettings, Settings
from runner.keys import new_id
from runner.model import Call, Fault, RawAnswer, Unanswered
from runner.provider import OpenAIProvider
from runner.testing import ProviderProcess
from tests import fault_proxy as faults

DEADLINE_S = 0.8
DEADLINE_OF_MANY_S = 2.4  # half of it is for connecting, fifty at once on a busy machine
LATE_S = 2.0  # a busy machine may be that late; without its deadline a call is later by far
MANY = 50
BODY = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "Name: Ann\nTotal: 12.50"}]}
).encode()

STRIKES_BEFORE = (
    faults.close_at_once,
    faults.hang,
    faults.never_read,
    faults.talk_garbage,
    faults.never_end_a_header,
    faults.never_end_the_headers,
    faults.only_promise,
    faults.never_end_the_chunks,
)
SPOILS_THE_ANSWER = (
    faults.drip_headers,
    faults.drip_body,
    faults.reset_mid_headers,
    faults.reset_mid_body,
    faults.close_mid_headers,
    faults.body_too_short,
    faults.body_too_short_and_held,
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ProviderProcess]:
    with ProviderProcess() as provider:
        yield provider


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[OpenAIProvider]:
    settings = Settings(home=Path("home"), models={"m": ModelSettings(base_url=url)})
    asked = OpenAIProvider(settings, env={})
    try:
        yield asked
    finally:
        await asked.aclose()


def a_call(body: bytes = BODY, deadline_s: float = DEADLINE_S) -> Call:
    return Call(attempt_id=new_id("a"), model="m", body=body, deadline_s=deadline_s)


def calls_at_once(count: int) -> list[Call]:
    deadline_s = DEADLINE_S if count == 1 else DEADLINE_OF_MANY_S
    return [a_call(deadline_s=deadline_s) for _ in range(count)]


async def in_time(asked: OpenAIProvider, *calls: Call) -> list[RawAnswer | Unanswered]:
    """What the calls got, all made at once; fails when one outlives its deadline."""

    async def one(call: Call) -> RawAnswer | Unanswered:
        begun_s = time.monotonic()
        got = await asked.call(call)
        assert time.monotonic() - begun_s < call.deadline_s + LATE_S
        return got

    return await asyncio.gather(*map(one, calls))


def faults_of(got: list[RawAnswer | Unanswered]) -> set[Fault]:
    """The faults of calls of which none was answered."""
    assert all(isinstance(each, Unanswered) for each in got), got
    return {each.fault for each in got if isinstance(each, Unanswered)}


def asked_for(upstream: ProviderProcess, calls: list[Call]) -> int:
    """How many of these calls the provider saw."""
    seen = {entry.attempt_id for entry in upstream.book()}
    return sum(call.attempt_id in seen for call in calls)


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("fault", STRIKES_BEFORE, ids=lambda fault: fault.__name__)
async def test_a_call_that_is_never_answered_ends_in_time_and_may_have_been_paid(
    upstream: ProviderProcess, fault: faults.Before, count: int
) -> None:
    calls = calls_at_once(count)
    async with (
        faults.proxying(upstream.base_url, before=fault) as proxy,
        asking(proxy.url) as asked,
    ):
        got = await in_time(asked, *calls)
    assert faults_of(got) == {Fault.AMBIGUOUS}
    assert proxy.connections == count  # each was sent once
    assert asked_for(upstream, calls) == 0


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("fault", SPOILS_THE_ANSWER, ids=lambda fault: fault.__name__)
async def test_a_call_whose_answer_breaks_on_its_way_ends_in_time_and_may_have_been_paid(
    upstream: ProviderProcess, fault: faults.After, count: int
) -> None:
    calls = calls_at_once(count)
    async with faults.proxying(upstream.base_url, after=fault) as proxy, asking(proxy.url) as asked:
        got = await in_time(asked, *calls)
    assert faults_of(got) == {Fault.AMBIGUOUS}
    assert asked_for(upstream, calls) == count  # and it was
    assert proxy.connections == count


@pytest.mark.parametrize("count", [1, MANY])
async def test_calls_that_nobody_accepts_were_sent_all_the_same(count: int) -> None:
    # the kernel shakes hands and takes the request; nobody ever looks
    with closing(socket.create_server(("127.0.0.1", 0), backlog=2 * MANY)) as silent:
        async with asking(f"http://127.0.0.1:{silent.getsockname()[1]}/v1") as asked:
            got = await in_time(asked, *calls_at_once(count))
    assert faults_of(got) == {Fault.AMBIGUOUS}


async def test_many_calls_into_a_full_backlog_were_not_sent() -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as black_hole:
        port = black_hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with asking(f"http://127.0.0.1:{port}/v1") as asked:
            got = await in_time(asked, *calls_at_once(MANY))
        for filler in fillers:
            filler.close()
    assert faults_of(got) == {Fault.NOT_SENT}


async def test_a_large_request_that_is_only_half_taken_may_have_been_paid(
    upstream: ProviderProcess,
) -> None:
    large = json.dumps({"model": "m", "messages": "x" * 20_000_000}).encode()
    async with (
        faults.proxying(upstream.base_url, before=faults.never_read) as proxy,
        asking(proxy.url) as asked,
    ):
        got = await in_time(asked, *(a_call(large) for _ in range(3)))
    assert faults_of(got) == {Fault.AMBIGUOUS}


async def test_bytes_beyond_the_answer_are_no_part_of_it(upstream: ProviderProcess) -> None:
    calls = calls_at_once(MANY)
    async with (
        faults.proxying(upstream.base_url, after=faults.body_too_long) as proxy,
        asking(proxy.url) as asked,
    ):
        got = await in_time(asked, *calls)
    for each in got:  # a server that cannot count need not be believed
        match each:
            case RawAnswer():
                assert json.loads(each.body)["object"] == "chat.completion"
            case Unanswered():
                assert each.fault is Fault.AMBIGUOUS


@pytest.mark.parametrize("pause_s", [0.0, 0.1], ids=["in one piece", "a moment later"])
async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_calls(
    upstream: ProviderProcess, pause_s: float
) -> None:
    smuggled = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"no": "mine"}'

    async def two_answers(answer: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer + (b"" if pause_s else smuggled))
        await asyncio.sleep(pause_s)
        writer.write(smuggled if pause_s else b"")
        await asyncio.Event().wait()

    async with (
        faults.proxying(upstream.base_url, after=two_answers) as proxy,
        asking(proxy.url) as asked,
    ):
        await in_time(asked, a_call())
        await asyncio.sleep(2 * pause_s)
        (second,) = await in_time(asked, a_call())
    if isinstance(second, RawAnswer):
        assert b"mine" not in second.body
    else:
        assert second.fault is Fault.AMBIGUOUS


async def test_the_link_still_works_after_every_fault(upstream: ProviderProcess) -> None:
    async with faults.proxying(upstream.base_url) as proxy, asking(proxy.url) as asked:
        got = await in_time(asked, *calls_at_once(MANY))
    assert {type(each) for each in got} == {RawAnswer}
