"""How many tokens a call will count at its provider, learned from what earlier calls counted."""

from dataclasses import dataclass

# of the answer, before anything was learned: what an extraction usually gives back per token it
# reads, and the least
OUTPUT_SHARE = 0.25
OUTPUT_LEAST_TOKENS = 64
WARM_UP = 10  # calls that count alike; later ones count a tenth each
MEMORY = 0.1
# Calls ask for so many times their usual error to spare: about nine of ten count no more. Before
# anything was learned, a tenth.
SPARE = 1.5
SPARE_FIRST = 0.1


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


@dataclass(frozen=True, slots=True)
class Expected:
    """Tokens that a call will count, read and answered, and how many more it well may."""

    tokens: int
    spare: int


class TokenMeter:
    """Expects tokens per (job, model), better with every answer that reports its usage.

    Where the vocabulary is known, the count is corrected by what the provider counts besides (the
    wrapping of messages, the schema); else tokens per byte are learned. The answer is learned as
    tokens per token read. A call that counts more than expected may meet a refusal: it is to ask
    for some tokens to spare, which are given back once it has said what it counted.
    """

    def __init__(self) -> None:
        self._input_per_base: dict[tuple[str, str], _Ratio] = {}
        self._output_per_input: dict[tuple[str, str], _Ratio] = {}
        self._error: dict[tuple[str, str], _Ratio] = {}

    def expect(self, request: Request) -> Expected:
        """What a call will count."""
        kind = (request.job, request.model)
        tokens = self._input(request)
        tokens += min(request.output_max_tokens, self._output(request, tokens))
        error = self._error.get(kind)
        return Expected(tokens, round(tokens * (SPARE * error.value if error else SPARE_FIRST)))

    def learn(self, request: Request, *, input_tokens: int, output_tokens: int) -> None:
        """Note what a call counted."""
        if input_tokens <= 0:
            return
        kind = (request.job, request.model)
        if kind in self._input_per_base:  # a first guess says nothing of later ones
            expected = self.expect(request).tokens
            error = abs(input_tokens + output_tokens - expected) / expected
            self._error.setdefault(kind, _Ratio()).note(error)
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
