"""What `run` and `submit` share: their options, the plan they make, the reading of inputs."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import BinaryIO

import click

from runner import batches
from runner.batches import Request, Submitted
from runner.cli.commands import together
from runner.cli.money import Usd
from runner.cli.session import Session
from runner.cli.terminal import talk
from runner.cli.wording import several
from runner.ledger import Ledger
from runner.ledger.submission import Batch, BatchPlan, find_batch
from runner.loaders import iter_sources
from runner.loaders.limits import ROWS_READ_BYTES
from runner.loaders.sources import STDIN
from runner.model import SourceText
from runner.pinned import Pinned, PinnedJobs
from runner.pricing import refuse_unknown_prices

NAMED_MAX = 3


# what is to be submitted: their values make an `Asked`
submission_options = together(
    click.argument("job"),
    click.argument("inputs", nargs=-1, required=True, metavar="INPUT..."),
    click.option(
        "--batch",
        "batch_name",
        help="Name of the batch; derived from job, inputs and options by default.",
    ),
    click.option(
        "--budget-usd",
        type=Usd(),
        help="The most that the batch may spend; it pauses before it spends more.",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Take at most this many inputs."),
    click.option(
        "--model",
        "models",
        multiple=True,
        help="Model to ask; repeated, the ladder. The job's own by default.",
    ),
    click.option("--prompt", help="Locked prompt version to ask with; the live one by default."),
    click.option("--text-field", help="Field or column of a row that holds the text."),
    click.option("--id-field", help="Field or column of a row that names it."),
    click.option(
        "--simulate",
        is_flag=True,
        help="Ask the simulated provider on this machine: free, no key, made-up answers.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the person typed."""

    job: str
    inputs: tuple[str, ...]
    batch_name: str | None
    budget_usd: Decimal | None
    limit: int | None
    models: tuple[str, ...]
    prompt: str | None
    text_field: str | None
    id_field: str | None
    simulate: bool

    @property
    def request(self) -> Request:
        """The same for the ledger."""
        return Request(
            job=self.job,
            inputs=self.inputs,
            batch=self.batch_name,
            prompt=self.prompt,
            models=self.models,
            text_field=self.text_field,
            id_field=self.id_field,
            simulate=self.simulate,
            budget_usd=self.budget_usd,
        )


@dataclass(slots=True)
class Skipped:
    """Counts the entries of folders that are not read, and names the first few."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def __call__(self, path: str, why: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.named) < NAMED_MAX:
            self.named.append(f"  {path}: {why}")

    def tell(self) -> None:
        """Say what was passed over, if anything was."""
        if self.count:
            unnamed = self.count - len(self.named)
            more = f"\n  and {unnamed:,} more" if unnamed else ""
            talk(
                f"passed over {several(self.count, 'entry', 'entries')}:\n"
                + "\n".join(self.named)
                + more
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A submission that can begin: what the ledger will pin, and where the texts come from."""

    asked: Asked
    plan: BatchPlan
    pinned: Pinned
    known: Batch | None  # the batch, when it was begun before
    texts: Iterator[SourceText]
    skipped: Skipped


def make_plan(session: Session, asked: Asked) -> Planned:
    """Find job, prompt, batch and inputs; nothing is written.

    Raises UsageError (JobError, InputError, ConfigError) when something asked for does not exist,
    or when a limit of money cannot be kept because a model's price is unknown.
    """
    settings = session.settings
    plan, pinned = batches.plan(asked.request, PinnedJobs(settings.job_folders))
    for limit in _limits(session, asked, pinned):
        refuse_unknown_prices(session.settings, plan.models, limit=limit)
    known = _known_batch(session, plan.name)
    options = known.options if known is not None else {}
    skipped = Skipped()
    return Planned(
        asked=asked,
        plan=plan,
        pinned=pinned,
        known=known,
        skipped=skipped,
        texts=iter_sources(
            asked.inputs,
            text_field=asked.text_field or options.get("text_field") or None,
            id_field=asked.id_field or options.get("id_field") or None,
            stdin=_own_stdin() if STDIN in asked.inputs else None,
            limit=asked.limit,
            on_skipped=skipped,
        ),
    )


def _own_stdin() -> BinaryIO:
    """Standard input through a reader of its own.

    A thread that waits in `sys.stdin` for ever would abort the interpreter at its end, which closes
    that object and finds it locked.
    """
    return open(sys.stdin.fileno(), "rb", ROWS_READ_BYTES, closefd=False)


def _limits(session: Session, asked: Asked, pinned: Pinned) -> Iterator[str]:
    """The limits of money that hold for what was asked for, as a person set them."""
    if asked.budget_usd is not None:
        yield "--budget-usd"
    if session.settings.budget.day_usd is not None and not asked.simulate:
        yield "day_usd under [budget] in runner.toml"
    if pinned.job.ceiling_usd is not None:
        yield f"ceiling_usd of job {pinned.name}"
    elif session.settings.budget.document_usd is not None:
        yield "document_usd under [budget] in runner.toml"
    elif pinned.frozen_ceiling_usd is not None:
        yield f"ceiling_usd of {pinned.prompt.version} in prompts.lock of job {pinned.name}"


def tell_canary(batch: Batch) -> None:
    """Say that a share of a batch's documents is asked with another prompt, if so."""
    if batch.canary is not None:
        talk(
            f"canary: {batch.canary.percent} % of the documents are asked with prompt "
            f"{batch.canary.version}, the others with {batch.prompt_version}"
        )


def _known_batch(session: Session, name: str) -> Batch | None:
    if not session.has_ledger:
        return None
    with session.ledger() as ledger, ledger.snapshot() as connection:
        return find_batch(connection, name)


class _StoppedError(Exception):
    """The person wants no more inputs read."""


class Submission(threading.Thread):
    """Reads the inputs into the ledger beside the main thread, which stays free for signals.

    A daemon: a read of standard input that never returns must not keep the process alive. Each
    chunk is one transaction, so that ending anywhere loses only what was not acknowledged.
    """

    def __init__(self, ledger: Ledger, planned: Planned) -> None:
        super().__init__(name="submission", daemon=True)
        self._ledger = ledger
        self._planned = planned
        self._stop = threading.Event()
        self.error: BaseException | None = None
        self.result: Submitted | None = None
        self.accepted = 0

    def run(self) -> None:
        """Read until the inputs end or `stop` is called."""
        try:
            result = batches.submit(
                self._ledger,
                self._planned.plan,
                self._texts(),
                rejected=lambda: self._planned.skipped.count,
                on_progress=self._note,
            )
        except _StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.error = error
        else:
            self.result = result

    def _texts(self) -> Iterator[SourceText]:
        for text in self._planned.texts:
            if self._stop.is_set():
                raise _StoppedError  # an end would say that every input has been read
            yield text

    def _note(self, so_far: Submitted) -> None:
        self.accepted = so_far.accepted

    def stop(self) -> None:
        """Read no more inputs."""
        self._stop.set()

    @property
    def complete(self) -> bool:
        """Whether every input is in the ledger. Raises what reading or writing raised."""
        if self.error is not None:
            raise self.error
        return self.result is not None
