"""Prepares a document's next call: exact bytes, expected tokens, and the money to set aside."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic_core import to_json

from runner.budget import cost_nusd, hold_nusd
from runner.config import Settings
from runner.meter import first_output_tokens
from runner.model import FieldError, History, Usage
from runner.pinned import Pinned
from runner.prices import PriceList
from runner.prompts import render
from runner.request import build_body
from runner.tokens import bound, estimate, knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A call that is ready to be waited for, held for and sent."""

    model: str
    body: bytes
    expected_tokens: int  # input and output, for the limiter
    input_tokens: int
    input_exact: bool  # the model's vocabulary is known
    max_output_tokens: int
    hold_nusd: int | None  # none: price unknown
    expected_nusd: int | None  # at the expected tokens; none: price unknown
    deadline_s: float


def prepare(
    pinned: Pinned,
    *,
    text: str,
    history: History,
    reask: Sequence[FieldError],
    settings: Settings,
    prices: PriceList,
    streams: bool = False,
) -> Prepared:
    """Build the next call of a document from its text and history.

    `streams`: its answer is to come as it grows. Raises JobError when the prompt cannot be
    rendered.
    """
    model = pinned.models[min(history.ladder_step, len(pinned.models) - 1)]
    served = settings.model(model)
    api_model = served.api_model or model
    output_max = min(
        _max_output_tokens(pinned, doubled=history.output_doubled),
        served.max_output_tokens or sys.maxsize,
    )
    rendered = render(pinned.prompt, document=text)
    body = build_body(
        api_model=api_model,
        rendered=rendered,
        schema=pinned.schema,
        schema_name=pinned.name,
        structured_output=served.structured_output,
        parameters=pinned.prompt.parameters.model_copy(
            update=dict.fromkeys(served.omit_parameters)
        ),
        max_output_tokens=output_max,
        reask=reask,
        streams=streams,
    )
    input_tokens = estimate(rendered.user, model=api_model) + _constant_tokens(
        rendered.system, to_json(pinned.schema), model=api_model
    )
    output_tokens = min(output_max, first_output_tokens(input_tokens))
    price = prices.price(model)
    return Prepared(
        model=model,
        body=body,
        expected_tokens=input_tokens + output_tokens,
        input_tokens=input_tokens,
        input_exact=knows(api_model),
        max_output_tokens=output_max,
        hold_nusd=None
        if price is None
        else hold_nusd(price, input_tokens_bound=bound(len(body)), max_output_tokens=output_max),
        expected_nusd=None
        if price is None
        else cost_nusd(price, Usage(input_tokens=input_tokens, output_tokens=output_tokens)),
        deadline_s=served.timeout_s,
    )


@lru_cache(maxsize=64)
def _constant_tokens(system: str, schema_json: bytes, *, model: str) -> int:
    """Tokens of what is the same for every document of a prompt version; counted once."""
    return estimate(system, model=model) + estimate(schema_json.decode(), model=model)


def _max_output_tokens(pinned: Pinned, *, doubled: bool) -> int:
    once = pinned.prompt.parameters.max_output_tokens or pinned.job.max_output_tokens
    return 2 * once if doubled else once
