"""The runner's words as types: states, faults, outcomes, and what travels between parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class DocumentState(StrEnum):
    """Where a document is; exactly one holds at every instant."""

    QUEUED = "queued"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    REVIEW = "review"
    DEAD = "dead"
    CANCELLED = "cancelled"


OPEN_STATES = (DocumentState.QUEUED, DocumentState.READY, DocumentState.RUNNING)
TERMINAL_STATES = (
    DocumentState.DONE,
    DocumentState.REVIEW,
    DocumentState.DEAD,
    DocumentState.CANCELLED,
)


class BatchState(StrEnum):
    """Whether the feeder may put a batch's documents on the road."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Purpose(StrEnum):
    """What a batch is for: only runs are listed, the others are found by name."""

    RUN = "run"
    EVAL = "eval"
    TRY = "try"  # one document, one call: what would be asked again ends cancelled


class AttemptState(StrEnum):
    """How far one provider call got, as far as the ledger knows."""

    INTENT = "intent"  # durable before the request is sent
    ANSWERED = "answered"  # raw answer durable, not yet concluded
    CONCLUDED = "concluded"  # its outcome is written and its cost settled
    AMBIGUOUS = "ambiguous"  # it may have been paid; spent at worst case
    NOT_SENT = "not_sent"  # surely never left; settled at 0


class Fault(StrEnum):
    """Every way a call can fail; one member a row of the failure table in ARCHITECTURE.md."""

    RATE_LIMITED = "rate_limited"
    RAMPED_TOO_FAST = "ramped_too_fast"
    MONEY_OUT = "money_out"
    BAD_KEY = "bad_key"
    NO_PERMISSION = "no_permission"
    MODEL_GONE = "model_gone"
    TOO_LONG = "too_long"
    REQUEST_REFUSED = "request_refused"  # 400/422 that names the schema or a parameter
    BAD_REQUEST = "bad_request"  # any other 4xx
    CONFLICT = "conflict"  # 408, 409
    SERVER_ERROR = "server_error"
    NOT_SENT = "not_sent"
    AMBIGUOUS = "ambiguous"
    NOT_A_COMPLETION = "not_a_completion"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    FILTERED = "filtered"
    INVALID_JSON = "invalid_json"
    SCHEMA_INVALID = "schema_invalid"
    NOT_GROUNDED = "not_grounded"
    CHECK_FAILED = "check_failed"
    SECOND_READ_DIFFERS = "second_read_differs"
    INTERNAL_ERROR = "internal_error"
    WORKER_LOST = "worker_lost"
    POISON = "poison"
    OVER_CEILING = "over_ceiling"


# What says that a provider is in trouble, not that a document is.
PROVIDER_FAULTS = frozenset(
    {
        Fault.CONFLICT,
        Fault.SERVER_ERROR,
        Fault.NOT_SENT,
        Fault.AMBIGUOUS,
        Fault.NOT_A_COMPLETION,
    }
)
# what a key, not a document, has to be mended for; see the failure table in ARCHITECTURE.md
KEY_FAULTS = (Fault.MONEY_OUT, Fault.BAD_KEY, Fault.NO_PERMISSION)


class DeadReason(StrEnum):
    """Why a document ended without a record, beyond the fault that ended it."""

    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DEFERRED_TOO_LONG = "deferred_too_long"
    UNPARSABLE = "unparsable"
    OVER_RATE_LIMIT = "over_rate_limit"
    ERASED = "erased"
    REJECTED_IN_REVIEW = "rejected_in_review"


class Stratum(StrEnum):
    """Why a record waits for a person."""

    FLAGGED = "flagged"  # the runner is not sure of it
    SAMPLED = "sampled"  # drawn at random of those that it is sure of


class Decided(StrEnum):
    """What a person made of a record that waited."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    REJECTED = "rejected"
    AGAIN = "again"


class ReviewReason(StrEnum):
    """Why a document waits for a person, beyond the fault that ended it."""

    SECOND_READ_FAILED = "second_read_failed"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider reported them.

    Cached ones are part of `input_tokens`, reasoning ones part of `output_tokens`.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with an answer: the field's path (dots and indices) and what is wrong."""

    path: str
    message: str


