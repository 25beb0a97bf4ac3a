"""What each command prints with `--json`: closed models, exact money, times as ISO 8601 in UTC.

`runner run` and a finished `run --dry-run` print `runner.batches.Summary` and `Forecast`;
`results` and `dead export` write lines of their own.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape, as_iso, in_s, in_usd
from runner.cli.wording import iso
from runner.keys import trace_id
from runner.laneuse import LaneUse
from runner.ledger.audit import AuditReport
from runner.ledger.calls import AttemptRow, CallBodies, DocumentView, EventRow
from runner.ledger.deadletters import DeadGroup, DeadLetter
from runner.ledger.keypauses import KeyPause
from runner.ledger.lanes import LaneRow
from runner.ledger.money import Day, larger_limit_nusd
from runner.ledger.speed import eta_s
from runner.ledger.standing import BatchStanding, QueueStanding
from runner.ledger.workers import LOST_AFTER_S, WorkerRow
from runner.model import BatchState, DocumentState, How
from runner.outputs import Output


class SubmittedShape(Shape):
    """`submit`: what this submission added."""

    batch: str
    batch_id: str
    accepted: int  # new documents
    duplicate: int  # further sources of documents that were known
    rejected: int  # entries of folders that are not read
    unparsable: int  # of the accepted: dead letters without a call


class WorkShape(Shape):
    """`work`: how it ended."""

    processes: int
    restarts: int
    seconds: float


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


class BatchShape(Shape):
    """One batch: its documents by state and its money."""

    batch: str
    batch_id: str
    job: str
    prompt: str
    models: tuple[str, ...]
    state: BatchState
    pause_reason: str | None
    pause_scope: str | None  # the key or the day whose pause holds it; null: its own
    simulated: bool
    submitted: bool  # every input has been read
    created: str
    accepted: int
    duplicate: int
    rejected: int
    queued: int
    ready: int
    running: int
    done: int
    review: int
    dead: int
    cancelled: int
    calls: int
    cost_usd: Decimal | None  # settled; null when a call's price is unknown
    held_usd: Decimal
    ambiguous_usd: Decimal
    budget_usd: Decimal | None
    documents_per_s: float | None
    eta_s: float | None

    @classmethod
    def of(cls, found: BatchStanding, *, documents_per_s: float | None = None) -> Self:
        """A batch as it stands, with its speed where that is known."""
        batch = found.batch
        return cls(
            batch=batch.name,
            batch_id=batch.id,
            job=batch.job,
            prompt=batch.prompt_version,
            models=batch.models,
            state=batch.state,
            pause_reason=batch.pause_reason,
            pause_scope=batch.pause_scope,
            simulated=batch.simulated,
            submitted=batch.submitted,
            created=iso(batch.created_us),
            accepted=found.accepted,
            duplicate=found.duplicate,
            rejected=batch.rejected,
            **{state.value: found.states[state] for state in DocumentState},
            calls=found.calls,
            cost_usd=nusd_to_usd(found.settled_nusd) if found.cost_known else None,
            held_usd=nusd_to_usd(found.held_nusd),
            ambiguous_usd=nusd_to_usd(found.ambiguous_nusd),
            budget_usd=in_usd(found.limit_nusd),
            documents_per_s=documents_per_s,
            eta_s=eta_s(found, documents_per_s=documents_per_s),
        )


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


class BatchListShape(Shape):
    """`batch list`."""

    batches: tuple[BatchShape, ...]


class BatchChangedShape(Shape):
    """`batch pause`, `resume`, `cancel`."""

    batch: str
    state: BatchState
    pause_reason: str | None
    budget_usd: Decimal | None
    cancelled: int  # documents that this command ended
    running: int  # documents whose calls are still to finish
    day_budget_usd: Decimal | None = None  # what this command set for today, for all batches
    key: str | None = None  # the key whose pause this command ended
    resumed: tuple[str, ...] = ()  # other batches that go on by this command


class ResultsShape(Shape):
    """`results`."""

    batch: str
    file: str
    lines: int
    unfinished: int  # documents that had not ended when this was written


class CallShape(Shape):
    """One provider call made for a document."""

    attempt_id: str
    document_id: str
    batch_id: str
    number: int  # counts the document's calls from 1
    state: str
    model: str
    prompt: str
    worker_id: str
    status: int | None
    fault: str | None
    message: str | None
    hold_usd: Decimal | None
    cost_usd: Decimal | None
    ambiguous_usd: Decimal
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    service_tier: str | None
    at: str
    queue_wait_s: float
    limiter_wait_s: float
    response_s: float | None
    parse_s: float | None
    total_s: float | None
    trace_id: str

    @classmethod
    def of(cls, row: AttemptRow) -> Self:
        """A call as the ledger has it."""
        return cls(**_call_fields(row))


def _call_fields(row: AttemptRow) -> dict[str, Any]:
    same = (
        *("document_id", "batch_id", "number", "state", "model", "worker_id", "status", "fault"),
        *("message", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"),
        *("reasoning_tokens", "service_tier"),
    )
    return {name: getattr(row, name) for name in same} | {
        "attempt_id": row.id,
        "prompt": row.prompt_id,
        "hold_usd": in_usd(row.hold_nusd),
        "cost_usd": in_usd(row.cost_nusd),
        "ambiguous_usd": nusd_to_usd(row.ambiguous_nusd),
        "at": iso(row.created_us),
        "queue_wait_s": row.queue_wait_us / 1e6,
        "limiter_wait_s": row.limiter_wait_us / 1e6,
        "response_s": in_s(row.response_us),
        "parse_s": in_s(row.parse_us),
        "total_s": in_s(row.total_us),
        "trace_id": trace_id(row.document_id),
    }


class CallListShape(Shape):
    """`calls list`."""

    calls: tuple[CallShape, ...]


class CallDetailShape(CallShape):
    """`calls show`: a call with the exact text of its request and answer; null once removed."""

    output: Any  # the data in the answer, as recorded or as the model wrote it
    output_problem: str | None  # why it gave no record
    request: str | None
    answer: str | None
    headers: Mapping[str, str]

    @classmethod
    def of_call(cls, row: AttemptRow, bodies: CallBodies, output: Output) -> Self:
        """A call with its bodies and what was read from them."""
        return cls(
            **_call_fields(row),
            output=output.data,
            output_problem=output.problem,
            request=_text(bodies.request),
            answer=_text(bodies.answer),
            headers=bodies.headers,
        )


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode("utf-8", "backslashreplace")


class TraceShape(Shape):
    """`calls trace`: a document's calls in their order."""

    document_id: str
    trace_id: str
    calls: tuple[CallShape, ...]


