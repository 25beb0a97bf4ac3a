"""What `runner prompt` prints with `--json`."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, Self

from runner.cli.shapes.base import Shape
from runner.ledger.deployments import Produced
from runner.promptlock import Deployment, Evidence


class PromptRowShape(Shape):
    """One version of a job's prompt."""

    job: str
    version: str
    live: bool
    canary_percent: int | None  # of the documents that are asked with it beside the live one
    state: Literal["locked", "unlocked", "changed", "missing"]
    prompt_id: str | None  # of a locked version
    locked_at: str | None
    evaluated: bool  # there is evidence in the lock


class PromptListShape(Shape):
    """`prompt list`."""

    prompts: tuple[PromptRowShape, ...]


class PromptShape(PromptRowShape):
    """`prompt show`: a version with its two templates and its parameters."""

    parameters: Mapping[str, Any]
    system: str
    user: str


class NewPromptShape(Shape):
    """`prompt new`."""

    job: str
    version: str
    copied_from: str
    file: str


class PromptDiffShape(Shape):
    """`prompt diff`: how two versions differ."""

    job: str
    before: str
    after: str
    before_id: str
    after_id: str
    changed: tuple[str, ...]  # parts of the prompt id: system, user, parameters, models, ...
    unknown: tuple[str, ...]  # parts that an old lock did not keep
    diff: str  # of the two files, unified


class EvidenceShape(Shape):
    """The evaluation that a version was promoted on."""

    run: str
    verdict: str
    gold_digest: str
    evaluated_on: str
    prompt_id: str
    models: tuple[str, ...]

    @classmethod
    def of(cls, found: Evidence | None) -> Self | None:
        """The evidence as the lock has it."""
        if found is None:
            return None
        evaluated_on = found.evaluated_on.isoformat()
        return cls(**{**found.model_dump(), "evaluated_on": evaluated_on})


class PromotedShape(Shape):
    """`prompt promote`."""

    job: str
    version: str
    prompt_id: str
    live: str  # the live version now
    canary_percent: int | None  # of a canary; null: the version is live
    instead_of: str | None  # the version that was live before; null when nothing changed there
    evaluation: EvidenceShape
    ceiling_usd: Decimal | None  # of a document, frozen with the version


class ProducedShape(Shape):
    """What one batch has of the records of a version that was rolled back."""

    batch: str
    batch_id: str
    done: int
    review: int
    command: str  # that writes them

    @classmethod
    def of(cls, found: Produced, *, command: str) -> Self:
        """As the ledger counts them."""
        return cls(
            batch=found.batch_name,
            batch_id=found.batch_id,
            done=found.done,
            review=found.review,
            command=command,
        )


class RolledBackShape(Shape):
    """`prompt rollback`: what is live, what was pinned anew, what the bad version has left."""

    job: str
    withdrawn: str
    live: str
    was_canary: bool
    in_step: bool  # the live version asks exactly what was locked
    batches: tuple[str, ...]  # that were pinned anew
    waiting: int  # documents, asked with the live version now
    running: int  # calls in flight: they end as what they are
    dead: int  # that a retry would ask with the live version
    review: int
    withdrawn_ids: tuple[str, ...]  # prompt ids by which its records are known
    produced: tuple[ProducedShape, ...]


class DeploymentShape(Shape):
    """One change of what is live or a canary."""

    at: str
    what: str
    version: str
    percent: int | None
    instead_of: str | None

    @classmethod
    def of(cls, found: Deployment) -> Self:
        """A change as the lock has it."""
        at = found.at.isoformat().replace("+00:00", "Z")
        return cls(**{**found.model_dump(), "at": at})


class VersionShareShape(Shape):
    """The documents of a batch that one prompt version was, or will be, asked for."""

    version: str | None  # null: none of the versions that there are now
    prompt_id: str
    documents: int
    done: int
    review: int
    dead: int
    percent: float  # of the batch's documents


class BatchVersionsShape(Shape):
    """A batch by prompt version."""

    batch: str
    batch_id: str
    versions: tuple[VersionShareShape, ...]


class DeployedShape(Shape):
    """A version that is live or a canary, and why it may be."""

    version: str
    prompt_id: str
    percent: int  # of the documents of a new batch
    ceiling_usd: Decimal | None
    evaluation: EvidenceShape | None  # null: nothing was evaluated, as of a first version


class PromptStatusShape(Shape):
    """`prompt status`."""

    job: str
    live: DeployedShape
    canary: DeployedShape | None
    previous: str | None  # what a rollback of the live version would put back
    in_step: bool
    problems: tuple[str, ...]  # what does not match the lock
    deployments: tuple[DeploymentShape, ...]  # the newest last
    batches: tuple[BatchVersionsShape, ...]  # the newest first
