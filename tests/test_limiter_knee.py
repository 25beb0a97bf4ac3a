"""The knee of a server without known limits is found, kept, and found again; simulated servers."""

import statistics
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.limiter.knee import Epoch, Knee, Seen, first, is_over, next_limit
from tests.simulated_server import Fleet, Server

SEEDS = range(12)


def settled_fleet(server: Server, *, seed: int) -> tuple[Fleet, float]:
    """A fleet after its warm-up and as long again as its trials take, and when that ended."""
    places = server.places or 1
    fleet = Fleet(server, seed=seed)
    fleet.run_services(80 + 700 / places)
    warm_s = fleet.now_s
    fleet.run_services(100 + 2_000 / places)
    return fleet, warm_s


def shares(server: Server) -> tuple[list[float], list[float]]:
    """For each seed: capacity in use / the server's best, and mean limit / its places, sorted."""
    assert server.places
    used, limits = [], []
    for seed in SEEDS:
        fleet, warm_s = settled_fleet(replace(server), seed=seed)
        used.append(fleet.capacity_used(since_s=warm_s) / server.best)
        limits.append(fleet.mean_limit(since_s=warm_s) / server.places)
    return sorted(used), sorted(limits)


@pytest.mark.parametrize("size_sigma", [0.0, 0.7])
@pytest.mark.parametrize("places", [1, 2, 4, 10, 16, 64])
def test_a_server_with_places_is_kept_busy_and_its_line_short(
    places: int, size_sigma: float
) -> None:
    used, limits = shares(Server(places=places, size_sigma=size_sigma))
    assert statistics.median(used) >= 0.97
    assert used[1] >= 0.95  # all seeds but one
    assert statistics.median(limits) <= 1.6
    assert limits[-2] <= 2.2


@pytest.mark.parametrize(("places", "slowdown"), [(16, 0.05), (32, 0.02), (32, 0.05), (64, 0.02)])
def test_a_batching_server_is_given_whole_batches(places: int, slowdown: float) -> None:
    used, limits = shares(Server(places=places, slowdown=slowdown))
    assert statistics.median(used) >= 0.95
    assert limits[-2] <= 2


def test_a_server_that_only_gets_slower_is_not_flooded() -> None:
    # it has no places: 190 calls at once would be 95 % of its best, at twenty times the latency
    fleets = [settled_fleet(Server(slowdown=0.1), seed=seed) for seed in SEEDS]
    limits = [fleet.mean_limit(since_s=warm_s) for fleet, warm_s in fleets]
    assert statistics.median(limits) < 100
    assert min(fleet.capacity_used(since_s=warm_s) for fleet, warm_s in fleets) >= 0.75 * 10


@pytest.mark.parametrize("places", [4, 16, 64])
def test_the_warm_up_is_short(places: int) -> None:
    took = []
    for seed in SEEDS:
        fleet = Fleet(Server(places=places), seed=seed)
        while fleet.knee.base < 0.95 * places:
            fleet.run_services(1)
        took.append(fleet.now_s / fleet.server.service_s)
    assert statistics.median(took) <= 50  # times as long as one call takes
    assert max(took) <= 150


@pytest.mark.parametrize(("before", "after"), [(4, 16), (8, 64), (1, 16), (16, 4), (64, 8)])
def test_a_server_that_gets_faster_or_slower_is_followed(before: int, after: int) -> None:
    took = []
    for seed in SEEDS:
        fleet, _ = settled_fleet(Server(places=before, size_sigma=0.7), seed=seed)
        fleet.server.places = after
        changed_s = fleet.now_s
        while not 0.95 * after <= fleet.knee.base <= 2 * after:
            fleet.run_services(1)
            assert fleet.now_s - changed_s < 3_000 * fleet.server.service_s
        took.append((fleet.now_s - changed_s) / fleet.server.service_s)
    # a faster one is soon used; a slower one is busy all the while, and only the line shrinks late
    assert statistics.median(took) <= (400 if after > before else 800)


@pytest.mark.parametrize(("places", "above"), [(16, 10), (16, 16), (64, 40), (4, 4)])
def test_a_server_that_refuses_above_a_limit_is_kept_just_below_it(places: int, above: int) -> None:
    for seed in SEEDS:
        server = Server(places=places, refuses_above=above)
        fleet, warm_s = settled_fleet(server, seed=seed)
        assert fleet.capacity_used(since_s=warm_s) >= 0.9 * above
        refused = [at_s for at_s in fleet.refused_s if at_s > warm_s]
        calls = fleet.capacity_used(since_s=warm_s) / server.service_s * (fleet.now_s - warm_s)
        assert len(refused) <= 0.01 * calls


@pytest.mark.parametrize("places", [4, 16, 64])
def test_an_episode_of_errors_cuts_exactly_once_and_is_recovered_from(places: int) -> None:
    for seed in SEEDS:
        fleet, _ = settled_fleet(Server(places=places), seed=seed)
        while fleet.knee.limit != fleet.knee.base or fleet.knee.settle:
            fleet.run_services(0.1)
        limit, known = fleet.knee.limit, len(fleet.limits)
        fleet.server.down_until_s = fleet.now_s + 0.3 * fleet.server.service_s
        fleet.run_services(2)
        changes = [new for _, new in fleet.limits[known:]]
        assert changes[:1] == [max(1, int(0.7 * limit))]
        assert all(later >= changes[0] for later in changes)
        fleet.run_services(200 + 1_000 / places)
        since_s = fleet.now_s
        fleet.run_services(200)
        assert fleet.capacity_used(since_s=since_s) >= 0.9 * fleet.server.best


