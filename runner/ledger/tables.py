"""The ledger's tables, one schema for SQLite and PostgreSQL.

Units stand in column names: `_us` microseconds (times: UTC since the epoch), `_nusd` integer
nano-dollars, `_tokens`. A change here needs a migration in `migrations/versions`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)

metadata = MetaData()

# The condition of a partial index. Migrations make indexes; were it told as SQLAlchemy has it, each
# command would load the dialect of PostgreSQL, a tenth of its start.
WHERE = "where"

# One row: the id that prefixes this ledger's keys in a shared Redis.
meta = Table(
    "meta",
    metadata,
    Column("ledger_id", String(32), primary_key=True),
)

# Texts, request parts and raw answers, each stored once under the SHA-256 of its bytes.
blob = Table(
    "blob",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("zstd", LargeBinary, nullable=False),
)

# Blobs to drop once nothing refers to them: parts of what was pruned, purged or erased. Storing one
# of them again takes it off this list.
unwanted = Table(
    "unwanted",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("mark", BigInteger, nullable=False),  # of the removal that put it here
)

batch = Table(
    "batch",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("job", String(100), nullable=False),
    Column("state", String(16), nullable=False),
    Column("pause_reason", Text),
    # whose pause holds it: `key:<key id>`, `lane:<lane id>` or `day:<date>`; none: its own
    Column("pause_scope", String(80)),
    Column("pause_alert_us", BigInteger),  # since when its pause waits to be told by an alert
    Column("weight", Integer, nullable=False, server_default="1"),
    Column("prompt_version", String(40), nullable=False),
    Column("prompt_id", String(40), nullable=False),
    Column("models_json", Text, nullable=False),  # the ladder, first asked first
    Column("options_json", Text, nullable=False),  # what a repeated submission must agree with
    Column("simulated", Boolean, nullable=False),
    Column("submitted", Boolean, nullable=False),  # every input has been read at least once
    Column("rejected", Integer, nullable=False, server_default="0"),
    Column("purpose", String(16), nullable=False, server_default="run"),  # run, eval or try
    Column("canary_json", Text),  # pinned beside: a version, its id, and its share in per cent
    Column("second_read_json", Text),  # pinned beside: with what, and which documents, twice
    # the last fault that points at the configuration, and which documents in succession it hit
    # with no success between
    Column("alike_fault", String(40)),
    Column("alike_documents_json", Text),
    Column("created_us", BigInteger, nullable=False),
)

document = Table(
    "document",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("batch_id", ForeignKey("batch.id"), nullable=False),
    Column("position", BigInteger, nullable=False),  # order of submission within the batch
    Column("text_digest", LargeBinary(32)),  # none when unparsable, pruned, purged or erased
    # of a text that was pruned or purged: it still tells which documents had one content
    Column("former_digest", LargeBinary(32)),
    Column("text_bytes", BigInteger, nullable=False),
    # its own pins, where they are not the batch's: of a canary, or of a retry with another prompt
    # or model. They say what its next call asks with; its attempts and its record what was asked.
    Column("prompt_version", String(40)),
    Column("prompt_id", String(40)),
    Column("models_json", Text),
    Column("state", String(16), nullable=False),
    Column("turn", Integer, nullable=False, server_default="0"),
    # called at least once: such a document goes before its batch's fresh ones once it is due, so
    # that what a dead worker left is done within seconds, however long the backlog
    Column("tried", Boolean, nullable=False, server_default=false()),
    Column("due_us", BigInteger, nullable=False),
    # its present life; a retried dead letter starts these anew
    Column("ladder_step", Integer, nullable=False, server_default="0"),
    Column("output_doubled", Boolean, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("deferrals", Integer, nullable=False, server_default="0"),
    Column("deferred_since_us", BigInteger),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("reasks", Integer, nullable=False, server_default="0"),
    Column("check_reasks", Integer, nullable=False, server_default="0"),
    Column("ambiguous", Integer, nullable=False, server_default="0"),
    Column("internal_errors", Integer, nullable=False, server_default="0"),
    Column("reask_json", Text),  # field errors: the next request shows them, or a review does
    Column("first_read_json", Text),  # the good answer that a second read is to confirm
    # the lease; before it, the worker whose process tries the document by itself, if one does
    Column("lease_token", String(40)),
    Column("worker_id", String(40)),
    # totals over all its lives
    Column("calls", Integer, nullable=False, server_default="0"),
    Column("cost_nusd", BigInteger, nullable=False, server_default="0"),
    Column("cost_known", Boolean, nullable=False, server_default=true()),
    Column("ambiguous_nusd", BigInteger, nullable=False, server_default="0"),
    Column("spent_before_nusd", BigInteger, nullable=False, server_default="0"),  # in earlier lives
    # why it is where it is: the last failure, and the reason of a dead letter or review
    Column("reason", String(40)),
    Column("message", Text),
    Column("signature", String(160)),
    Column("created_us", BigInteger, nullable=False),
    Column("queued_us", BigInteger, nullable=False),  # since when it waits; the oldest-age figure
    Column("finished_us", BigInteger),
    Column("pruned_us", BigInteger),  # when its text, requests and answers were dropped for age
    Column("erased_us", BigInteger),  # when all that it said was, at somebody's wish
    # the feeder's window, progress counts and dead-letter lists all read this index
    Index("document_by_state", "state", "batch_id", "tried", "due_us", "position"),
    Index("document_by_batch", "batch_id", "state"),
    Index(
        "document_of_unknown_cost",
        "batch_id",
        info={WHERE: "cost_known IS false"},
    ),
    Index(
        "document_of_own_prompt",
        "prompt_version",
        "prompt_id",
        info={WHERE: "prompt_version IS NOT NULL"},
    ),
)

# Two inputs with one content are two sources of one document.
source = Table(
    "source",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("batch_id", ForeignKey("batch.id"), nullable=False),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("position", BigInteger, nullable=False, server_default="0"),  # its document's
    Column("name", Text, nullable=False),
    UniqueConstraint("batch_id", "name", "document_id"),
    # not by document: ids are random, and a submission would write all over such an index
    Index("source_by_place", "batch_id", "position"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("batch_id", ForeignKey("batch.id"), nullable=False),
    Column("number", Integer, nullable=False),  # counts the document's calls from 1
    Column("state", String(16), nullable=False),
    Column("worker_id", String(40), nullable=False),
    Column("model", String(200), nullable=False),
    Column("prompt_id", String(40), nullable=False),
    # exact request bytes = head + JSON-escaped document text + tail; tail is none when the
    # request does not contain the text in one piece and stands whole in head; zeros once removed
    Column("request_head_digest", LargeBinary(32), nullable=False),
    Column("request_tail_digest", LargeBinary(32)),
    Column("answer_digest", LargeBinary(32)),
    Column("status", Integer),  # HTTP
    Column("headers_json", Text),
    Column("fault", String(40)),  # none: it gave a record
    # it counts as one of its document's max_attempts
    Column("charged", Boolean, nullable=False, server_default=false()),
    Column("message", Text),
    Column("hold_nusd", BigInteger),  # none: price unknown
    Column("cost_nusd", BigInteger),  # none until settled, and at an unknown price
    Column("ambiguous_nusd", BigInteger, nullable=False, server_default="0"),
    Column("input_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("service_tier", String(40)),
    Column("created_us", BigInteger, nullable=False),
    # latency by step
    Column("queue_wait_us", BigInteger, nullable=False),
    Column("limiter_wait_us", BigInteger, nullable=False),
    Column("response_us", BigInteger),
    Column("parse_us", BigInteger),
    Column("total_us", BigInteger),
    Index("attempt_by_document", "document_id", "number"),
    Index("attempt_by_batch", "batch_id", "state"),
    # only calls that failed: they are few, and those that people look for
    Index(
        "attempt_by_fault",
        "fault",
        "id",
        info={WHERE: "fault IS NOT NULL"},
    ),
)

record = Table(
    "record",
    metadata,
    Column("document_id", ForeignKey("document.id"), primary_key=True),
    Column("batch_id", ForeignKey("batch.id"), nullable=False),
    Column("attempt_id", String(40), nullable=False),
    Column("data_json", Text),  # none: a review of a document without an answer
    Column("flags_json", Text, nullable=False),
    Column("evidence_json", Text),  # where in the text each stated value stands
    Column("sampled", Boolean, nullable=False, server_default=false()),  # for a person's audit
    Column("model", String(200), nullable=False),
    Column("prompt_id", String(40), nullable=False),
    Column("latency_us", BigInteger, nullable=False),  # submitted to recorded
    Column("created_us", BigInteger, nullable=False),
    Index(
        "record_of_sample",
        "batch_id",
        info={WHERE: "sampled IS true"},
    ),
)

# What a person decided about a record: history, and the ground of error rates.
review = Table(
    "review",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("document_id", ForeignKey("document.id"), nullable=False),
    Column("batch_id", ForeignKey("batch.id"), nullable=False),
    Column("decision", String(16), nullable=False),  # accepted, corrected, rejected, again
    Column("stratum", String(16), nullable=False),  # flagged, or sampled at random
    Column("reason", String(40)),  # why it was flagged
    Column("was_wrong", Boolean, nullable=False),  # something in the record was not right
    Column("before_json", Text),
    Column("after_json", Text),
    Column("model", String(200), nullable=False),
    Column("prompt_id", String(40), nullable=False),
    Column("reviewer", String(200), nullable=False),
    Column("note", Text),
    Column("at_us", BigInteger, nullable=False),
    Index("review_by_batch", "batch_id", "id"),
    Index("review_by_document", "document_id", "id"),
)

# An evaluation of one prompt version on one set of gold documents, and its verdict.
eval_run = Table(
    "eval_run",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", String(100), nullable=False),
    Column("prompt_version", String(40), nullable=False),
    Column("prompt_id", String(40), nullable=False),
    Column("models_json", Text, nullable=False),
    Column("gold_digest", String(80), nullable=False),  # of inputs and expected outputs
    Column("against_prompt_id", String(40)),
    Column("verdict", String(16), nullable=False),
    Column("summary_json", Text, nullable=False),
    Column("dearest_document_nusd", BigInteger),  # of those that ended done
    Column("dearest_call_nusd", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Index("eval_run_by_job", "job", "created_us"),
)

# How each gold document fared in an evaluation, with either prompt.
eval_result = Table(
    "eval_result",
    metadata,
    Column("run_id", ForeignKey("eval_run.id"), primary_key=True),
    Column("prompt_id", String(40), primary_key=True),
    Column("case_id", String(200), primary_key=True),
    Column("repeat", Integer, primary_key=True),
    Column("document_id", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcomes_json", Text, nullable=False),
    Column("cost_nusd", BigInteger),
    Column("latency_us", BigInteger),
)

# Money by scope (`batch:<id>`, `day:<date>`): spent = settled + ambiguous, held = holds of live
# attempts. An attempt belongs to the UTC day of its claim; simulated ones belong to no day. The
# limit of a day's row is what a person raised it to; the general one stands in runner.toml.
budget = Table(
    "budget",
    metadata,
    Column("scope", String(80), primary_key=True),
    Column("limit_nusd", BigInteger),
    Column("settled_nusd", BigInteger, nullable=False, server_default="0"),
    Column("ambiguous_nusd", BigInteger, nullable=False, server_default="0"),
    Column("held_nusd", BigInteger, nullable=False, server_default="0"),
    Column("alerted_us", BigInteger),  # when it was told that most of the limit is spent
)

# A key, or a key for one model, that the provider does not serve now: nothing is called with it.
key_pause = Table(
    "key_pause",
    metadata,
    Column("scope", String(80), primary_key=True),  # `key:<key id>` or `lane:<lane id>`
    Column("name", Text, nullable=False),  # as a person knows it, such as OPENAI_API_KEY at host
    Column("fault", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("probe_us", BigInteger),  # when one document may try it again; none: a person resumes
    Column("probe_document_id", String(40)),  # the one that tries it now
)

# What limits hold for a lane (one model at one base URL with one key), and how far it is used.
lane = Table(
    "lane",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("model", String(200), nullable=False),
    Column("server", String(200), nullable=False),
    Column("key_name", String(200)),  # the environment variable that holds the key
    Column("use_json", Text, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),  # its mark in the queue's scores
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started_s", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("beats", BigInteger, nullable=False),
    Column("beat_us", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("note", Text),  # what hinders it: Redis away, a job it cannot load
    Column("started_us", BigInteger, nullable=False),
)

# One row: the worker that feeds and sweeps.
leader = Table(
    "leader",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("worker_id", String(40), nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("batch_id", String(40)),
    Column("document_id", String(40)),
    Column("message", Text, nullable=False),
    Index("event_by_batch", "batch_id", "id"),
)

# What the calls of a day came to, by batch, prompt and model: sums by name, and by step how many
# took how long. Written together with the outcomes, so that a report has to read no calls.
tally = Table(
    "tally",
    metadata,
    Column("day", String(10), primary_key=True),  # UTC, of the call's claim
    Column("batch_id", ForeignKey("batch.id"), primary_key=True),
    Column("prompt_id", String(40), primary_key=True),  # empty: nothing was called
    Column("model", String(200), primary_key=True),
    Column("counts_json", Text, nullable=False),
    Column("spans_json", Text, nullable=False),
    Index("tally_by_batch", "batch_id"),
)

# What a person is told of, each thing under its key; it may be raised anew after a while.
alert = Table(
    "alert",
    metadata,
    Column("key", String(300), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("scope", String(300), nullable=False),
    Column("batch_id", String(40)),
    Column("message", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("waits", Boolean, nullable=False),  # it was not told yet
)

# Evaluations by night: one a job and night in the whole fleet.
nightly = Table(
    "nightly",
    metadata,
    Column("job", String(100), primary_key=True),
    Column("night", String(10), primary_key=True),
    Column("worker_id", String(40), nullable=False),  # that does it, or was the last to try
    Column("begun_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
)
