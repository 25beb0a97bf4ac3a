"""Quality: evidence of records, canaries and second reads, reviews, and evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add them."""
    op.add_column(
        "batch", sa.Column("purpose", sa.String(16), nullable=False, server_default="run")
    )
    op.add_column("batch", sa.Column("canary_json", sa.Text))
    op.add_column("batch", sa.Column("second_read_json", sa.Text))
    op.add_column("document", sa.Column("first_read_json", sa.Text))
    op.add_column("record", sa.Column("evidence_json", sa.Text))
    op.add_column(
        "record", sa.Column("sampled", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_index(
        "record_of_sample",
        "record",
        ["batch_id"],
        sqlite_where=sa.text("sampled IS 1"),
        postgresql_where=sa.text("sampled IS true"),
    )
    op.create_table(
        "review",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
        ),
        sa.Column("document_id", sa.String(40), sa.ForeignKey("document.id"), nullable=False),
        sa.Column("batch_id", sa.String(40), sa.ForeignKey("batch.id"), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("stratum", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("was_wrong", sa.Boolean, nullable=False),
        sa.Column("before_json", sa.Text),
        sa.Column("after_json", sa.Text),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("prompt_id", sa.String(40), nullable=False),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("review_by_batch", "review", ["batch_id", "id"])
    op.create_index("review_by_document", "review", ["document_id", "id"])
    op.create_table(
        "eval_run",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("job", sa.String(100), nullable=False),
        sa.Column("prompt_version", sa.String(40), nullable=False),
        sa.Column("prompt_id", sa.String(40), nullable=False),
        sa.Column("models_json", sa.Text, nullable=False),
        sa.Column("gold_digest", sa.String(80), nullable=False),
        sa.Column("against_prompt_id", sa.String(40)),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("summary_json", sa.Text, nullable=False),
        sa.Column("dearest_document_nusd", sa.BigInteger),
        sa.Column("dearest_call_nusd", sa.BigInteger),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_index("eval_run_by_job", "eval_run", ["job", "created_us"])
    op.create_table(
        "eval_result",
        sa.Column("run_id", sa.String(40), sa.ForeignKey("eval_run.id"), primary_key=True),
        sa.Column("prompt_id", sa.String(40), primary_key=True),
        sa.Column("case_id", sa.String(200), primary_key=True),
        sa.Column("repeat", sa.Integer, primary_key=True),
        sa.Column("document_id", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcomes_json", sa.Text, nullable=False),
        sa.Column("cost_nusd", sa.BigInteger),
        sa.Column("latency_us", sa.BigInteger),
    )
