"""What one does with batches, whoever asks: plan, submit, forecast, sum up, give results."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from runner.budget import nusd_to_usd, usd_to_nusd
from runner.config import ModelSettings, Settings
from runner.errors import JobError, NotFoundError, UsageError
from runner.exporters import ResultError, ResultLine
from runner.keys import batch_key, trace_id
from runner.ledger import Ledger, pausing
from runner.ledger.deadletters import DeadFilter, Pins, list_dead, retry_dead
from runner.ledger.intake import Intake
from runner.ledger.results import Result, results
from runner.ledger.secondreads import SecondPin
from runner.ledger.standing import BatchStanding, batch_standing
from runner.ledger.submission import (
    Added,
    Batch,
    BatchPlan,
    document_count,
    find_batch,
    finish_submission,
    name_documents,
    open_batch,
)
from runner.model import DeadReason, DocumentState, History, SourceText
from runner.pinned import Pinned, PinnedJobs
from runner.prepare import prepare
from runner.prices import PriceList

CHUNK = 1_000
CHUNK_MAX_BYTES = 4_000_000  # files and texts: a submitter holds a few chunks in memory
CHUNK_MAX_S = 0.5  # a slow source does not keep finished inputs waiting longer


class Summary(BaseModel):
    """A batch in one line, as `runner run --json` prints it; counts are documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: str
    accepted: int
    duplicate: int
    rejected: int
    queued: int  # not ended yet: queued, ready and running
    done: int
    review: int
    dead: int
    cancelled: int
    attempts: int
    cost_usd: Decimal | None  # settled; null when a call's price is unknown
    held_usd: Decimal
    ambiguous_usd: Decimal
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for when submitting; None and () mean the default."""

    job: str
    inputs: tuple[str, ...] = ()
    batch: str | None = None
    prompt: str | None = None
    models: tuple[str, ...] = ()
    text_field: str | None = None
    id_field: str | None = None
    simulate: bool = False
    budget_usd: Decimal | None = None
    weight: int = 1


def plan(request: Request, jobs: PinnedJobs) -> tuple[BatchPlan, Pinned]:
    """Turn a request into what the ledger pins, finding job and prompt.

    A canary is pinned beside the live version, and not beside one that was asked for by name.
    Raises JobError when there is no such job, version or lock, UsageError for a bad budget.
    """
    if request.budget_usd is not None and request.budget_usd <= 0:
        raise UsageError(f"a budget must be above 0 USD, not {request.budget_usd}")
    if "-" in request.inputs and request.batch is None:
        raise UsageError(
            "standard input has no name by which its batch could be found again; give it one "
            "with --batch"
        )
    if not all(model.strip() for model in request.models):
        raise UsageError("a model's name is empty; leave --model out to use the job's own models")
    pinned = jobs.live(request.job, version=request.prompt, models=request.models)
    options = {"text_field": request.text_field or "", "id_field": request.id_field or ""}
    asked = {
        "prompt": request.prompt is not None,
        "model": bool(request.models),
        "simulate": request.simulate,
        "text_field": request.text_field is not None,
        "id_field": request.id_field is not None,
    }
    return (
        BatchPlan(
            name=request.batch or _derived_name(request, options),
            job=request.job,
            prompt_version=pinned.prompt.version,
            prompt_id=pinned.prompt_id,
            models=pinned.models,
            second_read=second_pin(pinned, jobs),
            canary=None
            if request.prompt is not None
            else jobs.canary(request.job, models=request.models),
            options=options,
            simulated=request.simulate,
            weight=request.weight,
            budget_nusd=None if request.budget_usd is None else usd_to_nusd(request.budget_usd),
            pinned=frozenset(name for name, was_asked in asked.items() if was_asked),
        ),
        pinned,
    )


def second_pin(pinned: Pinned, jobs: PinnedJobs) -> SecondPin | None:
    """What the job's second reads are made with: pinned with the batch, as the first ones are."""
    wanted = pinned.job.second_read
    if wanted is None:
        return None
    second = jobs.live(
        pinned.name,
        version=wanted.prompt or pinned.prompt.version,
        models=wanted.models or pinned.models,
    )
    if second.prompt_id == pinned.prompt_id:
        raise JobError(
            f"job {pinned.name}: its second read would ask exactly as the first does "
            f"({pinned.prompt.version}, {', '.join(pinned.models)}): name another prompt or model "
            "in `second_read`"
        )
    return SecondPin(
        prompt_version=second.prompt.version,
        prompt_id=second.prompt_id,
        models=second.models,
        percent=wanted.percent,
        doubtful=wanted.doubtful,
    )


