"""Tallies of calls by day, alerts of every kind, and evaluations by night."""

import json
import math
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_LOG = math.log(1.04)
_SENT_ENDS = ("concluded", "ambiguous")
_FAULTS_OF_ANSWERS = (
    *("truncated", "refused", "filtered", "invalid_json", "schema_invalid"),
    *("not_grounded", "check_failed", "second_read_differs"),
)
_TOKENS = (
    *("input_tokens", "cached_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)
_STEPS = ("queue_wait", "limiter_wait", "response", "parse", "total")


def upgrade() -> None:
    """Add them, and tally the calls so far."""
    op.create_table(
        "tally",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batch.id"), primary_key=True),
        sa.Column("prompt_id", sa.String(40), primary_key=True),
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("counts_json", sa.Text, nullable=False),
        sa.Column("spans_json", sa.Text, nullable=False),
    )
    op.create_index("tally_by_batch", "tally", ["batch_id"])
    op.create_table(
        "alert",
        sa.Column("key", sa.String(300), primary_key=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("scope", sa.String(300), nullable=False),
        sa.Column("batch_id", sa.String(40)),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("waits", sa.Boolean, nullable=False),
    )
    op.create_table(
        "nightly",
        sa.Column("job", sa.String(100), primary_key=True),
        sa.Column("night", sa.String(10), primary_key=True),
        sa.Column("worker_id", sa.String(40), nullable=False),
        sa.Column("begun_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
    )
    _tally_the_past()


def _tally_the_past() -> None:
    """Count every settled call and every document that ended.

    What only the moment of an outcome knew (re-asks, repairs, fields that are null) stays unknown.
    """
    connection = op.get_bind()
    counts: defaultdict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    spans: defaultdict[tuple[str, str, str, str], defaultdict[str, Counter[int]]] = defaultdict(
        lambda: defaultdict(Counter)
    )
    last: dict[str, tuple[str, str, str, str]] = {}
    calls = connection.execute(
        sa.text("SELECT * FROM attempt WHERE state NOT IN ('intent', 'answered') ORDER BY id")
    )
    for call in calls.mappings():
        key = _key(call["created_us"], call["batch_id"], call["prompt_id"], call["model"])
        last[call["document_id"]] = key
        _count_call(counts[key], spans[key], call)
    documents = connection.execute(
        sa.text(
            "SELECT id, batch_id, state, finished_us FROM document "
            "WHERE state IN ('done', 'review', 'dead', 'cancelled')"
        )
    )
    for row in documents:
        key = last.get(row.id) or _key(row.finished_us or 0, row.batch_id, "", "")
        if row.id in last or row.state == "dead":
            counts[key][row.state] += 1
    rows = [
        {
            **dict(zip(("day", "batch_id", "prompt_id", "model"), key, strict=True)),
            "counts_json": json.dumps({name: n for name, n in counts[key].items() if n}),
            "spans_json": json.dumps(spans[key]),
        }
        for key in counts
    ]
    if rows:
        op.bulk_insert(sa.table("tally", *(sa.column(name) for name in rows[0])), rows)


def _key(at_us: int, batch_id: str, prompt_id: str, model: str) -> tuple[str, str, str, str]:
    day = f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d}"
    return day, batch_id, prompt_id, model


def _count_call(counts: Counter[str], spans: Any, call: Any) -> None:
    if call["fault"] is not None:
        counts[f"fault:{call['fault']}"] += 1
    counts["cost_nusd"] += call["cost_nusd"] or 0
    counts["ambiguous_nusd"] += call["ambiguous_nusd"]
    if call["state"] not in _SENT_ENDS:
        return
    counts["calls"] += 1
    counts["answers"] += call["fault"] is None or call["fault"] in _FAULTS_OF_ANSWERS
    counts["retries"] += call["number"] > 1
    unsure = call["state"] == "ambiguous" and call["hold_nusd"] is not None
    counts["unknown_costs"] += call["cost_nusd"] is None and not unsure
    for name in _TOKENS:
        counts[name] += call[name] or 0
    for step in _STEPS:
        if (span_us := call[f"{step}_us"]) is not None:
            place = round(math.log(span_us) / _LOG) if span_us > 0 else -1
            spans[step][place] += 1
