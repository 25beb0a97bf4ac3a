"""Batches and their documents: finding a batch again, and adding documents to it, repeatably."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from runner.canary import Canary
from runner.errors import UsageError
from runner.keys import document_ids, new_id
from runner.ledger import blobs
from runner.ledger.blobs import Packed, pack
from runner.ledger.dialect import insert_many, one_at_a_time, one_of
from runner.ledger.events import note_documents
from runner.ledger.money import budget_scope, set_limit
from runner.ledger.secondreads import SecondPin, written_second_pin
from runner.ledger.tables import batch, budget, document, source
from runner.ledger.tallies import Count, More, Tally, TallyKey, count_in
from runner.model import BatchState, DeadReason, DocumentState, Purpose, SourceText


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a submission asks for; all of it but the budget is pinned by the first one."""

    name: str  # chosen by the person, or derived from job, inputs and options
    job: str
    prompt_version: str
    prompt_id: str
    models: tuple[str, ...]
    second_read: SecondPin | None = None
    canary: Canary | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False
    purpose: Purpose = Purpose.RUN
    weight: int = 1  # its share beside other batches; 0: a tenth of one
    budget_nusd: int | None = None
    pinned: frozenset[str] = frozenset()  # fields that were asked for by name: they must agree


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as the ledger has it."""

    id: str
    name: str
    job: str
    state: BatchState
    pause_reason: str | None
    pause_scope: str | None  # whose pause holds it, a key's or a day's; none: its own
    prompt_version: str
    prompt_id: str
    models: tuple[str, ...]
    canary: Canary | None
    options: Mapping[str, str]
    simulated: bool
    submitted: bool
    rejected: int
    created_us: int


@dataclass(slots=True)
class Added:
    """How a chunk of inputs came in: new documents, and further sources of known ones."""

    accepted: int = 0
    duplicate: int = 0
    unparsable: int = 0


def batch_from_row(row: Any) -> Batch:
    """The batch behind a row of its table."""
    return Batch(
        id=row.id,
        name=row.name,
        job=row.job,
        state=BatchState(row.state),
        pause_reason=row.pause_reason,
        pause_scope=row.pause_scope,
        prompt_version=row.prompt_version,
        prompt_id=row.prompt_id,
        models=tuple(json.loads(row.models_json)),
        canary=_canary(row),
        options=json.loads(row.options_json),
        simulated=row.simulated,
        submitted=row.submitted,
        rejected=row.rejected,
        created_us=row.created_us,
    )


def _canary(row: Any) -> Canary | None:
    return None if row.canary_json is None else Canary.model_validate_json(row.canary_json)


def find_batch(connection: Connection, id_or_name: str) -> Batch | None:
    """The batch of this id or name."""
    row = connection.execute(
        select(batch).where((batch.c.id == id_or_name) | (batch.c.name == id_or_name))
    ).first()
    return None if row is None else batch_from_row(row)


def open_batch(connection: Connection, plan: BatchPlan, *, now_us: int) -> Batch:
    """Find the plan's batch, or begin it.

    Raises UsageError when the batch exists and something asked for by name disagrees with it.
    """
    one_at_a_time(connection, f"open batch {plan.name}")
    found = find_batch(connection, plan.name)
    if found is None:
        return _begin_batch(connection, plan, now_us=now_us)
    _refuse_conflicts(found, plan)
    if plan.budget_nusd is not None:
        set_budget(connection, found.id, plan.budget_nusd)
    return found


def _begin_batch(connection: Connection, plan: BatchPlan, *, now_us: int) -> Batch:
    batch_id = new_id("b", clock_s=lambda: now_us / 1e6)
    connection.execute(
        insert(batch).values(
            id=batch_id,
            name=plan.name,
            job=plan.job,
            state=BatchState.ACTIVE,
            weight=plan.weight,
            prompt_version=plan.prompt_version,
            prompt_id=plan.prompt_id,
            models_json=json.dumps(plan.models),
            canary_json=None if plan.canary is None else plan.canary.model_dump_json(),
            options_json=json.dumps(dict(plan.options), sort_keys=True),
            second_read_json=written_second_pin(plan.second_read),
            simulated=plan.simulated,
            submitted=False,
            purpose=plan.purpose,
            created_us=now_us,
        )
    )
    connection.execute(
        insert(budget).values(scope=budget_scope(batch_id), limit_nusd=plan.budget_nusd)
    )
    begun = find_batch(connection, batch_id)
    assert begun is not None
    return begun


def _refuse_conflicts(found: Batch, plan: BatchPlan) -> None:
    wanted: dict[str, tuple[Any, Any]] = {
        "job": (found.job, plan.job),
        "prompt": (found.prompt_version, plan.prompt_version),
        "model": (found.models, plan.models),
        "simulate": (found.simulated, plan.simulated),
        **{name: (found.options.get(name), value) for name, value in plan.options.items()},
    }
    for name, (pinned, asked) in wanted.items():
        if (name in plan.pinned or name == "job") and pinned != asked:
            raise UsageError(
                f"batch {found.name} is pinned to {name} {_shown(pinned)}, not {_shown(asked)}; "
                "leave the option out to go on with it, or choose another --batch name"
            )


def _shown(value: Any) -> str:
    return " > ".join(value) if isinstance(value, tuple) else repr(value)


def set_budget(connection: Connection, batch_id: str, limit_nusd: int) -> None:
    """Set the most that a batch may spend, in nano-dollars."""
    set_limit(connection, budget_scope(batch_id), limit_nusd)


class Named(NamedTuple):
    """An input under the id of its document, its text packed: all that needs no ledger."""

    document_id: str
    source: str
    text: Packed | None  # none: it is unparsable, and `error` says why
    error: str | None


def name_documents(batch_id: str, texts: Sequence[SourceText]) -> list[Named]:
    """Prepare one chunk of inputs for `add_documents`."""
    packed = iter(pack([text.text.encode() for text in texts if text.text is not None]))
    document_id = document_ids(batch_id)
    return [
        Named(
            document_id(text.content),
            text.source,
            None if text.text is None else next(packed),
            text.error,
        )
        for text in texts
    ]


def add_documents(
    connection: Connection,
    batch_id: str,
    inputs: Sequence[Named],
    *,
    first_position: int,
    now_us: int,
) -> Added:
    """Add one chunk of inputs to a batch; adding the same ones again changes nothing.

    New documents stand at `first_position` and after it in the batch's order. In a batch that has
    been cancelled meanwhile they are born cancelled: nothing would ever take them up.
    A document that was unparsable, and of which there is a text now, is queued.
    Those that the batch's canary takes, as it is now, are pinned to it.
    """
    found = _locked_row(connection, batch_id)
    cancelled, canary = found.state == BatchState.CANCELLED, _canary(found)
    by_id: dict[str, Named] = {}
    for one in inputs:
        if one.document_id not in by_id or by_id[one.document_id].text is None:
            by_id[one.document_id] = one
    known = _known(connection, list(by_id))
    new = [one for id_, one in by_id.items() if id_ not in known]
    blobs.store_packed(connection, (one.text for one in new if one.text is not None))
    if not cancelled:
        unread = [id_ for id_, row in known.items() if row.reason == DeadReason.UNPARSABLE]
        _take_up(connection, [by_id[id_] for id_ in unread], canary=canary, now_us=now_us)
    placed = list(enumerate(new, start=first_position))
    unparsable = _insert_documents(
        connection,
        placed,
        batch_id=batch_id,
        cancelled=cancelled,
        canary=canary,
        now_us=now_us,
    )
    places = {id_: row.position for id_, row in known.items()}
    places |= {one.document_id: place for place, one in placed}
    if connection.dialect.name != "sqlite":  # another submission may have come first with some
        places = {id_: row.position for id_, row in _known(connection, list(by_id)).items()}
    insert_many(
        connection,
        source,
        ("document_id", "position", "name"),
        [(one.document_id, places[one.document_id], one.source) for one in inputs],
        shared={"batch_id": batch_id},
    )
    if unparsable:
        key = TallyKey.at(now_us, batch_id=batch_id, prompt_id="", model="")
        count_in(connection, {key: More(Tally(Counter({Count.DEAD: unparsable})))})
    return Added(
        accepted=len(new),
        duplicate=len(inputs) - len(new),
        unparsable=unparsable,
    )


def _known(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    """The documents of these ids that there are: the place of each, and why it ended, if it did."""
    wanted = one_of(connection, document.c.id, ids)
    query = select(document.c.id, document.c.position, document.c.reason).where(wanted)
    return {row.id: row for row in connection.execute(query)}


def _take_up(
    connection: Connection, inputs: Sequence[Named], *, canary: Canary | None, now_us: int
) -> None:
    """Queue unparsable documents that have a text now: their loader was mended or had more time."""
    taken_up: list[str] = []
    for one in inputs:
        if one.text is None:
            continue
        blobs.store_packed(connection, [one.text])
        taken_up += connection.execute(
            update(document)
            .where(
                document.c.id == one.document_id,
                document.c.state == DocumentState.DEAD,
                document.c.reason == DeadReason.UNPARSABLE,
            )
            .values(
                state=DocumentState.QUEUED,
                text_digest=one.text.digest,
                text_bytes=one.text.size_bytes,
                due_us=now_us,
                queued_us=now_us,
                finished_us=None,
                reason=None,
                message=None,
                signature=None,
                **_pins(canary, one.text),
            )
            .returning(document.c.id)
        ).scalars()
    note_documents(connection, "dead_retried", "read", document_ids=taken_up, now_us=now_us)


def _locked_row(connection: Connection, batch_id: str) -> Any:
    # locked against a cancellation or a rollback between this look and the commit
    return connection.execute(
        select(batch.c.state, batch.c.canary_json)
        .where(batch.c.id == batch_id)
        .with_for_update(read=True)
    ).one()


def _pins(canary: Canary | None, text: Packed | None) -> dict[str, str | None]:
    """The columns of a document in a batch with a canary: its own pins where it takes it."""
    if canary is None:
        return {}
    taken = text is not None and canary.takes(text.digest)
    return {
        "prompt_version": canary.version if taken else None,
        "prompt_id": canary.prompt_id if taken else None,
    }


def _insert_documents(
    connection: Connection,
    placed: Sequence[tuple[int, Named]],
    *,
    batch_id: str,
    cancelled: bool,
    canary: Canary | None,
    now_us: int,
) -> int:
    """Insert new documents at their positions; how many of them are unparsable."""
    shared = {"batch_id": batch_id, "due_us": now_us, "created_us": now_us, "queued_us": now_us}
    ended = {"finished_us": now_us}
    waits = {"state": DocumentState.QUEUED}
    read = [
        (one.document_id, place, one.text.digest, one.text.size_bytes)
        for place, one in placed
        if one.text is not None
    ]
    pins = [
        tuple(_pins(canary, one.text).values())
        for _, one in placed
        if canary is not None and one.text is not None
    ]
    insert_many(
        connection,
        document,
        ("id", "position", "text_digest", "text_bytes", *_pins(canary, None)),
        [row + pinned for row, pinned in zip(read, pins, strict=True)] if pins else read,
        shared=shared | ({"state": DocumentState.CANCELLED} | ended if cancelled else waits),
    )
    unread = [
        (one.document_id, place, one.error, f"{DeadReason.UNPARSABLE}: {one.error}"[:160])
        for place, one in placed
        if one.text is None
    ]
    dead = {"state": DocumentState.DEAD, "reason": DeadReason.UNPARSABLE, "text_bytes": 0}
    insert_many(
        connection,
        document,
        ("id", "position", "message", "signature"),
        unread,
        shared=shared | ended | dead,
    )
    return len(unread)


def document_count(connection: Connection, batch_id: str) -> int:
    """How many documents a batch has."""
    counted = select(func.count()).select_from(document).where(document.c.batch_id == batch_id)
    return int(connection.execute(counted).scalar_one())


def finish_submission(connection: Connection, batch_id: str, *, rejected: int) -> None:
    """Note that every input has been read, and how many were passed over."""
    connection.execute(
        update(batch).where(batch.c.id == batch_id).values(submitted=True, rejected=rejected)
    )