def _derived_name(request: Request, options: Mapping[str, str]) -> str:
    inputs = [one if one == "-" else str(Path(one).absolute()) for one in request.inputs]
    key = batch_key(
        request.job,
        json.dumps(inputs),
        json.dumps(options, sort_keys=True),
        json.dumps([request.prompt, request.models, request.simulate]),
    )
    return f"{request.job}-{key[1:9]}"


@dataclass(slots=True)
class Submitted:
    """What a submission did."""

    batch: Batch
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    unparsable: int = 0


def submit(
    ledger: Ledger,
    planned: BatchPlan,
    texts: Iterable[SourceText],
    *,
    rejected: Callable[[], int] = lambda: 0,
    on_progress: Callable[[Submitted], None] = lambda _: None,
    clock_s: Callable[[], float] | None = None,
) -> Submitted:
    """Stream inputs into the planned batch in constant memory; doing it again changes nothing.

    `on_progress` hears of each chunk once it is durable, in a thread of its own; a submission that
    breaks off keeps every whole chunk that was read before. Raises UsageError when the batch exists
    and disagrees with what was asked for by name.
    """
    with ledger.transaction() as connection:
        batch = open_batch(connection, planned, now_us=_us(clock_s or ledger.clock.s))
        position = document_count(connection, batch.id)
    done = Submitted(batch)

    def note(added: Added) -> None:
        done.accepted += added.accepted
        done.duplicate += added.duplicate
        done.unparsable += added.unparsable
        on_progress(done)

    with Intake(
        ledger,
        batch.id,
        first_position=position,
        clock_us=lambda: _us(clock_s or ledger.clock.s),
        on_added=note,
    ) as intake:
        for chunk in _chunks(texts):
            intake.put(name_documents(batch.id, chunk))
    done.rejected = rejected()
    with ledger.transaction() as connection:
        finish_submission(connection, batch.id, rejected=done.rejected)
    return done


def _chunks(texts: Iterable[SourceText]) -> Iterator[list[SourceText]]:
    chunk: list[SourceText] = []
    chunk_bytes, began_s = 0, time.monotonic()
    for text in texts:
        chunk.append(text)
        chunk_bytes += len(text.content) + len(text.text or "")
        is_old = time.monotonic() - began_s >= CHUNK_MAX_S
        if is_old or len(chunk) >= CHUNK or chunk_bytes >= CHUNK_MAX_BYTES:
            yield chunk
            chunk = []
            chunk_bytes, began_s = 0, time.monotonic()
    if chunk:
        yield chunk


def get_batch(ledger: Ledger, id_or_name: str) -> Batch:
    """The batch of this id or name. Raises NotFoundError."""
    with ledger.snapshot() as connection:
        found = find_batch(connection, id_or_name)
    if found is None:
        raise NotFoundError(f"no batch {id_or_name!r}; `runner batch list` shows those there are")
    return found


def standing(ledger: Ledger, batch: Batch) -> BatchStanding:
    """How a batch stands now."""
    with ledger.snapshot() as connection:
        found = find_batch(connection, batch.id)
        assert found is not None
        return batch_standing(connection, found)


def leave_past_days(ledger: Ledger, *, clock_s: Callable[[], float] | None = None) -> None:
    """Let batches go on that a day holds which is over; a worker that leads does so by itself."""
    with ledger.transaction() as connection:
        pausing.leave_past_days(connection, now_us=_us(clock_s or ledger.clock.s))


def summary(found: BatchStanding, *, seconds: float) -> Summary:
    """A batch in one line."""
    return Summary(
        batch=found.batch.name,
        accepted=found.accepted,
        duplicate=found.duplicate,
        rejected=found.batch.rejected,
        queued=found.open,
        done=found.states[DocumentState.DONE],
        review=found.states[DocumentState.REVIEW],
        dead=found.states[DocumentState.DEAD],
        cancelled=found.states[DocumentState.CANCELLED],
        attempts=found.calls,
        cost_usd=nusd_to_usd(found.settled_nusd) if found.cost_known else None,
        held_usd=nusd_to_usd(found.held_nusd),
        ambiguous_usd=nusd_to_usd(found.ambiguous_nusd),
        seconds=round(seconds, 3),
    )


def result_lines(ledger: Ledger, batch: Batch) -> Iterator[ResultLine]:
    """One line a source, in order of submission, from one consistent view."""
    with ledger.snapshot() as connection:
        for result in results(connection, batch.id):
            yield _result_line(result)