class EventShape(Shape):
    """Something that happened to a document."""

    at: str
    kind: str
    message: str

    @classmethod
    def of(cls, row: EventRow) -> Self:
        """An event as the ledger has it."""
        return cls(at=iso(row.at_us), kind=row.kind, message=row.message)


class EvidenceShape(Shape):
    """Where in the text a value stands: characters `start` up to, not with, `end`."""

    path: str
    start: int
    end: int
    how: How


class DocumentShape(Shape):
    """`show` and `dead show`: one document with all that is known of it."""

    document_id: str
    batch: str
    batch_id: str
    job: str
    state: str
    reason: str | None
    message: str | None
    sources: tuple[str, ...]
    attempts: int  # charged, in its present life
    deferrals: int
    crashes: int
    cost_usd: Decimal | None
    ambiguous_usd: Decimal
    created: str
    due: str | None  # when it may be tried again, while it waits
    finished: str | None
    pruned: str | None  # when its text, requests and answers were dropped for age
    model: str | None
    prompt_id: str | None
    flags: tuple[str, ...]
    data: Any
    evidence: tuple[EvidenceShape, ...]
    text: str | None
    trace_id: str
    calls: tuple[CallShape, ...]
    events: tuple[EventShape, ...]

    @classmethod
    def of(
        cls, view: DocumentView, *, calls: Sequence[AttemptRow], events: Sequence[EventRow]
    ) -> Self:
        """A document with its calls and events."""
        return cls(
            document_id=view.id,
            batch=view.batch_name,
            batch_id=view.batch_id,
            job=view.job,
            state=view.state,
            reason=view.reason,
            message=view.message,
            sources=view.sources,
            attempts=view.attempts,
            deferrals=view.deferrals,
            crashes=view.crashes,
            cost_usd=in_usd(view.cost_nusd),
            ambiguous_usd=nusd_to_usd(view.ambiguous_nusd),
            created=iso(view.created_us),
            due=iso(view.due_us) if view.state == DocumentState.QUEUED else None,
            finished=as_iso(view.finished_us),
            pruned=as_iso(view.pruned_us),
            model=view.model,
            prompt_id=view.prompt_id,
            flags=view.flags,
            data=view.data,
            evidence=tuple(
                EvidenceShape(path=one.path, start=one.start, end=one.end, how=one.how)
                for one in view.evidence
            ),
            text=view.text,
            trace_id=trace_id(view.id),
            calls=tuple(CallShape.of(row) for row in calls),
            events=tuple(EventShape.of(row) for row in events),
        )


