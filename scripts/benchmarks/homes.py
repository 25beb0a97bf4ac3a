"""A home for one run of a benchmark: environment, submission, request bodies, proof of the end."""

import os
from collections.abc import Sequence
from pathlib import Path

from runner.batches import Request, plan, submit
from runner.config import Settings
from runner.ledger import Ledger
from runner.ledger.audit import audit
from runner.ledger.engine import sqlite_url
from runner.ledger.standing import state_counts
from runner.loaders import from_iterable
from runner.model import DocumentState, History
from runner.pinned import PinnedJobs
from runner.prepare import Prepared, prepare
from runner.prices import PriceList

MODEL = "gpt-5-mini"
JOB = "invoice"


def environment(home: Path, base_url: str, *, config: Path | None = None) -> dict[str, str]:
    """A child's environment: its own home, the test provider, no settings from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    return kept | {
        "RUNNER_HOME": str(home),
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "test",
        "RUNNER_CONFIG": str(config or os.devnull),
    }


def submit_all(documents: Sequence[tuple[str, str]], env: dict[str, str]) -> Ledger:
    """Submit one batch in a new home; its ledger, open."""
    ledger = Ledger(sqlite_url(Settings.load(env=env).ledger_path))
    planned, _ = plan(Request(job=JOB, batch="bench"), PinnedJobs(()))
    submit(ledger, planned, from_iterable(documents))
    return ledger


def check_all_done(ledger: Ledger, *, count: int) -> None:
    """Raises SystemExit when a document is missing or the audit does not balance: a void run."""
    with ledger.snapshot() as connection:
        counts = state_counts(connection, None)
        problems = audit(connection).problems
    if counts[DocumentState.DONE] != count or problems:
        ends = {state.value: number for state, number in counts.items() if number}
        raise SystemExit(f"void: of {count} documents {ends} {problems}")


def prepared(documents: Sequence[tuple[str, str]]) -> list[Prepared]:
    """The first call of each document as the runner would make it."""
    settings = Settings.load(env={"RUNNER_CONFIG": os.devnull})
    pinned = PinnedJobs(()).live(JOB, version=None, models=())
    prices = PriceList(settings)
    return [
        prepare(pinned, text=text, history=History(), reask=(), settings=settings, prices=prices)
        for _, text in documents
    ]
