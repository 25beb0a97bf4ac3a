"""Which provider calls are meant: the filters that lists of calls and searches share."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from runner.keys import first_id
from runner.ledger.tables import attempt, batch, document

ANY_FAULT = "any"  # every call that failed, whatever with
# an id is born when the call is prepared, a little before the time that its row says
BORN_BEFORE_US = 600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls; all of them by default. Costs count what may have been billed at its worst."""

    batch_id: str | None = None
    document_id: str | None = None
    job: str | None = None
    prompt: str | None = None  # a version's name, or a prompt id
    model: str | None = None
    fault: str | None = None
    since_us: int | None = None
    until_us: int | None = None  # not including it
    min_cost_nusd: int | None = None
    limit: int = 50


def conditions(connection: Connection, wanted: CallFilter) -> Iterator[ColumnElement[bool]]:
    """The filter over the table of attempts."""
    for name in ("batch_id", "document_id", "model"):
        if (value := getattr(wanted, name)) is not None:
            yield attempt.c[name] == value
    if wanted.job is not None:
        yield attempt.c.batch_id.in_(select(batch.c.id).where(batch.c.job == wanted.job))
    if wanted.prompt is not None:
        yield attempt.c.prompt_id.in_(prompt_ids(connection, wanted.prompt, job=wanted.job))
    if wanted.fault == ANY_FAULT:
        yield attempt.c.fault.is_not(None)
    elif wanted.fault is not None:
        yield attempt.c.fault == wanted.fault
    if wanted.since_us is not None:
        # ids sort by time, and they have an index
        yield attempt.c.id >= first_id("a", at_us=wanted.since_us - BORN_BEFORE_US)
        yield attempt.c.created_us >= wanted.since_us
    if wanted.until_us is not None:
        yield attempt.c.id < first_id("a", at_us=wanted.until_us + 1_000)
        yield attempt.c.created_us < wanted.until_us
    if wanted.min_cost_nusd is not None:
        cost_nusd = func.coalesce(attempt.c.cost_nusd, 0) + attempt.c.ambiguous_nusd
        yield cost_nusd >= wanted.min_cost_nusd


def prompt_ids(connection: Connection, prompt: str, *, job: str | None = None) -> list[str]:
    """The prompt ids that a version's name stands for in this ledger; an id stands for itself."""
    found = {prompt}
    own = select(document.c.prompt_id).where(document.c.prompt_version == prompt).distinct()
    pinned = select(
        batch.c.prompt_version, batch.c.prompt_id, batch.c.canary_json, batch.c.second_read_json
    )
    if job is not None:
        own = own.join(batch, batch.c.id == document.c.batch_id).where(batch.c.job == job)
        pinned = pinned.where(batch.c.job == job)
    found.update(connection.execute(own).scalars())
    for row in connection.execute(pinned):
        canary = json.loads(row.canary_json or "{}")
        second = json.loads(row.second_read_json or "{}")
        pins = (
            (row.prompt_version, row.prompt_id),
            (canary.get("version"), canary.get("prompt_id")),
            (second.get("prompt_version"), second.get("prompt_id")),
        )
        found.update(id_ for version, id_ in pins if version == prompt)
    return sorted(found)
