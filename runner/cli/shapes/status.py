"""What `status` prints with `--json`."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, as_iso, in_usd
from runner.cli.shapes.batches import BatchShape
from runner.cli.wording import iso
from runner.laneuse import LaneUse
from runner.ledger.keypauses import KeyPause
from runner.ledger.lanes import LaneRow
from runner.ledger.money import Day, larger_limit_nusd
from runner.ledger.standing import QueueStanding
from runner.ledger.workers import LOST_AFTER_S, WorkerRow
from runner.model import DocumentState


class QueueShape(Shape):
    """The whole queue, in documents. `delayed` is the part of `queued` that is not due yet."""

    queued: int
    ready: int
    running: int
    delayed: int
    oldest_age_s: float | None
    done: int
    review: int
    dead: int
    cancelled: int

    @classmethod
    def of(cls, found: QueueStanding) -> Self:
        """The queue as it stands."""
        return cls(
            **{state.value: found.states[state] for state in DocumentState},
            delayed=found.delayed,
            oldest_age_s=found.oldest_age_s,
        )

    @classmethod
    def empty(cls) -> Self:
        """The queue of a home without a ledger."""
        return cls(**dict.fromkeys(DocumentState, 0), delayed=0, oldest_age_s=None)


class WorkerShape(Shape):
    """One worker process that has neither stopped nor been buried."""

    worker_id: str
    host: str
    pid: int
    state: str
    slots: int
    in_flight: int
    beat_age_s: float
    lost: bool  # has given no sign of life for so long that another one will take over
    note: str | None

    @classmethod
    def of(cls, row: WorkerRow, *, now_us: int) -> Self:
        """A worker as seen at `now_us`."""
        age_s = max(0, now_us - row.beat_us) / 1e6
        return cls(
            worker_id=row.id,
            host=row.host.split(":")[0],
            pid=row.pid,
            state=row.state,
            slots=row.slots,
            in_flight=row.in_flight,
            beat_age_s=round(age_s, 1),
            lost=age_s > LOST_AFTER_S,
            note=row.note,
        )


class PausedKeyShape(Shape):
    """A key, or a key for one model, that the provider refuses: nothing is called with it."""

    scope: str
    name: str
    fault: str
    reason: str
    since: str
    probe: str | None  # when one document may try it again; null: only a person resumes
    batches: tuple[str, ...]  # that it holds

    @classmethod
    def of(cls, pause: KeyPause, batches: Sequence[str]) -> Self:
        """A pause as the ledger has it."""
        return cls(
            scope=pause.scope,
            name=pause.name,
            fault=pause.fault,
            reason=pause.reason,
            since=iso(pause.since_us),
            probe=as_iso(pause.probe_us),
            batches=tuple(batches),
        )


class LimitShape(Shape):
    """How the limits of one model at one server with one key are used by the whole fleet."""

    model: str
    server: str
    key: str | None  # the environment variable that holds the key
    seen_s: float  # ago: what follows is as of then
    use: LaneUse

    @classmethod
    def of(cls, row: LaneRow, *, now_us: int) -> Self | None:
        """A lane as seen at `now_us`; None when the leader has not looked at it yet."""
        if not row.use_json:
            return None
        return cls(
            model=row.model,
            server=row.server,
            key=row.key_name,
            seen_s=round(max(0, now_us - row.updated_us) / 1e6, 1),
            use=LaneUse.model_validate_json(row.use_json),
        )


class TodayShape(Shape):
    """What all batches spend today (UTC), made-up money apart."""

    date: str
    cost_usd: Decimal
    ambiguous_usd: Decimal
    held_usd: Decimal
    budget_usd: Decimal | None

    @classmethod
    def of(cls, day: Day, *, by_settings_nusd: int | None) -> Self:
        """A day; its budget is the larger of what a person raised it to and of the settings."""
        return cls(
            date=day.date,
            cost_usd=nusd_to_usd(day.settled_nusd),
            ambiguous_usd=nusd_to_usd(day.ambiguous_nusd),
            held_usd=nusd_to_usd(day.held_nusd),
            budget_usd=in_usd(larger_limit_nusd(day.limit_nusd, by_settings_nusd)),
        )


class StatusShape(Shape):
    """`status`."""

    queue: QueueShape
    today: TodayShape
    batches: tuple[BatchShape, ...]
    workers: tuple[WorkerShape, ...]
    paused_keys: tuple[PausedKeyShape, ...] = ()
    limits: tuple[LimitShape, ...] = ()
