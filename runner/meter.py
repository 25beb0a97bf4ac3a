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


class TokenMeter:
    """Expects tokens per (job, model): exact input where the vocabulary is known, else learned.

    Where it is not known, input is tokens per byte of the request, learned from the usage that
    answers report; the answer is tokens per token read, learned likewise.
    """

    def __init__(self) -> None:
        self._input_per_byte: dict[tuple[str, str], _Ratio] = {}
        self._output_per_input: dict[tuple[str, str], _Ratio] = {}

    def expect(
        self,
        kind: tuple[str, str],
        *,
        request_bytes: int,
        input_tokens: int,
        exact: bool,
        output_max_tokens: int,
    ) -> int:
        """Tokens of a call, both ways; `input_tokens` is an estimate unless it is `exact`."""
        per_byte = self._input_per_byte.get(kind)
        if not exact and per_byte is not None:
            input_tokens = max(1, round(per_byte.value * request_bytes))
        return input_tokens + min(output_max_tokens, self._output(kind, input_tokens))

    def learn(
        self, kind: tuple[str, str], *, request_bytes: int, input_tokens: int, output_tokens: int
    ) -> None:
        """Note what a call counted."""
        if request_bytes <= 0 or input_tokens <= 0:
            return
        self._input_per_byte.setdefault(kind, _Ratio()).note(input_tokens / request_bytes)
        self._output_per_input.setdefault(kind, _Ratio()).note(output_tokens / input_tokens)

    def _output(self, kind: tuple[str, str], input_tokens: int) -> int:
        learned = self._output_per_input.get(kind)
        if learned is None:
            return first_output_tokens(input_tokens)
        return round(learned.value * input_tokens)


def first_output_tokens(input_tokens: int) -> int:
    """What an answer is expected to take before any was seen."""
    return OUTPUT_LEAST_TOKENS + round(input_tokens * OUTPUT_SHARE)
