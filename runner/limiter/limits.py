"""What a model's limits amount to in one window of its provider."""

from runner.config import ModelSettings
from runner.errors import RunnerError

SMALL_CALL_TOKENS = 250  # fewer than the instructions and the schema of an extraction
BYTES_PER_TOKEN_MOST = 6  # of English prose about 4.5, of other texts and of figures fewer


class OverLimitError(RunnerError):
    """A document needs more tokens than its model's limit ever lets through in a window."""


def of_window(per_minute: int | None, *, window_s: float) -> int | None:
    """A limit a minute as one of a window; at least 1."""
    return None if per_minute is None else max(1, int(per_minute * window_s / 60))


def is_adaptive(limits: ModelSettings) -> bool:
    """Whether nobody has said how much the model's server bears, so that it has to be found out."""
    return limits.rpm is limits.tpm is limits.max_concurrency is None


def with_spare(limits: ModelSettings, *, tokens: int, spare: int) -> int:
    """`tokens` and as much of `spare` as a window has room for."""
    most = of_window(limits.tpm, window_s=limits.window_s)
    return tokens + spare if most is None else max(tokens, min(tokens + spare, most))


def refuse_oversize(model: str, limits: ModelSettings, *, tokens: int) -> None:
    """Raise OverLimitError for a call that no window ever has room for."""
    most = of_window(limits.tpm, window_s=limits.window_s)
    if most is not None and tokens > most:
        window = "a minute" if limits.window_s == 60 else f"in {limits.window_s:g} s"  # noqa: PLR2004 - the length of a minute
        raise OverLimitError(
            f"model {model}: the call needs about {tokens} tokens, but at most {most} {window} "
            "may start; shorten the document, lower max_output_tokens, or raise tpm in "
            "runner.toml if the provider allows more"
        )


def time_to_start_s(limits: ModelSettings, *, documents: int, text_bytes: int) -> float:
    """In no less time can calls for so many documents start under these limits; 0 without any.

    Concurrency counts as if every call took a second. The tokens of a text are put low, so that no
    time is lost by who keeps calls ready for so long.
    """
    tokens = documents * SMALL_CALL_TOKENS + text_bytes / BYTES_PER_TOKEN_MOST
    needs_s = (
        0.0 if limits.rpm is None else documents * 60 / limits.rpm,
        0.0 if limits.tpm is None else tokens * 60 / limits.tpm,
        0.0 if limits.max_concurrency is None else documents / limits.max_concurrency,
    )
    return max(needs_s)
