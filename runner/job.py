"""What a job is: schema, models, checks and limits, as `jobs/<name>/__init__.py` declares them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from runner.errors import JobError
from runner.model import FieldError, Policy

# A check reads the validated extraction and the document's text and yields what is wrong.
Check = Callable[[Any, str], Iterable[FieldError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondRead:
    """A second, differently shaped read of some good answers; what differs waits for a person.

    `prompt` is another version of the job's prompt, `models` another ladder; at least one of them
    must be given. Read twice are `percent` of the documents, chosen by their content, and with
    `doubtful` every answer that was repaired, asked for again for its ground or checks, given by a
    later model of the ladder, or has evidence that is only nearly in the document.
    Raises JobError when it would be the same read again, or of no document.
    """

    prompt: str | None = None
    models: tuple[str, ...] = ()
    percent: float = 0.0
    doubtful: bool = True

    def __post_init__(self) -> None:
        """Refuse a second read that could tell nothing."""
        if self.prompt is None and not self.models:
            raise JobError("a second read needs another `prompt` or other `models` than the first")
        if not 0 <= self.percent <= 100:  # noqa: PLR2004 - per cent
            raise JobError(f"percent of a second read must be 0 to 100, not {self.percent}")
        if not self.percent and not self.doubtful:
            raise JobError("a second read of 0 percent and of no doubtful answer reads nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A kind of extraction.

    `models` is the ladder: the first is asked first, the next when the one before gives up.
    `checks` are functions of (extraction, document text) that yield a `FieldError` for each thing
    that is wrong across fields; pydantic validators of the schema run before them.
    Raises JobError when a limit is out of bounds.
    """

    schema: type[BaseModel]
    models: tuple[str, ...]
    description: str
    checks: tuple[Check, ...] = ()
    max_attempts: int = 5
    max_reasks: int = 2
    max_output_tokens: int = 2_048
    on_ambiguous: Literal["retry", "review"] = "retry"
    ceiling_usd: float | None = None  # of a document; none: the general one of runner.toml
    audit_percent: float | None = None  # of done documents, for a person; none: the general share
    second_read: SecondRead | None = None

    def __post_init__(self) -> None:
        """Refuse limits that could never finish a document."""
        if not self.models:
            raise JobError('a job needs at least one model: set `models=("...",)`')
        for name in ("max_attempts", "max_output_tokens"):
            if getattr(self, name) < 1:
                raise JobError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_reasks < 0:
            raise JobError(f"max_reasks must be at least 0, not {self.max_reasks}")
        if self.ceiling_usd is not None and not 0 < self.ceiling_usd < float("inf"):
            raise JobError(f"ceiling_usd must be an amount above 0, not {self.ceiling_usd}")
        if self.audit_percent is not None and not 0 <= self.audit_percent <= 100:  # noqa: PLR2004
            raise JobError(f"audit_percent must be from 0 to 100, not {self.audit_percent}")

    def policy(self, *, ladder_length: int) -> Policy:
        """The limits that `decide` applies to this job's documents."""
        return Policy(
            ladder_length=ladder_length,
            max_attempts=self.max_attempts,
            max_reasks=self.max_reasks,
            review_ambiguous=self.on_ambiguous == "review",
        )
