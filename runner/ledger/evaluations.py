"""Evaluations in the ledger: what gold documents cost, and the runs with their verdicts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from runner.ledger.tables import attempt, document, eval_result, eval_run
from runner.model import DocumentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Dearest:
    """The most that one good document, and one call, of some batches have cost; None: unknown."""

    document_nusd: int | None
    call_nusd: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """How one gold document fared once; `leaves` are (field, place, outcome, expected, got)."""

    prompt_id: str
    case_id: str
    repeat: int
    document_id: str
    state: str
    leaves: Sequence[tuple[str, str, str, Any, Any]]
    cost_nusd: int | None
    latency_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One evaluation with its verdict."""

    id: str
    job: str
    prompt_version: str
    prompt_id: str
    models: tuple[str, ...]
    gold_digest: str
    against_prompt_id: str | None
    verdict: str
    summary: Mapping[str, Any]
    dearest: Dearest
    created_us: int


def dearest(connection: Connection, batch_ids: Sequence[str]) -> Dearest:
    """What the dearest document that ended done, and the dearest call, of these batches cost."""
    return Dearest(
        document_nusd=connection.execute(
            select(func.max(document.c.cost_nusd)).where(
                document.c.batch_id.in_(batch_ids),
                document.c.state == DocumentState.DONE,
                document.c.cost_known,
            )
        ).scalar(),
        call_nusd=connection.execute(
            select(func.max(attempt.c.cost_nusd)).where(attempt.c.batch_id.in_(batch_ids))
        ).scalar(),
    )


def texts_of(connection: Connection, ids: Iterable[str]) -> dict[str, bytes]:
    """The digest of each document's text; one without a text is left out."""
    rows = connection.execute(
        select(document.c.id, document.c.text_digest).where(
            document.c.id.in_(list(ids)), document.c.text_digest.is_not(None)
        )
    )
    return {row.id: row.text_digest for row in rows}


def write_run(connection: Connection, run: RunRow, cases: Iterable[CaseRow]) -> None:
    """Write an evaluation with how every gold document fared."""
    connection.execute(
        insert(eval_run).values(
            id=run.id,
            job=run.job,
            prompt_version=run.prompt_version,
            prompt_id=run.prompt_id,
            models_json=json.dumps(run.models),
            gold_digest=run.gold_digest,
            against_prompt_id=run.against_prompt_id,
            verdict=run.verdict,
            summary_json=json.dumps(run.summary),
            dearest_document_nusd=run.dearest.document_nusd,
            dearest_call_nusd=run.dearest.call_nusd,
            created_us=run.created_us,
        )
    )
    rows = [
        {
            "run_id": run.id,
            "prompt_id": one.prompt_id,
            "case_id": one.case_id,
            "repeat": one.repeat,
            "document_id": one.document_id,
            "state": one.state,
            "outcomes_json": json.dumps(one.leaves, ensure_ascii=False),
            "cost_nusd": one.cost_nusd,
            "latency_us": one.latency_us,
        }
        for one in cases
    ]
    connection.execute(insert(eval_result), rows)


def list_runs(connection: Connection, *, limit: int) -> list[RunRow]:
    """The newest evaluations first."""
    query = select(eval_run).order_by(eval_run.c.created_us.desc(), eval_run.c.id.desc())
    return [_run(row) for row in connection.execute(query.limit(limit))]


def find_run(connection: Connection, run_id: str) -> RunRow | None:
    """One evaluation."""
    row = connection.execute(select(eval_run).where(eval_run.c.id == run_id)).first()
    return None if row is None else _run(row)


def cases_of(connection: Connection, run_id: str, *, prompt_id: str | None = None) -> list[CaseRow]:
    """How the gold documents fared, by name: with both prompts of an evaluation, or with one."""
    query = select(eval_result).where(eval_result.c.run_id == run_id)
    if prompt_id is not None:
        query = query.where(eval_result.c.prompt_id == prompt_id)
    rows = connection.execute(query.order_by(eval_result.c.case_id, eval_result.c.repeat))
    return [
        CaseRow(
            prompt_id=row.prompt_id,
            case_id=row.case_id,
            repeat=row.repeat,
            document_id=row.document_id,
            state=row.state,
            leaves=[tuple(leaf) for leaf in json.loads(row.outcomes_json)],
            cost_nusd=row.cost_nusd,
            latency_us=row.latency_us,
        )
        for row in rows
    ]


def _run(row: Any) -> RunRow:
    return RunRow(
        id=row.id,
        job=row.job,
        prompt_version=row.prompt_version,
        prompt_id=row.prompt_id,
        models=tuple(json.loads(row.models_json)),
        gold_digest=row.gold_digest,
        against_prompt_id=row.against_prompt_id,
        verdict=row.verdict,
        summary=json.loads(row.summary_json),
        dearest=Dearest(document_nusd=row.dearest_document_nusd, call_nusd=row.dearest_call_nusd),
        created_us=row.created_us,
    )
