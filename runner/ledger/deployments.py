"""What a change of the live prompt needs of the ledger: evidence, shares, and pinning anew."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from runner.ledger.events import note
from runner.ledger.secondreads import read_second_pin, written_second_pin
from runner.ledger.submission import Batch, batch_from_row
from runner.ledger.tables import attempt, batch, document, eval_run, record
from runner.model import AttemptState, DocumentState

WORK = "run"  # the purpose of a batch that is the job's work: no evaluation, no trial
PASS = "pass"  # noqa: S105 - a verdict
EVALUATIONS_MAX = 20

# Of these a call may still be made: of what is open, of dead letters and of records in review.
_MAY_BE_ASKED = (
    DocumentState.QUEUED,
    DocumentState.READY,
    DocumentState.RUNNING,
    DocumentState.DEAD,
    DocumentState.REVIEW,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation of a prompt, as far as a promotion looks at it."""

    id: str
    verdict: str
    prompt_id: str
    models: tuple[str, ...]
    gold_digest: str
    against_prompt_id: str | None
    dearest_document_nusd: int | None
    dearest_call_nusd: int | None
    created_us: int

    @property
    def passed(self) -> bool:
        """Whether its verdict lets a promotion through."""
        return self.verdict.lower() == PASS

    @property
    def ceiling_nusd(self) -> int | None:
        """What a document of the job may cost: well above all that good ones have cost.

        1.2 times the dearest document that ended done, or 3 times the dearest call if that is more;
        none where nothing had a price.
        """
        document_nusd = -(-6 * (self.dearest_document_nusd or 0) // 5)
        return max(document_nusd, 3 * (self.dearest_call_nusd or 0)) or None


def evaluations(connection: Connection, job: str, prompt_id: str) -> list[Evaluation]:
    """The evaluations of exactly this prompt id, the newest first, EVALUATIONS_MAX at most.

    Simulated ones say nothing of a prompt and are left out.
    """
    rows = connection.execute(
        select(eval_run)
        .where(eval_run.c.job == job, eval_run.c.prompt_id == prompt_id)
        .order_by(eval_run.c.created_us.desc(), eval_run.c.id.desc())
    ).all()
    told = [row for row in rows if not json.loads(row.summary_json).get("simulated")]
    return [
        Evaluation(
            id=row.id,
            verdict=row.verdict,
            prompt_id=row.prompt_id,
            models=tuple(json.loads(row.models_json)),
            gold_digest=row.gold_digest,
            against_prompt_id=row.against_prompt_id,
            dearest_document_nusd=row.dearest_document_nusd,
            dearest_call_nusd=row.dearest_call_nusd,
            created_us=row.created_us,
        )
        for row in told[:EVALUATIONS_MAX]
    ]


def batches_of(connection: Connection, job: str, *, limit: int | None = None) -> list[Batch]:
    """The batches of a job's work, the newest first."""
    query = _work_of(job).order_by(batch.c.id.desc())
    return [batch_from_row(row) for row in connection.execute(query.limit(limit))]


def _work_of(job: str) -> Any:
    return select(batch).where(batch.c.job == job, batch.c.purpose == WORK)


# ------------------------------------------------------------ shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Documents of one batch in one state that were asked, or wait to be asked, with one prompt."""

    prompt_id: str
    state: DocumentState
    documents: int


def shares(connection: Connection, batch_id: str) -> list[Share]:
    """A batch's documents by prompt and state: what gave their record, else what they wait for."""
    asked_with = func.coalesce(record.c.prompt_id, document.c.prompt_id, batch.c.prompt_id).label(
        "asked_with"
    )
    rows = connection.execute(
        select(asked_with, document.c.state, func.count().label("documents"))
        .select_from(document)
        .join(batch, batch.c.id == document.c.batch_id)
        .outerjoin(record, record.c.document_id == document.c.id)
        .where(document.c.batch_id == batch_id)
        .group_by(asked_with, document.c.state)
        .order_by(asked_with, document.c.state)
    )
    return [
        Share(
            prompt_id=row.asked_with,
            state=DocumentState(row.state),
            documents=row.documents,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """What one batch has of a prompt's records."""

    batch_id: str
    batch_name: str
    done: int
    review: int


def produced(
    connection: Connection, batches: Iterable[Batch], prompt_ids: Iterable[str]
) -> Iterator[Produced]:
    """Of these batches those that hold records of any of these prompts, and how many."""
    ids = sorted(prompt_ids)
    for one in batches:
        counted = (
            select(document.c.state, func.count())
            .join(record, record.c.document_id == document.c.id)
            .where(
                document.c.batch_id == one.id,
                document.c.state.in_([DocumentState.DONE, DocumentState.REVIEW]),
                record.c.prompt_id.in_(ids),
            )
            .group_by(document.c.state)
        )
        counts: dict[str, int] = dict(connection.execute(counted).all())
        if counts:
            yield Produced(
                batch_id=one.id,
                batch_name=one.name,
                done=counts.get(DocumentState.DONE, 0),
                review=counts.get(DocumentState.REVIEW, 0),
            )


# ------------------------------------------------------------ pinning anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Repin:
    """A wish that nothing of a job is asked with version `bad` any more, but with `good`."""

    job: str
    bad: str
    good: str
    id_of: Callable[[tuple[str, ...]], str]  # the prompt id of `good` with a ladder of models


@dataclass(slots=True)
class Repinned:
    """What was pinned anew, in documents; `prompt_ids` are those of the bad version."""

    waiting: int = 0
    running: int = 0  # their call goes on and is recorded as what it is
    dead: int = 0
    review: int = 0
    batches: list[str] = field(default_factory=list)  # names
    prompt_ids: set[str] = field(default_factory=set)

    def merge(self, more: "Repinned") -> None:
        """Count what another pass has found."""
        self.waiting += more.waiting
        self.running += more.running
        self.dead += more.dead
        self.review += more.review
        self.batches += more.batches
        self.prompt_ids |= more.prompt_ids

    def add(self, states: dict[str, int]) -> None:
        """Count documents by state."""
        self.waiting += states.get(DocumentState.QUEUED, 0) + states.get(DocumentState.READY, 0)
        self.running += states.get(DocumentState.RUNNING, 0)
        self.dead += states.get(DocumentState.DEAD, 0)
        self.review += states.get(DocumentState.REVIEW, 0)


def repin(connection: Connection, wish: Repin, *, now_us: int) -> Repinned:
    """Pin the good version wherever a call could still be made with the bad one.

    That is in every batch of the job's work: what waits, what runs (for calls after the present
    one), dead letters and reviews (should they be tried again), documents that join later, and
    second reads, which end where they would ask what the first one asks.
    What a worker has loaded already and not yet asked for is put back into the queue: its old
    ticket is stale. Records and attempts keep the id that they were asked with.
    Repeating it changes nothing.
    """
    done = Repinned()
    # the batches first, locked: no chunk of a submission comes between them and their documents
    for row in connection.execute(_work_of(wish.job).with_for_update()).all():
        found = batch_from_row(row)
        states = _repin_documents(connection, found, wish, done.prompt_ids, now_us=now_us)
        changed = _repin_batch(connection, row, found, wish, done.prompt_ids)
        if "second_read_json" in changed:
            _drop_loaded_second_reads(connection, found.id, now_us=now_us)
        if states or changed:
            done.add(states)
            done.batches.append(found.name)
            words = f"pinned to prompt {wish.good} instead of {wish.bad}: {sum(states.values())}"
            note(connection, "repinned", words, batch_id=found.id, now_us=now_us)
    return done


def _repin_batch(
    connection: Connection, row: Any, found: Batch, wish: Repin, bad_ids: set[str]
) -> dict[str, str | None]:
    """Change what a batch itself pins; the columns that were changed."""
    values: dict[str, str | None] = {}
    if found.prompt_version == wish.bad:
        bad_ids.add(found.prompt_id)
        values |= {"prompt_version": wish.good, "prompt_id": wish.id_of(found.models)}
    if found.canary is not None and found.canary.version == wish.bad:
        bad_ids.add(found.canary.prompt_id)
        values["canary_json"] = None
    second = read_second_pin(row.second_read_json)
    if second is not None and second.prompt_version == wish.bad:
        bad_ids.add(second.prompt_id)
        id_ = wish.id_of(second.models)
        same = id_ == values.get("prompt_id", found.prompt_id)
        pin = None if same else replace(second, prompt_version=wish.good, prompt_id=id_)
        values["second_read_json"] = written_second_pin(pin)
    if values:
        connection.execute(update(batch).where(batch.c.id == found.id).values(values))
    return values


def _drop_loaded_second_reads(connection: Connection, batch_id: str, *, now_us: int) -> None:
    """Queue again what a worker may have loaded to read it a second time with the old pin."""
    connection.execute(
        update(document)
        .where(
            document.c.batch_id == batch_id,
            document.c.state == DocumentState.READY,
            document.c.first_read_json.is_not(None),
        )
        .values(state=DocumentState.QUEUED, due_us=now_us)
    )


def _repin_documents(
    connection: Connection, found: Batch, wish: Repin, bad_ids: set[str], *, now_us: int
) -> dict[str, int]:
    """Pin a batch's documents anew; how many there were of each state."""
    own = document.c.prompt_version == wish.bad
    inherited = document.c.prompt_version.is_(None)
    pinned = or_(own, inherited) if found.prompt_version == wish.bad else own
    mine = (
        document.c.batch_id == found.id,
        document.c.state.in_(_MAY_BE_ASKED),
        pinned,
    )
    counted = select(document.c.state, func.count()).where(*mine).group_by(document.c.state)
    states: dict[str, int] = dict(connection.execute(counted).all())
    if not states:
        return {}
    connection.execute(
        update(document)
        .where(*mine, document.c.state == DocumentState.READY)
        .values(state=DocumentState.QUEUED, due_us=now_us)
    )
    # what the bad version's answer left for the next request is of no use to the good one; a paid
    # answer that waits to be read is judged as what it was asked for
    answered = select(attempt.c.document_id).where(
        attempt.c.batch_id == found.id, attempt.c.state == AttemptState.ANSWERED
    )
    connection.execute(
        update(document)
        .where(
            *mine,
            document.c.tried.is_(True),
            document.c.id.not_in(answered),
            document.c.reask_json.is_not(None) | document.c.first_read_json.is_not(None),
        )
        .values(reask_json=None, first_read_json=None)
    )
    _change_own_pins(connection, found, wish, bad_ids, (*mine, own))
    return states


def _change_own_pins(
    connection: Connection,
    found: Batch,
    wish: Repin,
    bad_ids: set[str],
    mine: tuple[ColumnElement[bool], ...],
) -> None:
    """Change the pins of documents that have some of their own, one ladder of models at a time."""
    ladders = connection.execute(
        select(document.c.models_json, document.c.prompt_id).where(*mine).distinct()
    ).all()
    for ladder in ladders:
        bad_ids.add(ladder.prompt_id)
        models = tuple(json.loads(ladder.models_json)) if ladder.models_json else found.models
        connection.execute(
            update(document)
            .where(*mine, document.c.models_json.is_not_distinct_from(ladder.models_json))
            .values(prompt_version=wish.good, prompt_id=wish.id_of(models))
        )