class How(StrEnum):
    """How closely a document has the words of a value."""

    EXACT = "exact"
    NORMALISED = "normalised"  # letter case, blanks, widths, dashes aside; a usual writing
    FUZZY = "fuzzy"  # prose only


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where in the document's text a value stands: characters `start` up to, not with, `end`."""

    path: str
    start: int
    end: int
    how: How


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not give a record; what `decide` reads."""

    fault: Fault
    message: str
    errors: tuple[FieldError, ...] = ()
    retry_after_s: float | None = None
    outage: bool = False  # the breaker was open: the provider is at fault, and not this document
    # parsed data that failed only a check, or has no ground: what a review would show
    data_json: str | None = None
    evidence: tuple[Evidence, ...] = ()  # of what has ground all the same


@dataclass(frozen=True, slots=True)
class History:
    """What a document has been through in its present life; a retry begins a new one."""

    attempts: int = 0  # charged calls, the one being decided included
    deferrals: int = 0
    deferred_s: float = 0.0  # since the first deferral with no charged attempt after it
    crashes: int = 0
    reasks: int = 0  # of the present model, after invalid JSON or schema errors
    check_reasks: int = 0
    ambiguous: int = 0  # calls of unknown end, the one being decided included
    internal_errors: int = 0  # the one being decided included
    ladder_step: int = 0
    output_doubled: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits that `decide` applies; from the job."""

    ladder_length: int = 1
    max_attempts: int = 5
    max_reasks: int = 2
    max_check_reasks: int = 1
    deferral_max_s: float = 86_400.0
    review_ambiguous: bool = False  # on_ambiguous = "review"


class Charge(StrEnum):
    """What another try costs the document."""

    ATTEMPT = "attempt"
    DEFERRAL = "deferral"


class Pauses(StrEnum):
    """What stands still until the cause of a failure is mended."""

    BATCH = "batch"
    KEY = "key"  # whatever is called with this key
    LANE = "lane"  # what is called with this key for this model


@dataclass(frozen=True, slots=True)
class Done:
    """The document has a record."""

    data_json: str
    flags: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRead:
    """A good answer that a second read is to confirm, as its record will have it."""

    data_json: str
    flags: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    attempt_id: str
    model: str
    prompt_id: str


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The document has a good answer, and goes back to the queue for a second read."""

    first: FirstRead


@dataclass(frozen=True, slots=True)
class Again:
    """The document goes back to the queue, due after `delay_s` seconds."""

    delay_s: float
    charge: Charge
    failure: Failure
    ladder_step: int
    reask: tuple[FieldError, ...] = ()  # not empty: the next request shows these errors
    output_doubled: bool = False
    pauses: Pauses | None = None  # the cause is the batch's or the key's, not the document's
    alike_pauses: bool = (
        False  # three distinct documents in succession with this fault pause the batch
    )


@dataclass(frozen=True, slots=True)
class Review:
    """The document has a record that waits for a person, or none and a person decides."""

    reason: str
    failure: Failure
    data_json: str | None = None
    flags: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Dead:
    """The document ends without a record."""

    reason: str
    failure: Failure
    alike_pauses: bool = False


Outcome = Done | Unconfirmed | Again | Review | Dead


@dataclass(frozen=True, slots=True)
class Call:
    """One request to send: exact body bytes, where to, and how long it may take in all."""

    attempt_id: str
    model: str  # the name in runner.toml
    body: bytes
    deadline_s: float


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back over HTTP, unread: any status, exact bytes."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)  # lower-case names
    elapsed_us: int = 0
    sent_s: float | None = None  # when its request left, by `time.monotonic`; none: unknown


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A call without an answer: NOT_SENT (surely free) or AMBIGUOUS (may have been paid)."""

    fault: Fault
    message: str
    elapsed_us: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A provider answer that is a chat completion: the text, and what it used."""

    text: str
    finish_reason: str
    usage: Usage
    model: str
    refusal: str | None = None
    usage_reported: bool = True


class SourceText(NamedTuple):  # one a row: a frozen dataclass takes thrice as long to make
    """One input as a loader gives it: name, identity bytes, and text or why there is none."""

    source: str  # path or row id, as the person would name it
    content: bytes  # raw bytes of a file, or text of a row: hashed into the document id
    text: str | None
    error: str | None = None  # set, and text None, when unparsable