def test_a_server_that_refuses_everything_is_asked_for_one_call_at_a_time() -> None:
    fleet, _ = settled_fleet(Server(places=16), seed=1)
    fleet.server.down_until_s = fleet.now_s + 60
    fleet.run(seconds=60)
    assert fleet.knee.limit == 1
    fleet.run(seconds=60)
    assert fleet.knee.base >= 16


def test_a_fleet_without_work_for_the_limit_does_not_grow_it() -> None:
    fleet = Fleet(Server(places=64), seed=1)
    fleet.demand = 3
    fleet.run(seconds=100)
    assert fleet.knee.limit == 4  # tried when 2 were in flight, and not reached since


# ------------------------------------------------------------ one step at a time


def lived(knee: Knee, **changes: Any) -> Epoch:
    """A saturated epoch at the knee's limit in which 200 calls were answered in 10 s."""
    epoch = Epoch(limit=knee.limit, saturated=True, completed=200, work=200.0, duration_s=10.0)
    return replace(epoch, **changes)


def at(limit: int, **changes: Any) -> Knee:
    """Resting at a proven limit, with something seen there."""
    return replace(
        first(1_000), limit=limit, base=limit, at_base=Seen(200, 200.0, 10.0), rest=400, **changes
    )


def test_it_doubles_while_throughput_follows_and_goes_back_when_it_does_not() -> None:
    knee = next_limit(first(100), lived(first(100)))
    limits = []
    for rate in (0, 40, 0, 80, 0, 82, 0):  # each trial is preceded by an epoch of settling
        limits.append(knee.limit)
        knee = next_limit(knee, lived(knee, work=10.0 * rate, completed=200))
    assert limits == [4, 4, 8, 8, 16, 16, 8]
    assert knee.base == 8


def test_errors_cut_by_three_tenths_and_a_wish_for_a_slower_pace_halves() -> None:
    assert next_limit(at(40), lived(at(40), errors=1)).limit == 28
    assert next_limit(at(40), lived(at(40), errors=9, slow_downs=1)).limit == 20
    assert next_limit(at(1), lived(at(1), errors=1)).limit == 1


def test_a_trial_that_meets_errors_gives_back_what_it_had_added() -> None:
    trial = replace(at(40), limit=80)
    assert next_limit(trial, lived(trial, errors=1)).limit == 40
    assert next_limit(trial, lived(trial, errors=1, slow_downs=1)).limit == 40


def test_what_ends_after_a_change_of_the_limit_is_only_waited_for() -> None:
    cut = next_limit(at(40), lived(at(40), errors=1))
    assert not is_over(cut, completed=30, errors=9, elapsed_s=5)
    assert is_over(cut, completed=40, errors=0, elapsed_s=0.01)
    assert not is_over(cut, completed=30, errors=10, elapsed_s=0.01)  # refusals come fast
    assert is_over(cut, completed=30, errors=10, elapsed_s=2)
    assert next_limit(cut, lived(cut, errors=10)).limit == cut.limit


def test_an_epoch_at_another_limit_changes_nothing() -> None:
    assert next_limit(at(40), lived(at(40), limit=39, errors=5)) == at(40)


def test_an_epoch_ends_with_enough_answers_or_an_error_or_after_a_while() -> None:
    knee = at(40)
    assert not is_over(knee, completed=79, errors=0, elapsed_s=3)
    assert is_over(knee, completed=80, errors=0, elapsed_s=3)
    assert not is_over(knee, completed=80, errors=0, elapsed_s=0.4)
    assert is_over(knee, completed=0, errors=1, elapsed_s=0.1)
    assert not is_over(knee, completed=0, errors=0, elapsed_s=30)
    assert is_over(knee, completed=1, errors=0, elapsed_s=30)
    assert is_over(knee, completed=0, errors=0, elapsed_s=60)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        first(0)


EPOCHS = st.lists(
    st.tuples(
        st.booleans(),  # saturated
        st.integers(0, 500),  # completed
        st.floats(0, 1e6),  # work
        st.floats(0, 1e4),  # duration_s
        st.sampled_from([0, 0, 0, 0, 1, 7]),  # errors
        st.booleans(),  # of them some that asked for a slower pace
    ),
    max_size=60,
)


@given(st.integers(1, 300), EPOCHS)
def test_whatever_happens_the_limit_keeps_its_bounds_and_grows_only_when_it_was_reached(
    max_limit: int, epochs: list[tuple[bool, int, float, float, int, bool]]
) -> None:
    knee = first(max_limit)
    for saturated, completed, work, duration_s, errors, slow_down in epochs:
        before = knee
        knee = next_limit(
            before,
            Epoch(
                limit=before.limit,
                saturated=saturated,
                completed=completed,
                work=work,
                duration_s=duration_s,
                errors=errors,
                slow_downs=errors if slow_down else 0,
            ),
        )
        assert 1 <= knee.limit <= max_limit
        assert 1 <= knee.base <= max_limit
        if not saturated or errors:
            assert knee.limit <= before.limit
        assert Knee.from_json(knee.to_json()) == knee
        assert "\n" not in knee.to_json()
