"""Begin the ledger: the tables of the main road, and this ledger's own id."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of the first release."""
    op.create_table(
        "batch",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("job", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("weight", sa.Integer(), server_default="1", nullable=False),
        sa.Column("prompt_version", sa.String(length=40), nullable=False),
        sa.Column("prompt_id", sa.String(length=40), nullable=False),
        sa.Column("models_json", sa.Text(), nullable=False),
        sa.Column("options_json", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("submitted", sa.Boolean(), nullable=False),
        sa.Column("rejected", sa.Integer(), server_default="0", nullable=False),
        sa.Column("alike_fault", sa.String(length=40), nullable=True),
        sa.Column("alike_documents_json", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "blob",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("zstd", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "budget",
        sa.Column("scope", sa.String(length=80), nullable=False),
        sa.Column("limit_nusd", sa.BigInteger(), nullable=True),
        sa.Column("settled_nusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ambiguous_nusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_nusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("batch_id", sa.String(length=40), nullable=True),
        sa.Column("document_id", sa.String(length=40), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("event_by_batch", "event", ["batch_id", "id"], unique=False)

    op.create_table(
        "leader",
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("worker_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("role"),
    )
    op.create_table(
        "meta",
        sa.Column("ledger_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id"),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_started_s", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("beat_us", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
    )
    op.create_table(
        "document",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("batch_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("text_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("prompt_version", sa.String(length=40), nullable=True),
        sa.Column("prompt_id", sa.String(length=40), nullable=True),
        sa.Column("models_json", sa.Text(), nullable=True),
        sa.Column("turn", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tried", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("ladder_step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output_doubled", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deferrals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deferred_since_us", sa.BigInteger(), nullable=True),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reasks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("check_reasks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ambiguous", sa.Integer(), server_default="0", nullable=False),
        sa.Column("internal_errors", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reask_json", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.String(length=40), nullable=True),
        sa.Column("worker_id", sa.String(length=40), nullable=True),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_known", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("ambiguous_nusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("signature", sa.String(length=160), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("queued_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batch.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("document_by_batch", "document", ["batch_id", "state"], unique=False)
    op.create_index(
        "document_by_state",
        "document",
        ["state", "batch_id", "tried", "due_us", "position"],
        unique=False,
    )

    op.create_table(
        "attempt",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("document_id", sa.String(length=40), nullable=False),
        sa.Column("batch_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("worker_id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("prompt_id", sa.String(length=40), nullable=False),
        sa.Column("request_head_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("request_tail_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("answer_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers_json", sa.Text(), nullable=True),
        sa.Column("fault", sa.String(length=40), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("hold_nusd", sa.BigInteger(), nullable=True),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("ambiguous_nusd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("service_tier", sa.String(length=40), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("queue_wait_us", sa.BigInteger(), nullable=False),
        sa.Column("limiter_wait_us", sa.BigInteger(), nullable=False),
        sa.Column("response_us", sa.BigInteger(), nullable=True),
        sa.Column("parse_us", sa.BigInteger(), nullable=True),
        sa.Column("total_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batch.id"],
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("attempt_by_batch", "attempt", ["batch_id", "state"], unique=False)
    op.create_index("attempt_by_document", "attempt", ["document_id", "number"], unique=False)

    op.create_table(
        "record",
        sa.Column("document_id", sa.String(length=40), nullable=False),
        sa.Column("batch_id", sa.String(length=40), nullable=False),
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("data_json", sa.Text(), nullable=True),
        sa.Column("flags_json", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("prompt_id", sa.String(length=40), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batch.id"],
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
        ),
        sa.PrimaryKeyConstraint("document_id"),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.String(length=40), nullable=False),
        sa.Column("document_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batch.id"],
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch_id", "name", "document_id"),
    )
    op.create_index("source_by_document", "source", ["document_id"], unique=False)
    meta = sa.table("meta", sa.column("ledger_id", sa.String()))
    op.bulk_insert(meta, [{"ledger_id": secrets.token_hex(6)}])
