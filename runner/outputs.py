"""What a stored answer said: the model's words out of its envelope, and the data in them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from runner.completion import read_answer
from runner.model import RawAnswer

_FENCE = "```"


@dataclass(frozen=True, slots=True)
class Output:
    """The data of a call's answer: JSON as the record has it or as the model wrote it.

    Words that are no JSON stand as a text; None is what nothing is left of. `problem` says why it
    gave no record, if so.
    """

    data: Any
    problem: str | None


def words_of(*, status: int | None, body: bytes, headers: Mapping[str, str]) -> str | None:
    """The model's words, a refusal's too; None where the answer is no completion."""
    completion = read_answer(RawAnswer(status or 0, body, headers)).completion
    return None if completion is None else completion.text or completion.refusal or ""


def data_in(words: str) -> Any:
    """The one JSON value that the words are, between fences or not; None when they are none."""
    fenced = words.split(_FENCE)
    inner = fenced[1].removeprefix("json") if len(fenced) == 3 else words  # noqa: PLR2004 - before, in, after
    try:
        return from_json(inner)
    except ValueError:
        return None


def output_of(
    *,
    words: str | None,
    record_json: str | None,
    fault: str | None,
    message: str | None,
) -> Output:
    """What a call gave."""
    problem = None if fault is None else f"{fault}: {message}" if message else fault
    if record_json is not None:
        return Output(json.loads(record_json), problem)
    data = None if words is None else data_in(words)
    return Output(words if data is None else data, problem)


def leaves(value: Any) -> Iterator[str]:
    """Every value in JSON data as text, in its order; names of fields are left out."""
    match value:
        case dict():
            for part in value.values():
                yield from leaves(part)
        case list():
            for part in value:
                yield from leaves(part)
        case None:
            return
        case _:
            yield str(value)
