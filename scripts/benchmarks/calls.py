"""Fills a ledger with a history of calls: generated invoices, each answered with its record."""

import json
import random
from collections import Counter, defaultdict
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from runner.keys import content_digest, document_ids, new_id
from runner.ledger import Ledger, blobs
from runner.ledger.dialect import insert_new
from runner.ledger.money import budget_scope, move_money
from runner.ledger.submission import BatchPlan, open_batch
from runner.ledger.tables import attempt, document, record, source
from runner.ledger.tallies import Count, More, Tally, TallyKey, count_in
from runner.testing.documents import GeneratedDocument, generate_invoices

START_US = 1_760_000_000_000_000
GAP_US = 1_000_000
CHUNK = 1_000
BATCHES = 8
FAILED_PERCENT = 10
COST_NUSD = 412_000
HEAD, TAIL = b"system prompt " * 150, b'"}],"temperature":0}'


def answer_to(made: dict[str, Any], number: int) -> bytes:
    """A completion that states a record."""
    message = {"role": "assistant", "content": json.dumps(made, ensure_ascii=False)}
    return json.dumps(
        {
            "id": f"chatcmpl-{number:012}",
            "object": "chat.completion",
            "model": "gpt-5-mini",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 700, "completion_tokens": 240, "total_tokens": 940},
        },
        ensure_ascii=False,
    ).encode()


def fill(ledger: Ledger, attempts: int, *, seed: int) -> None:
    """Add ended documents with one call each, some of which failed, in several batches."""
    with ledger.transaction() as connection:
        batches = [_batch(connection, number) for number in range(BATCHES)]
    rng = random.Random(seed)  # noqa: S311 - a made-up history, no secrets
    invoices = enumerate(generate_invoices(attempts, seed=seed, size="small"))
    while chunk := list(islice(invoices, CHUNK)):
        with ledger.transaction() as connection:
            _add(connection, chunk, batches, rng)


def _batch(connection: Connection, number: int) -> str:
    plan = BatchPlan(
        name=f"month-{number}",
        job="invoice" if number % 2 else "receipt",
        prompt_version=f"v{1 + number % 3}",
        prompt_id=f"p{number % 3}",
        models=("gpt-5-mini",),
        simulated=True,  # so that its money counts in the batch alone
    )
    return open_batch(connection, plan, now_us=START_US).id


def _add(
    connection: Connection,
    chunk: list[tuple[int, GeneratedDocument]],
    batches: list[str],
    rng: random.Random,
) -> None:
    rows = [_rows(number, made, batches[number % BATCHES], rng) for number, made in chunk]
    bodies = [HEAD, TAIL]
    bodies += [made.text.encode() for _, made in chunk]
    bodies += [answer_to(made.record, number) for number, made in chunk]
    blobs.store(connection, bodies)
    for table in (document, source, attempt, record):
        new = [row[table.name] for row in rows if table.name in row]
        insert_new(connection, table, new)
    spent: Counter[str] = Counter()
    for row in rows:
        spent[budget_scope(row["attempt"]["batch_id"])] += COST_NUSD
    move_money(connection, held=dict.fromkeys(spent, 0), settled=spent)
    count_in(connection, _tallies(rows))


def _tallies(rows: list[dict[str, dict[str, Any]]]) -> dict[TallyKey, More]:
    counts: defaultdict[TallyKey, Counter[str]] = defaultdict(Counter)
    for row in rows:
        call = row["attempt"]
        pins = {name: call[name] for name in ("batch_id", "prompt_id", "model")}
        counts[TallyKey.at(call["created_us"], **pins)] += Counter(
            {
                Count.CALLS: 1,
                Count.ANSWERS: 1,
                Count.DEAD if call["fault"] else Count.DONE: 1,
                Count.COST_NUSD: call["cost_nusd"],
                Count.INPUT_TOKENS: call["input_tokens"],
                Count.OUTPUT_TOKENS: call["output_tokens"],
            }
        )
    return {key: More(Tally(counted)) for key, counted in counts.items()}


def _rows(
    number: int, made: GeneratedDocument, batch_id: str, rng: random.Random
) -> dict[str, dict[str, Any]]:
    at_us = START_US + number * GAP_US
    id_ = document_ids(batch_id)(made.text.encode())
    attempt_id = new_id("a", clock_s=lambda: at_us / 1e6, rng=rng)
    failed = rng.randrange(100) < FAILED_PERCENT
    message = f'total: Input should be a valid decimal; got "{rng.randrange(10**6)},-"'
    rows: dict[str, dict[str, Any]] = {
        "document": {
            "id": id_, "batch_id": batch_id, "position": number,
            "text_digest": content_digest(made.text.encode()), "text_bytes": len(made.text),
            "state": "dead" if failed else "done", "due_us": at_us, "tried": True, "attempts": 1,
            "calls": 1, "cost_nusd": COST_NUSD, "reason": "schema_invalid" if failed else None,
            "message": message if failed else None, "created_us": at_us, "queued_us": at_us,
            "finished_us": at_us + GAP_US,
        },
        "source": {
            "batch_id": batch_id, "document_id": id_, "position": number,
            "name": f"invoices/{made.name}.txt",
        },
        "attempt": {
            "id": attempt_id, "document_id": id_, "batch_id": batch_id, "number": 1,
            "state": "concluded", "worker_id": "w", "model": "gpt-5-mini",
            "prompt_id": f"p{number % BATCHES % 3}", "request_head_digest": content_digest(HEAD),
            "request_tail_digest": content_digest(TAIL),
            "answer_digest": content_digest(answer_to(made.record, number)), "status": 200,
            "headers_json": "{}", "fault": "schema_invalid" if failed else None, "charged": True,
            "message": message if failed else None, "hold_nusd": 2 * COST_NUSD,
            "cost_nusd": COST_NUSD, "input_tokens": 700, "output_tokens": 240, "created_us": at_us,
            "queue_wait_us": 1_000, "limiter_wait_us": 0, "response_us": GAP_US,
        },
    }  # fmt: skip
    if not failed:
        rows["record"] = {
            "document_id": id_, "batch_id": batch_id, "attempt_id": attempt_id,
            "data_json": json.dumps(made.record, ensure_ascii=False), "flags_json": "[]",
            "model": "gpt-5-mini", "prompt_id": "p0", "latency_us": GAP_US, "created_us": at_us,
        }  # fmt: skip
    return rows
