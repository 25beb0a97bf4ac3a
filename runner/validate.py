"""Turns a model's text into valid data of the job's schema, or says what is wrong with it."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.fields import FieldSpec, spec_of, without_quotes
from runner.grounding import Ground, ground
from runner.job import Check
from runner.model import Evidence, Failure, Fault, FieldError

TEXT_MAX_CHARS = 500_000
ERRORS_MAX = 20
PATH_MAX_CHARS = 200
MESSAGE_MAX_CHARS = 300
INPUT_MAX_CHARS = 80
INTEGER_MAX = 2**63 - 1  # what SQLite, PostgreSQL, Parquet and most readers of JSON can hold

_INTEGER_MAX_CHARS = 20
# Text that pydantic would take for a number that is none: only then is the data searched.
_NOT_FINITE_TEXT = re.compile(r'"\s*[+-]?(?:nan|inf|[\d._]+e\+?\d\d\d)', re.IGNORECASE)
# A string (an unterminated one swallows the rest, which keeps this linear), or a comma before a
# closing bracket.
_STRING_OR_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Validated:
    """Data that is valid in every respect: canonical JSON of the schema, and how it was come by."""

    data_json: str
    flags: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def validate(
    text: str,
    *,
    schema: type[BaseModel],
    checks: Sequence[Check],
    document: str,
    bare: bool = False,
) -> Validated | Failure:
    """Validate an answer by JSON, then schema, then its ground in the document and the checks.

    The first of the three that fails is the failure; ground and checks are told together, as
    NOT_GROUNDED when any ground is missing. The valid data holds no quotes. `bare`: a person wrote
    the data, and grounded values need none.

    What surrounds one JSON object (fences, prose) and commas before a closing bracket are removed
    at no cost, flagged `repaired`. Refused as INVALID_JSON: more than 500,000 characters,
    duplicate keys, NaN and Infinity, integers beyond 64 bits, nesting deeper than 200. At most 20
    errors are told. An exception raised by a check is let through: it is the job's bug, not the
    answer's.
    """
    if len(text) > TEXT_MAX_CHARS:
        return _not_json(f"longer than {TEXT_MAX_CHARS} characters")
    flags: tuple[str, ...] = ()
    try:
        model = _model(text, schema)
    except _NotJsonError as error:
        repaired = _repaired(text, schema)
        if repaired is None:
            return _not_json(str(error))
        model, flags = repaired, ("repaired",)
    if isinstance(model, Failure):
        return model
    spec = spec_of(schema)
    data_json = _data_json(model, spec)
    found = _ground(model, spec, document, bare=bare)
    problems = [*found.errors, *islice(_problems(model, checks, document), ERRORS_MAX)]
    if not problems:
        return Validated(data_json, flags, found.evidence)
    return Failure(
        Fault.NOT_GROUNDED if found.errors else Fault.CHECK_FAILED,
        _summary(problems),
        tuple(problems[:ERRORS_MAX]),
        data_json=data_json,
        evidence=found.evidence,
    )


def _data_json(model: BaseModel, spec: FieldSpec) -> str:
    written = model.model_dump_json()
    if not spec.has_quotes:
        return written
    plain = without_quotes(spec, json.loads(written))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _ground(model: BaseModel, spec: FieldSpec, document: str, *, bare: bool) -> Ground:
    if not spec.needs_document:
        return Ground((), ())
    found = ground(spec, model.model_dump(), document, bare=bare)
    told = (
        FieldError(error.path[:PATH_MAX_CHARS], _plain(error.message)) for error in found.errors
    )
    return Ground(found.evidence, tuple(islice(told, ERRORS_MAX)))


class _NotJsonError(Exception):
    """The text is no strict JSON; the message says what is wrong with it."""


def _model(text: str, schema: type[BaseModel]) -> BaseModel | Failure:
    """The text as the schema, or SCHEMA_INVALID. Raises _NotJsonError."""
    try:
        _strict(text)
    except (ValueError, RecursionError) as error:
        raise _NotJsonError(_plain(str(error))) from None
    try:
        model = schema.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        if found[0]["type"] == "json_invalid" and not found[0]["loc"]:
            raise _NotJsonError(_plain(found[0]["msg"])) from None
        return _schema_failure(found)
    if _NOT_FINITE_TEXT.search(text) and (path := _not_finite(model.model_dump())) is not None:
        wrong = FieldError(path, "NaN and Infinity are no numbers")
        return Failure(Fault.SCHEMA_INVALID, _summary((wrong,)), (wrong,))
    return model


def _repaired(text: str, schema: type[BaseModel]) -> BaseModel | Failure | None:
    """The one JSON object inside the text; None when there is none, or more than one."""
    fenced = text.split("```")
    for part in (fenced[1] if len(fenced) == 3 else "", text):  # noqa: PLR2004 - before, in, after
        core = part[part.find("{") : part.rfind("}") + 1]
        try:
            return _model(_STRING_OR_LAST_COMMA.sub(_kept, core), schema)
        except _NotJsonError:
            continue
    return None


def _kept(found: re.Match[str]) -> str:
    return found[1] or ""


# Strict JSON: one pass of the standard parser, whose hooks see what pydantic would let through.


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {_shown(twice)} appears twice in one object")


def _integer(digits: str) -> None:
    if len(digits) > _INTEGER_MAX_CHARS or abs(int(digits)) > INTEGER_MAX:
        raise ValueError(f"the integer {digits[:_INTEGER_MAX_CHARS]} does not fit into 64 bits")


def _number(digits: str) -> None:
    if math.isinf(float(digits)):
        raise ValueError(f"the number {digits[:_INTEGER_MAX_CHARS]} is too large")


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_strict = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_number, parse_constant=_constant
).decode


# Failures


def _not_json(lack: str) -> Failure:
    message = f"not valid JSON: {lack}"
    return Failure(Fault.INVALID_JSON, message, (FieldError("", message),))


def _schema_failure(found: list[ErrorDetails]) -> Failure:
    errors = tuple(FieldError(_path(each["loc"]), _told(each)) for each in found[:ERRORS_MAX])
    return Failure(Fault.SCHEMA_INVALID, _summary(errors, total=len(found)), errors)


def _told(each: ErrorDetails) -> str:
    got = "" if each["type"] == "missing" else f"; got {_shown(each['input'])}"
    return _plain(each["msg"] + got)


def _not_finite(value: object, path: str = "") -> str | None:
    """Where NaN or Infinity came in as the text of a number: canonical JSON would say null."""
    if isinstance(value, float | Decimal):
        return None if math.isfinite(value) else path
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        parts = enumerate(value)
    inner = (_not_finite(part, f"{path}.{name}".lstrip(".")) for name, part in parts)
    return next((found for found in inner if found is not None), None)


def _problems(model: BaseModel, checks: Sequence[Check], document: str) -> Iterator[FieldError]:
    for check in checks:
        for problem in check(model, document):
            yield FieldError(problem.path[:PATH_MAX_CHARS], _plain(problem.message))


def _summary(errors: Sequence[FieldError], *, total: int = 0) -> str:
    count = max(total, len(errors))
    first = f"{errors[0].path or 'the whole'}: {errors[0].message}"
    return first if count == 1 else f"{count} errors, the first: {first}"


def _path(location: tuple[int | str, ...]) -> str:
    return _plain(".".join(map(str, location)))[:PATH_MAX_CHARS]


def _shown(value: object) -> str:
    """A foreign value for people: a bounded piece of it, or what it is when it has parts."""
    if isinstance(value, str):
        return json.dumps(value[: INPUT_MAX_CHARS - 2], ensure_ascii=False)[:INPUT_MAX_CHARS]
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value, default=repr)[:INPUT_MAX_CHARS]


def _plain(text: str) -> str:
    """One bounded line without control characters or direction marks."""
    line = "".join(c if c.isprintable() else " " for c in text[: 2 * MESSAGE_MAX_CHARS])
    return line if len(line) <= MESSAGE_MAX_CHARS else line[: MESSAGE_MAX_CHARS - 1] + "…"
