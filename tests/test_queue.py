"""The road: ids in a real Redis-compatible server, held and found again; never text or pickle."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis

from runner.keys import Ticket, queue_name
from runner.queue import HELD, PAYLOAD_TTL_MS, ROAD_ERRORS, Extract, Road
from runner.servers.resident import Resident
from runner.servers.valkey import use_valkey
from runner.worker import _end

LEDGER = "abc123"
TICKETS = [Ticket(f"d{number}", 1) for number in range(5)]
SOON_S = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    with use_valkey(tmp_path_factory.mktemp("home")) as resident:
        yield resident


@pytest.fixture
async def redis(server: Resident) -> AsyncIterator[Redis]:
    redis = Redis.from_url(server.url)
    await redis.flushall()
    yield redis
    await redis.aclose()


@pytest.fixture
async def road(server: Resident, redis: Redis) -> AsyncIterator[Road]:
    road = Road(server.url, ledger_id=LEDGER)
    yield road
    await road.close()


@asynccontextmanager
async def working(
    road: Road, extract: Extract, *, slots: int = 5, place: tuple[int, int] = (0, 1)
) -> AsyncIterator[None]:
    worker = road.make_worker(extract, slots=slots, place=lambda: place)
    task = asyncio.create_task(worker.async_run())
    try:
        yield
    finally:
        await _end([task])
        await _end(worker.tasks.values())


async def held_by(road: Road, number: int) -> int:
    return len((await road.held()).get(number, []))


async def eventually(look: Callable[[], Awaitable[int]], wanted: int) -> None:
    async with asyncio.timeout(SOON_S):
        while await look() != wanted:  # noqa: ASYNC110 - a server gives no signal
            await asyncio.sleep(0.02)


async def until(condition: asyncio.Event) -> None:
    async with asyncio.timeout(SOON_S):
        await condition.wait()


async def test_what_is_pushed_is_on_the_road_and_what_is_not_is_missing(road: Road) -> None:
    await road.push(TICKETS[:3])
    assert await road.missing(TICKETS) == TICKETS[3:]
    assert await road.missing([Ticket("d0", 2)]) == [Ticket("d0", 2)], "another turn"
    assert await road.missing([]) == []
    assert await road.depth() == 3


async def test_pushing_again_changes_nothing_but_the_place(road: Road) -> None:
    await road.push(TICKETS)
    await road.push(TICKETS)
    assert await road.depth() == len(TICKETS)


async def test_a_payload_is_json_without_a_word_of_the_document_and_expires(
    road: Road, redis: Redis
) -> None:
    await road.push(TICKETS[:1])
    keys = sorted([key async for key in redis.scan_iter()])
    assert keys == [f"arq:job:{LEDGER}:d0:1".encode(), queue_name(LEDGER).encode()]
    payload = json.loads(await redis.get(keys[0]))
    assert set(payload) == {"t", "f", "a", "k", "et"}
    assert (payload["f"], payload["a"], payload["k"]) == ("extract", [], {})
    assert 0 < await redis.pttl(keys[0]) <= PAYLOAD_TTL_MS


async def test_held_ids_are_found_by_the_number_of_their_worker(road: Road) -> None:
    await road.push(TICKETS)
    road.hold(TICKETS[0], number=7)
    road.hold(TICKETS[1], number=7)
    road.hold(TICKETS[2], number=8)
    road.hold(Ticket("never pushed", 1), number=8)
    await asyncio.sleep(0.1)
    held = await road.held()
    assert {number: set(some) for number, some in held.items()} == {
        7: set(TICKETS[:2]),
        8: {TICKETS[2]},
    }


async def test_an_id_is_held_that_comes_while_others_are_on_their_way(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    await road.push(TICKETS)
    zadd = road._redis.zadd

    async def zadd_while_another_comes(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        road.hold(TICKETS[1], number=7)
        return await zadd(*arguments, **options)

    monkeypatch.setattr(road._redis, "zadd", zadd_while_another_comes)
    road.hold(TICKETS[0], number=7)
    await eventually(lambda: held_by(road, 7), 2)


async def test_a_foreign_id_among_the_held_ones_is_passed_over(road: Road, redis: Redis) -> None:
    await redis.zadd(queue_name(LEDGER), {"not:ours": HELD + 1, "nor:this:one": HELD + 1})
    assert await road.held() == {}


async def test_what_is_forgotten_leaves_no_key(road: Road, redis: Redis) -> None:
    await road.push(TICKETS)
    await redis.set(f"arq:in-progress:{LEDGER}:d0:1", 1)
    await redis.set(f"arq:retry:{LEDGER}:d0:1", 1)
    await road.forget(TICKETS)
    await road.forget([])
    assert [key async for key in redis.scan_iter()] == []


async def test_a_worker_is_handed_every_ticket_once_and_in_order(road: Road, redis: Redis) -> None:
    seen: list[Ticket] = []
    done = asyncio.Event()

    async def extract(ticket: Ticket) -> None:
        seen.append(ticket)
        if len(seen) == len(TICKETS):
            done.set()

    await road.push(TICKETS)
    async with working(road, extract, slots=1):
        await until(done)
        await asyncio.sleep(0.1)
    assert seen == TICKETS
    assert await road.depth() == 0
    assert [key async for key in redis.scan_iter(f"arq:*:{LEDGER}:d*")] == []


async def test_an_id_that_is_held_leaves_the_head_of_the_queue_to_others(road: Road) -> None:
    release = asyncio.Event()
    passed = asyncio.Event()

    async def wait(ticket: Ticket) -> None:
        road.hold(ticket, number=1)
        await release.wait()

    async def pass_on(ticket: Ticket) -> None:
        assert ticket == TICKETS[4]
        passed.set()

    await road.push(TICKETS[:4])
    async with working(road, wait, slots=4):
        await eventually(lambda: held_by(road, 1), 4)
        await road.push(TICKETS[4:])
        # another worker, with room for one look-up only, finds the free id at once
        async with working(road, pass_on, slots=1):
            await until(passed)
        assert await road.missing(TICKETS[:4]) == []
        release.set()
        await asyncio.sleep(0.2)
    assert await road.depth() == 0


async def test_an_id_begun_by_a_worker_that_died_before_it_held_it_counts_as_missing(
    road: Road, redis: Redis
) -> None:
    await road.push(TICKETS[:2])
    for ticket in TICKETS[:2]:
        await redis.set(f"arq:in-progress:{ticket.arq_id(LEDGER)}", 1)
    road.hold(TICKETS[1], number=1)
    await asyncio.sleep(0.1)
    assert await road.missing(TICKETS[:2]) == TICKETS[:1]


async def test_a_payload_that_somebody_planted_is_not_loaded_as_pickle(
    road: Road, redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trap = tmp_path / "sprung"
    pickled = b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    await road.push(TICKETS[:2])
    await redis.set(f"arq:job:{TICKETS[0].arq_id(LEDGER)}", pickled)
    seen: list[Ticket] = []
    done = asyncio.Event()

    async def extract(ticket: Ticket) -> None:
        seen.append(ticket)
        done.set()

    async with working(road, extract):
        await until(done)
        await asyncio.sleep(0.1)
    assert seen == TICKETS[1:2]
    assert not trap.exists()


async def test_two_ledgers_on_one_server_do_not_see_each_other(
    server: Resident, road: Road
) -> None:
    other = Road(server.url, ledger_id="other")
    await other.push(TICKETS)
    assert await road.depth() == 0
    assert await road.missing(TICKETS) == TICKETS
    await other.close()


async def test_ids_survive_a_restart_of_the_server_and_work_goes_on(tmp_path: Path) -> None:
    with use_valkey(tmp_path) as server:
        road = Road(server.url, ledger_id=LEDGER)
        await road.push(TICKETS)
        await asyncio.sleep(1.2)  # the server's promise: at most a second is lost
        pid = json.loads((tmp_path / "redis" / "server.pid").read_text())["pid"]
        psutil.Process(pid).kill()
        with suppress(*ROAD_ERRORS):
            await road.ping()
        await asyncio.to_thread(server.ensure)
        await road.ping()
        assert await road.missing(TICKETS) == []
        seen: set[Ticket] = set()
        done = asyncio.Event()

        async def extract(ticket: Ticket) -> None:
            seen.add(ticket)
            if len(seen) == len(TICKETS):
                done.set()

        async with working(road, extract):
            await until(done)
        await road.close()


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(SOON_S)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(SOON_S)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await _end([task])
    assert task.cancelled()
    assert swallowed == 2


async def test_a_server_that_is_away_raises_a_road_error_in_bounded_time(tmp_path: Path) -> None:
    road = Road(f"unix://{tmp_path}/nobody.sock", ledger_id=LEDGER)
    async with asyncio.timeout(SOON_S):
        for action in (road.ping(), road.push(TICKETS), road.missing(TICKETS), road.held()):
            with pytest.raises(ROAD_ERRORS):
                await action
    await road.close()


async def test_each_id_falls_to_exactly_one_of_several_workers(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.queue.LEFT_TO_OTHERS_S", 60.0)
    tickets = [Ticket(f"d{number}", 1) for number in range(60)]
    taken: dict[int, list[Ticket]] = {0: [], 1: [], 2: []}

    def extract_of(rank: int) -> Extract:
        async def extract(ticket: Ticket) -> None:
            taken[rank].append(ticket)

        return extract

    async def count() -> int:
        return sum(map(len, taken.values()))

    await road.push(tickets)
    async with (
        working(road, extract_of(0), place=(0, 3)),
        working(road, extract_of(1), place=(1, 3)),
        working(road, extract_of(2), place=(2, 3)),
    ):
        await eventually(count, 60)
    both = [ticket for some in taken.values() for ticket in some]
    assert len(both) == 60
    assert set(both) == set(tickets)
    assert all(taken.values()), "every one of them had a part"


async def test_what_a_worker_leaves_lying_is_taken_by_another(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.queue.LEFT_TO_OTHERS_S", 0.05)
    taken: list[Ticket] = []

    async def extract(ticket: Ticket) -> None:
        taken.append(ticket)

    async def count() -> int:
        return len(taken)

    await road.push([Ticket(f"d{number}", 1) for number in range(30)])
    async with working(road, extract, place=(0, 3)):
        await eventually(count, 30)


async def test_an_id_whose_payload_is_gone_is_dropped_without_a_word_of_its_arguments(
    road: Road, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async def extract(_: Ticket) -> None:
        raise AssertionError("there is nothing to extract")

    await road.push(TICKETS[:1])
    await redis.delete("arq:job:" + TICKETS[0].arq_id(LEDGER))
    async with working(road, extract):
        await eventually(road.depth, 0)
    assert "Traceback" not in caplog.text
    assert "not JSON serializable" not in caplog.text
