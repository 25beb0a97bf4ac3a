"""What `calls show` prints with `--json`."""

from collections.abc import Mapping
from typing import Any, Self

from runner.cli.shapes.calls import CallShape, call_fields
from runner.ledger.calls import AttemptRow, CallBodies
from runner.outputs import Output


class CallDetailShape(CallShape):
    """`calls show`: a call with the exact text of its request and answer; null once removed."""

    output: Any  # the data in the answer, as recorded or as the model wrote it
    output_problem: str | None  # why it gave no record
    request: str | None
    answer: str | None
    headers: Mapping[str, str]

    @classmethod
    def of_call(cls, row: AttemptRow, bodies: CallBodies, output: Output) -> Self:
        """A call with its bodies and what was read from them."""
        return cls(
            **call_fields(row),
            output=output.data,
            output_problem=output.problem,
            request=_text(bodies.request),
            answer=_text(bodies.answer),
            headers=bodies.headers,
        )


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode("utf-8", "backslashreplace")
