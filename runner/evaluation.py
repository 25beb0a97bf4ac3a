"""Plans an evaluation of a prompt version on the gold documents of its job.

They take the same road as any batch: each version and repeat is a batch of its own, found again by
what it asks, so that a repeated evaluation calls nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.batches import second_pin
from runner.errors import InputError, JobError
from runner.gold import GoldCase, gold_digest, read_gold
from runner.keys import batch_key
from runner.ledger.submission import BatchPlan
from runner.loaders import iter_sources
from runner.model import Purpose, SourceText
from runner.pinned import Pinned, PinnedJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person wants evaluated; None and () mean the default."""

    job: str
    prompt: str | None = None  # the live version
    against: str | None = None  # the live version, when that is another one
    models: tuple[str, ...] = ()
    against_models: tuple[str, ...] = ()
    repeats: int = 1
    simulate: bool = False
    budget_nusd: int | None = None  # of all its batches together
    fresh: str = ""  # not empty: ask anew, though the same was asked before
    night: str = ""  # the day, where nobody asked but the clock: it gives way to other work


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One version on all gold documents, once."""

    pinned: Pinned
    repeat: int
    plan: BatchPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What will be evaluated: the documents, the candidate's trials, and the baseline's."""

    asked: Asked
    cases: tuple[GoldCase, ...]
    gold: str  # digest
    candidate: tuple[Trial, ...]
    baseline: tuple[Trial, ...]  # none: there is nothing to compare with

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All of them, so that both versions are asked in turn."""
        pairs = zip(self.candidate, self.baseline, strict=True) if self.baseline else ()
        return tuple(one for pair in pairs for one in pair) or self.candidate


def plan_evaluation(asked: Asked, jobs: PinnedJobs) -> Evaluation:
    """Find versions and gold documents. Raises JobError when either does not exist."""
    loaded = jobs.job(asked.job)
    cases = read_gold(loaded.folder)
    gold = gold_digest(cases)
    live = jobs.live_version(asked.job)
    version = asked.prompt or live
    if version is None:
        raise JobError(
            f"job {asked.job} has no live prompt: name a version with --prompt, or lock one"
        )
    candidate = jobs.of_version(asked.job, version=version, models=asked.models)
    other = asked.against or live
    baseline = (
        jobs.of_version(asked.job, version=other, models=asked.against_models or asked.models)
        if other is not None
        else None
    )
    if baseline is not None and baseline.prompt_id == candidate.prompt_id:
        if asked.against is not None:
            raise JobError(
                f"{asked.job}/{version} and {other} ask exactly the same ({candidate.prompt_id}): "
                "there is nothing to compare"
            )
        baseline = None
    batches = asked.repeats * (2 if baseline else 1)
    share_nusd = None if asked.budget_nusd is None else max(1, asked.budget_nusd // batches)

    def trials(pinned: Pinned) -> tuple[Trial, ...]:
        return tuple(
            Trial(
                pinned=pinned,
                repeat=repeat,
                plan=_plan(asked, pinned, jobs, gold=gold, repeat=repeat, budget_nusd=share_nusd),
            )
            for repeat in range(asked.repeats)
        )

    return Evaluation(
        asked=asked,
        cases=cases,
        gold=gold,
        candidate=trials(candidate),
        baseline=trials(baseline) if baseline else (),
    )


def _plan(
    asked: Asked,
    pinned: Pinned,
    jobs: PinnedJobs,
    *,
    gold: str,
    repeat: int,
    budget_nusd: int | None,
) -> BatchPlan:
    second = second_pin(pinned, jobs)
    key = batch_key(
        pinned.prompt_id,
        gold,
        "" if second is None else second.prompt_id,
        str(asked.simulate),
        str(repeat),
        asked.fresh,
    )
    return BatchPlan(
        name=f"eval-{asked.job}-{pinned.prompt.version}-{key[1:9]}-{repeat + 1}",
        job=asked.job,
        prompt_version=pinned.prompt.version,
        prompt_id=pinned.prompt_id,
        models=pinned.models,
        second_read=second,
        purpose=Purpose.EVAL,
        weight=0 if asked.night else 1,
        simulated=asked.simulate,
        budget_nusd=budget_nusd,
    )


def gold_sources(cases: Sequence[GoldCase]) -> list[SourceText]:
    """The documents as a batch takes them, each named by its case.

    Raises InputError for a file that is a table of rows.
    """
    files = _read_files([case.path for case in cases if case.path is not None])
    return [
        SourceText(case.id, case.text.encode(), case.text)
        if case.text is not None
        else files[str(case.path)]._replace(source=case.id)
        for case in cases
    ]


def _read_files(paths: Sequence[Path]) -> dict[str, SourceText]:
    found: dict[str, SourceText] = {}
    for read in iter_sources([str(path) for path in paths]) if paths else ():
        found[read.source] = read
    for path in paths:
        if str(path) not in found:
            raise InputError(
                f"{path} is not one document: a gold line's input is a file of one, and rows of a "
                "table are lines with `text`"
            )
    return found
