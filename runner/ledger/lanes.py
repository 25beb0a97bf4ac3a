"""The lanes that the fleet calls, and how their limits were used when last looked at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from runner.lanes import Lane
from runner.ledger.dialect import insert_new
from runner.ledger.tables import lane


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """One lane as the ledger has it; `use_json` is empty until the leader has looked at it."""

    lane_id: str
    model: str
    server: str
    key_name: str | None
    use_json: str
    updated_us: int


def note_lanes(connection: Connection, lanes: Iterable[Lane], *, now_us: int) -> None:
    """Write down lanes that are called; known ones stay as they are."""
    insert_new(
        connection,
        lane,
        [
            {
                "id": one.id,
                "model": one.model,
                "server": one.server,
                "key_name": one.key_name,
                "use_json": "",
                "updated_us": now_us,
            }
            for one in lanes
        ],
    )


def all_lanes(connection: Connection, *, since_us: int) -> list[LaneRow]:
    """The lanes that were called or looked at since then, by server and model."""
    rows = connection.execute(
        select(lane).where(lane.c.updated_us >= since_us).order_by(lane.c.server, lane.c.model)
    )
    return [
        LaneRow(
            lane_id=row.id,
            model=row.model,
            server=row.server,
            key_name=row.key_name,
            use_json=row.use_json,
            updated_us=row.updated_us,
        )
        for row in rows
    ]


def write_use(connection: Connection, use_json: Mapping[str, str], *, now_us: int) -> None:
    """Write down how the limits of these lanes are used now."""
    for lane_id, seen in use_json.items():
        connection.execute(
            update(lane).where(lane.c.id == lane_id).values(use_json=seen, updated_us=now_us)
        )
