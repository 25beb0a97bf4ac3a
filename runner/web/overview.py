"""The first page: what waits and runs, how fast, what it costs, what fails, and who works."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner.budget import day_budget_nusd
from runner.laneuse import LaneUse
from runner.ledger.flow import Endings, recent_endings
from runner.ledger.keypauses import KeyPause, all_key_pauses
from runner.ledger.lanes import all_lanes
from runner.ledger.money import day_of
from runner.ledger.pausing import held_by
from runner.ledger.standing import all_batches, queue_standing
from runner.ledger.workers import LOST_AFTER_S, WorkerRow
from runner.web.batches import BatchLine, batch_lines
from runner.web.desk import desk_of, look, page
from runner.web.figures import figures
from runner.web.stills import TITLES, stills

BATCHES_MAX = 10
HOUR_US = 3_600_000_000
CALLS_MAX = 10_000  # whose endings are counted
OLD_S = 10.0  # the leader looks at limits every two seconds; what is older is of the past


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """A worker as a row."""

    row: WorkerRow
    beat_s: float  # ago

    @property
    def state(self) -> str:
        """As the ledger has it, unless it has shown no life for too long."""
        return "lost" if self.beat_s > LOST_AFTER_S else self.row.state


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLine:
    """How the limits of one model at one server are used."""

    model: str
    server: str
    use: LaneUse
    seen_s: float  # ago

    @property
    def is_old(self) -> bool:
        """Whether this says nothing about now."""
        return self.seen_s > OLD_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All that the page shows."""

    figures: Mapping[str, str]
    batches: Sequence[BatchLine]
    workers: Sequence[WorkerLine]
    lanes: Sequence[LaneLine]
    pauses: Sequence[tuple[KeyPause, Sequence[str]]]  # with the names of the batches it holds
    endings: Endings


async def show(request: Request) -> Response:
    """The overview."""
    desk = desk_of(request)
    limit_nusd = day_budget_nusd(desk.settings)
    now_us = desk.ledger.clock.us()
    found = await look(
        request, lambda connection: _overview(connection, now_us=now_us, limit_nusd=limit_nusd)
    )
    still = stills(desk.live.points)
    return page(request, "overview.html", found=found, titles=TITLES, stills=still)


def _overview(connection: Connection, *, now_us: int, limit_nusd: int | None) -> Overview:
    queue = queue_standing(connection, now_us=now_us)
    day = day_of(connection, now_us=now_us)
    newest = all_batches(connection, limit=BATCHES_MAX)
    return Overview(
        figures=figures(queue, day, day_limit_nusd=limit_nusd),
        batches=batch_lines(connection, newest, now_us=now_us),
        workers=[
            WorkerLine(row=row, beat_s=max(0, now_us - row.beat_us) / 1e6) for row in queue.workers
        ],
        lanes=_lanes(connection, now_us=now_us),
        pauses=[
            (pause, list(held_by(connection, pause.scope).values()))
            for pause in all_key_pauses(connection)
        ],
        endings=recent_endings(connection, since_us=now_us - HOUR_US, limit=CALLS_MAX),
    )


def _lanes(connection: Connection, *, now_us: int) -> list[LaneLine]:
    return [
        LaneLine(
            model=row.model,
            server=row.server,
            use=LaneUse.model_validate_json(row.use_json),
            seen_s=max(0, now_us - row.updated_us) / 1e6,
        )
        for row in all_lanes(connection, since_us=now_us - HOUR_US)
        if row.use_json
    ]
