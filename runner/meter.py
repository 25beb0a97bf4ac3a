"""How many tokens a call will count at its provider, learned from what earlier calls counted."""

from dataclasses import dataclass

# of the answer, before anything was learned: what an extraction usually gives back per token it
# reads, and the least
OUTPUT_SHARE = 0.25
OUTPUT_LEAST_TOKENS = 64
WARM_UP = 10  # calls that count alike; later ones count a tenth each
MEMORY = 0.1


@dataclass(slots=True)
class _Ratio:
    """A running mean of ratios: plain at first, exponential later."""

    value: float = 0.0
    seen: int = 0

    def note(self, ratio: float) -> None:
        self.seen += 1
        self.value += (ratio - self.value) * max(MEMORY, 1 / min(self.seen, WARM_UP))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is known of a request before it is sent.

    `input_tokens` is a count when `exact`, else an estimate.
    """

    job: str
    model: str
    body_bytes: int
    input_tokens: int
    exact: bool
    output_max_tokens: int

    @property
    def base(self) -> int:
        """What learned input is relative to: exact tokens, or bytes where none are known."""
        return max(1, self.input_tokens if self.exact else self.body_bytes)


class TokenMeter:
    """Expects tokens per (job, model), better with every answer that reports its usage.

    Where the vocabulary is known, the count is corrected by what the provider counts besides (the
    wrapping of messages, the schema); else tokens per byte are learned. The answer is learned as
    tokens per token read.
    """

    def __init__(self) -> None:
        self._input_per_base: dict[tuple[str, str], _Ratio] = {}
        self._output_per_input: dict[tuple[str, str], _Ratio] = {}

    def expect(self, request: Request) -> int:
        """Tokens that a call will count, read and answered."""
        input_tokens = self._input(request)
        return input_tokens + min(request.output_max_tokens, self._output(request, input_tokens))

    def learn(self, request: Request, *, input_tokens: int, output_tokens: int) -> None:
        """Note what a call counted."""
        if input_tokens <= 0:
            return
        kind = (request.job, request.model)
        self._input_per_base.setdefault(kind, _Ratio()).note(input_tokens / request.base)
        self._output_per_input.setdefault(kind, _Ratio()).note(output_tokens / input_tokens)

    def _input(self, request: Request) -> int:
        learned = self._input_per_base.get((request.job, request.model))
        if learned is None:
            return request.input_tokens
        return max(1, round(learned.value * request.base))

    def _output(self, request: Request, input_tokens: int) -> int:
        learned = self._output_per_input.get((request.job, request.model))
        if learned is None:
            return first_output_tokens(input_tokens)
        return round(learned.value * input_tokens)


def first_output_tokens(input_tokens: int) -> int:
    """What an answer is expected to take before any was seen."""
    return OUTPUT_LEAST_TOKENS + round(input_tokens * OUTPUT_SHARE)
