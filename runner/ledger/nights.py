"""Evaluations by night: which worker does one, and how the nights before it went."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from runner.ledger.dialect import insert_new
from runner.ledger.evaluations import CaseRow, cases_of
from runner.ledger.tables import eval_run, nightly

RUNS_MAX = 200  # of a job, the newest: where its last nights are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One job's evaluation of one night, which is the UTC day on which it is due."""

    job: str
    night: str


def take_night(
    connection: Connection, night: Night, *, me: str, living: Collection[str], now_us: int
) -> bool:
    """Whether this worker is to evaluate: nobody has, or who began has gone before it ended.

    Of several workers that ask at once, one is told so.
    """
    begun = {"worker_id": me, "begun_us": now_us}
    insert_new(connection, nightly, [{"job": night.job, "night": night.night, **begun}])
    row = connection.execute(select(nightly).where(*_here(night)).with_for_update()).one()
    if row.ended_us is not None:
        return False
    if row.worker_id != me and row.worker_id in living:
        return False
    connection.execute(update(nightly).where(*_here(night)).values(begun))
    return True


def end_night(connection: Connection, night: Night, *, now_us: int) -> bool:
    """Note that nobody has to evaluate this night again; False when that was noted before."""
    ended = connection.execute(
        update(nightly).where(*_here(night), nightly.c.ended_us.is_(None)).values(ended_us=now_us)
    )
    return bool(ended.rowcount)


def nights_left(connection: Connection, night: str, jobs: Sequence[str]) -> list[Night]:
    """Those of these jobs whose evaluation of this night has not ended, in their order."""
    rows = connection.execute(
        select(nightly.c.job).where(nightly.c.night == night, nightly.c.ended_us.is_not(None))
    )
    ended = set(rows.scalars())
    return [Night(job=job, night=night) for job in dict.fromkeys(jobs) if job not in ended]


def _here(night: Night) -> tuple[Any, ...]:
    return nightly.c.job == night.job, nightly.c.night == night.night


@dataclass(frozen=True, slots=True, kw_only=True)
class NightRun:
    """The evaluation of a night, how each gold document fared in it, and in the nights before.

    Nights count that asked the same prompt and models on the same gold documents.
    """

    run_id: str
    prompt_version: str
    prompt_id: str
    verdict: str
    reason: str
    cases: tuple[CaseRow, ...]
    before: tuple[tuple[CaseRow, ...], ...]  # by night, the latest first


def find_night(connection: Connection, night: Night, *, before_max: int) -> NightRun | None:
    """What came of a night; None while it has no evaluation."""
    newest = (
        select(eval_run).where(eval_run.c.job == night.job).order_by(eval_run.c.created_us.desc())
    )
    rows = [
        (row, json.loads(row.summary_json)) for row in connection.execute(newest.limit(RUNS_MAX))
    ]
    found = next((pair for pair in rows if pair[1].get("night") == night.night), None)
    if found is None:
        return None
    run, summary = found
    alike = [
        row
        for row, told in rows
        if "" < (told.get("night") or "") < night.night and _asks(row, told) == _asks(run, summary)
    ]
    return NightRun(
        run_id=run.id,
        prompt_version=run.prompt_version,
        prompt_id=run.prompt_id,
        verdict=run.verdict,
        reason=summary["reason"],
        cases=tuple(cases_of(connection, run.id, prompt_id=run.prompt_id)),
        before=tuple(
            tuple(cases_of(connection, row.id, prompt_id=row.prompt_id))
            for row in alike[:before_max]
        ),
    )


def _asks(run: Row[Any], summary: Mapping[str, Any]) -> tuple[object, ...]:
    return run.prompt_id, run.models_json, run.gold_digest, summary.get("simulated")
