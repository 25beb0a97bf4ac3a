"""One round of the campaign: a new home, some hundred documents, faults until all have ended."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.campaign.faults import KILLED, Injected, Kind, try_to_inject
from scripts.campaign.histories import Judgement, compare, read_histories
from scripts.campaign.home import SLOTS, InFlight, TorturedHome, wait_for

TICK_S = 0.1
BETWEEN_S = (0.5, 3.5)  # two faults
STARTED_MAX_S = 20.0
CALM_MAX_S = 90.0  # once faults have stopped, all must have ended by then
RETRIES_MAX = 3
# killed, drained, or told to drain before it could listen
ENDS_WELL = (KILLED, 0, -signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a round is to do; the same plan draws the same faults in the same order."""

    number: int
    seed: int
    documents: int
    workers: int
    kinds: Sequence[Kind]
    faults_max: int | None = None  # none: until no document is open


@dataclass(slots=True)
class Report:
    """What a round did, and how it ended."""

    plan: Plan
    injected: Counter[str] = field(default_factory=Counter)
    in_flight_at_kills: int = 0
    recovered_s: list[float] = field(default_factory=list)  # after a kill -9
    road_back_s: list[float] = field(default_factory=list)  # after Redis was lost
    judgement: Judgement | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class _Watch:
    """Something that is to happen after a fault, and when that began."""

    began_s: float
    has_happened: Callable[[], bool]
    times_s: list[float]


class Round:
    """Runs one plan in one folder."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._rng = random.Random(f"{plan.seed}:{plan.number}")  # noqa: S311 - repeatable
        self._folder = folder
        self._report = Report(plan)
        self._undo: list[tuple[float, Callable[[], object]]] = []
        self._watches: list[_Watch] = []
        self._orphans: set[str] = set()  # attempt ids

    def run(self) -> Report:
        """Submit, torment, let end, judge. Whatever goes wrong is a problem of the report."""
        began_s = time.monotonic()
        try:
            with TorturedHome(self._folder, self._plan.workers, self._rng) as home:
                self._run_in(home)
        except Exception as error:  # noqa: BLE001 - the other rounds are to be told all the same
            self._report.problems.append(f"the campaign itself failed: {error!r}")
        self._report.seconds = time.monotonic() - began_s
        return self._report

    def _run_in(self, home: TorturedHome) -> None:
        inputs = home.submit(self._plan.documents, seed=self._rng.randrange(1_000_000))
        self._torment(home)
        self._calm(home)
        self._let_end(home)
        self._judge(home)
        self._submit_again(home, inputs)

    # ------------------------------------------------------------ faults

    def _torment(self, home: TorturedHome) -> None:
        next_s = time.monotonic() + self._rng.uniform(*BETWEEN_S)
        home.keep_workers()
        for _ in wait_for(STARTED_MAX_S):
            if home.calls():
                break
        while home.open_documents() and not self._is_enough():
            self._tend(home)
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + self._rng.uniform(*BETWEEN_S)
                self._inject(home)
            time.sleep(TICK_S)

    def _is_enough(self) -> bool:
        most = self._plan.faults_max
        return most is not None and self._report.injected.total() >= most

    def _inject(self, home: TorturedHome) -> None:
        kinds = self._plan.kinds
        kind = self._rng.choices(kinds, weights=[kind.weight for kind in kinds])[0]
        calls = home.calls()
        injected = try_to_inject(kind, home)
        if injected is None:
            return
        self._report.injected[kind.name] += 1
        self._say(f"round {self._plan.number}: {kind.promise} {injected.what}")
        self._follow(home, injected, calls)

    def _follow(self, home: TorturedHome, injected: Injected, calls: int) -> None:
        """Note when to undo it, and watch for what is to happen after it."""
        now_s = time.monotonic()
        if injected.undo is not None:
            self._undo.append((now_s + injected.lasts_s, injected.undo))
        self._note_orphans(home, injected.in_flight, killed=injected.killed)
        if injected.redis_lost:
            # so many may still begin whose ids had left the road before
            enough = calls + SLOTS * self._plan.workers
            back_s = self._report.road_back_s
            self._watches.append(
                _Watch(now_s + injected.lasts_s, lambda: home.calls() > enough, back_s)
            )

    def _note_orphans(
        self, home: TorturedHome, in_flight: Sequence[InFlight], *, killed: bool
    ) -> None:
        """Calls whose worker is gone: they may be repeated, and must soon be taken up."""
        orphans = [one for one in in_flight if one.attempt_id not in self._orphans]
        if not orphans:
            return
        self._orphans.update(one.attempt_id for one in orphans)
        if not killed:
            return
        self._watches.append(
            _Watch(time.monotonic(), lambda: home.are_taken_up(orphans), self._report.recovered_s)
        )

    def _tend(self, home: TorturedHome) -> None:
        """Start what has died, undo what is over, see what has recovered."""
        now_s = time.monotonic()
        for due_s, undo in list(self._undo):
            if now_s >= due_s:
                self._undo.remove((due_s, undo))
                undo()
        self._replace_the_dead(home)
        for watch in list(self._watches):
            if now_s >= watch.began_s and watch.has_happened():
                self._watches.remove(watch)
                watch.times_s.append(time.monotonic() - watch.began_s)

    def _replace_the_dead(self, home: TorturedHome) -> None:
        killed = [one.pid for one in home.workers if one.poll() == KILLED]
        if killed:
            self._note_orphans(home, home.calls_in_flight(killed), killed=True)
        for code in home.keep_workers():
            if code not in ENDS_WELL:
                self._report.problems.append(f"a worker ended with {code}")

    # ------------------------------------------------------------ the end

    def _calm(self, home: TorturedHome) -> None:
        """Every fault is over; the provider is well."""
        for _, undo in self._undo:
            undo()
        self._undo.clear()
        home.tell_provider(heal=True)

    def _let_end(self, home: TorturedHome) -> None:
        for _ in range(RETRIES_MAX):
            for _ in wait_for(CALM_MAX_S, tick_s=TICK_S):
                self._tend(home)
                if not home.open_documents():
                    break
            if not sum(home.retry_dead_letters(2)) and not home.open_documents():
                break

    def _judge(self, home: TorturedHome) -> None:
        histories = read_histories(
            home.ledger, home.provider.book(), submitted=self._plan.documents
        )
        judged = compare(histories)
        self._report.judgement, self._report.in_flight_at_kills = judged, len(self._orphans)
        self._report.problems += judged.problems
        if judged.repeated > self._report.in_flight_at_kills:
            self._report.problems.append(
                f"{judged.repeated} calls repeated, but {self._report.in_flight_at_kills} were in "
                "flight at kills"
            )
        if len(judged.ended) > 1:
            self._report.problems.append(f"not all are done: {judged.ended}")

    def _submit_again(self, home: TorturedHome, inputs: Path) -> None:
        """A finished batch that is submitted again makes no call."""
        calls = len(home.provider.book())
        done = home.call("submit", "invoice", str(inputs))
        if done.returncode or home.open_documents() or len(home.provider.book()) != calls:
            self._report.problems.append(f"submitted again, it began anew: {done.stderr}")