def _result_line(result: Result) -> ResultLine:
    ended_well = result.state == DocumentState.DONE and result.reason != DeadReason.ERASED
    return ResultLine(
        document_id=result.document_id,
        source=result.source,
        status=DocumentState(result.state),
        data=result.data,
        flags=result.flags,
        error=None
        if ended_well or result.reason is None
        else ResultError(reason=result.reason, message=result.message or ""),
        prompt=result.prompt_id,
        model=result.model,
        attempts=result.calls,
        cost_usd=None if result.cost_nusd is None else nusd_to_usd(result.cost_nusd),
        latency_s=None if result.latency_us is None else round(result.latency_us / 1e6, 3),
        trace_id=trace_id(result.document_id),
    )


class Forecast(BaseModel):
    """What a run would cost and take before anything is sent; null where nothing is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: int
    unparsable: int
    input_tokens: int
    expected_usd: Decimal | None
    worst_usd: Decimal | None
    model: str
    expected_s: float | None  # at the model's limits in runner.toml; null without any
    worst_s: float | None


def forecast(
    pinned: Pinned, texts: Iterable[str | None], *, settings: Settings, prices: PriceList
) -> Forecast:
    """Price each document's first call, and the worst case of all its attempts.

    Expected: input tokens (exact where the vocabulary is known) and a quarter of them as output.
    Worst: every attempt of every document at its hold. Times are those that the limits of the first
    model in runner.toml leave for as many calls and tokens.
    """
    known = prices.price(pinned.models[0]) is not None
    attempts_max = pinned.job.max_attempts
    documents = unparsable = input_tokens = expected_nusd = worst_nusd = 0
    expected_tokens = worst_tokens = 0
    for text in texts:
        if text is None:
            unparsable += 1
            continue
        first = prepare(
            pinned, text=text, history=History(), reask=(), settings=settings, prices=prices
        )
        documents += 1
        input_tokens += first.input_tokens
        expected_tokens += first.expected_tokens
        worst_tokens += attempts_max * (first.input_tokens + first.max_output_tokens)
        expected_nusd += first.expected_nusd or 0
        worst_nusd += attempts_max * (first.hold_nusd or 0)
    served = settings.model(pinned.models[0])
    return Forecast(
        documents=documents,
        unparsable=unparsable,
        input_tokens=input_tokens,
        expected_usd=nusd_to_usd(expected_nusd) if known else None,
        worst_usd=nusd_to_usd(worst_nusd) if known else None,
        model=pinned.models[0],
        expected_s=_at_limits_s(served, calls=documents, tokens=expected_tokens),
        worst_s=_at_limits_s(served, calls=documents * attempts_max, tokens=worst_tokens),
    )


def _at_limits_s(served: ModelSettings, *, calls: int, tokens: int) -> float | None:
    """How long so many calls and tokens take at a model's limits; None where it has none."""
    limits = [(calls, served.rpm), (tokens, served.tpm)]
    minutes = [amount / per_min for amount, per_min in limits if per_min is not None]
    return round(60 * max(minutes), 1) if minutes else None


def retry(
    ledger: Ledger,
    wanted: DeadFilter,
    *,
    jobs: PinnedJobs,
    prompt: str | None = None,
    models: Sequence[str] = (),
    clock_s: Callable[[], float] | None = None,
) -> list[str]:
    """Queue the wanted dead letters again, once however many ask; the ids that this call retried.

    With `prompt` or `models`, they run with those instead of their batch's. Raises JobError when
    these do not exist.
    """
    with ledger.snapshot() as connection:
        letters = list_dead(connection, wanted)
    retried: list[str] = []
    for job in sorted({letter.job for letter in letters}):
        ids = [letter.document_id for letter in letters if letter.job == job]
        pins = pins_of(jobs, job, prompt=prompt, models=tuple(models))
        with ledger.transaction() as connection:
            retried += retry_dead(connection, ids, pins=pins, now_us=_us(clock_s or ledger.clock.s))
    return retried


def pins_of(
    jobs: PinnedJobs, job: str, *, prompt: str | None, models: tuple[str, ...]
) -> Pins | None:
    """What documents of a job that run again are asked with; None: with what their batch pinned.

    Raises JobError when the version or its lock does not exist.
    """
    if prompt is None and not models:
        return None
    pinned = jobs.live(job, version=prompt, models=models)
    return Pins(
        prompt_version=pinned.prompt.version, prompt_id=pinned.prompt_id, models=pinned.models
    )


def _us(clock_s: Callable[[], float]) -> int:
    return round(clock_s() * 1e6)