class DeadGroupShape(Shape):
    """Dead letters that failed alike."""

    signature: str
    reason: str
    documents: int
    example_id: str

    @classmethod
    def of(cls, group: DeadGroup) -> Self:
        """A group as the ledger counts it."""
        return cls(
            signature=group.signature,
            reason=group.reason,
            documents=group.documents,
            example_id=group.example_id,
        )


class LetterShape(Shape):
    """One dead letter; also a line of `dead export`."""

    document_id: str
    batch: str
    job: str
    source: str
    reason: str
    message: str
    signature: str
    calls: int
    cost_usd: Decimal
    finished: str
    has_text: bool  # false: unparsable or purged, so there is nothing to send again

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """A dead letter as the ledger has it."""
        return cls(
            document_id=letter.document_id,
            batch=letter.batch_name,
            job=letter.job,
            source=letter.source,
            reason=letter.reason,
            message=letter.message,
            signature=letter.signature,
            calls=letter.calls,
            cost_usd=nusd_to_usd(letter.cost_nusd),
            finished=iso(letter.finished_us),
            has_text=letter.has_text,
        )


class DeadListShape(Shape):
    """`dead list`: groups, or letters with `--all`."""

    groups: tuple[DeadGroupShape, ...] = ()
    letters: tuple[LetterShape, ...] = ()


class RetriedShape(Shape):
    """`dead retry`: what matched, what this command queued again, and what that is to cost."""

    matched: int
    without_text: int  # of the matched: nothing to send again
    retried: int
    documents: tuple[str, ...]
    expected_usd: Decimal | None  # null when a price is unknown
    worst_usd: Decimal | None


class PurgedShape(Shape):
    """`dead purge`."""

    purged: int


class ExportedShape(Shape):
    """`dead export`."""

    file: str
    letters: int


class AuditShape(Shape):
    """`audit`."""

    balanced: bool
    batches: int
    documents: int
    attempts: int
    settled_usd: Decimal
    ambiguous_usd: Decimal
    held_usd: Decimal
    problems: tuple[str, ...]

    @classmethod
    def of(cls, report: AuditReport) -> Self:
        """What the audit counted."""
        return cls(
            balanced=not report.problems,
            batches=report.batches,
            documents=report.documents,
            attempts=report.attempts,
            settled_usd=nusd_to_usd(report.settled_nusd),
            ambiguous_usd=nusd_to_usd(report.ambiguous_nusd),
            held_usd=nusd_to_usd(report.held_nusd),
            problems=report.problems,
        )


class CheckShape(Shape):
    """One check of `doctor`."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    message: str


class DoctorShape(Shape):
    """`doctor`."""

    ok: bool
    checks: tuple[CheckShape, ...]


class NewShape(Shape):
    """`new`."""

    job: str
    files: tuple[str, ...]
