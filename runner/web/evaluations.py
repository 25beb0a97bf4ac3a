"""Evaluations: the verdicts, and of each one the fields and the documents that went wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import NotFoundError
from runner.evals.comparing import FieldOutcome
from runner.evals.scoring import Tally
from runner.ledger.evaluations import CaseRow, RunRow, cases_of, find_run, list_runs
from runner.web.desk import look, page

RUNS_MAX = 200
DOCUMENTS_MAX = 300  # a page of more is read by nobody

_RIGHT = (FieldOutcome.MATCH, FieldOutcome.ABSENT)


async def list_(request: Request) -> Response:
    """The newest evaluations first."""
    runs = await look(request, lambda connection: list_runs(connection, limit=RUNS_MAX))
    return page(request, "evaluations.html", runs=runs)


@dataclass(frozen=True, slots=True)
class Cell:
    """What one version made of a place."""

    outcome: str
    got: Any

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.outcome in _RIGHT


@dataclass(frozen=True, slots=True)
class Line:
    """One place of a document, and what each version gave there."""

    place: str
    expected: Any
    cells: tuple[Cell | None, ...]

    @property
    def is_right(self) -> bool:
        """Whether every version is right."""
        return all(cell is None or cell.is_right for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Differing:
    """A gold document that some version got wrong."""

    name: str
    repeat: int
    sides: tuple[CaseRow, ...]
    wrong: tuple[Line, ...]
    right: int


async def show(request: Request) -> Response:
    """One evaluation."""
    run_id: str = request.path_params["run"]

    def read(connection: Connection) -> tuple[RunRow, list[CaseRow]]:
        run = find_run(connection, run_id)
        if run is None:
            raise NotFoundError(f"no evaluation {run_id!r}")
        return run, cases_of(connection, run_id)

    run, cases = await look(request, read)
    ids = (run.prompt_id, *([run.against_prompt_id] if run.against_prompt_id else []))
    sides = [[case for case in cases if case.prompt_id == one] for one in ids]
    differing = [one for one in _documents(sides) if one.wrong]
    return page(
        request,
        "evaluation_run.html",
        run=run,
        names=[run.prompt_version, run.summary.get("against") or "before"][: len(ids)],
        fields=_by_field(sides),
        differing=differing[:DOCUMENTS_MAX],
        left_out=max(0, len(differing) - DOCUMENTS_MAX),
    )


def _by_field(sides: Sequence[Sequence[CaseRow]]) -> Mapping[str, Sequence[Tally]]:
    """How each field fared with each version."""
    counted = [Counter[tuple[str, str]]() for _ in sides]
    names: dict[str, None] = {}
    for side, counts in zip(sides, counted, strict=True):
        for case in side:
            for field, _, outcome, _, _ in case.leaves:
                names[field] = None
                counts[field, outcome] += 1
    return {
        name: [
            Tally(**{outcome.value: counts[name, outcome] for outcome in FieldOutcome})
            for counts in counted
        ]
        for name in names
    }


def _documents(sides: Sequence[Sequence[CaseRow]]) -> list[Differing]:
    """Each gold document, with what every version made of it."""
    found: dict[tuple[str, int], list[CaseRow]] = {}
    for side in sides:
        for case in side:
            found.setdefault((case.case_id, case.repeat), []).append(case)
    return [_differing(name, repeat, cases) for (name, repeat), cases in found.items()]


def _differing(name: str, repeat: int, cases: Sequence[CaseRow]) -> Differing:
    told = [{leaf[1]: leaf for leaf in case.leaves} for case in cases]
    lines = []
    for place in dict.fromkeys(place for leaves in told for place in leaves):
        leaves = [side.get(place) for side in told]
        expected = next(leaf[3] for leaf in leaves if leaf is not None)
        cells = tuple(None if leaf is None else Cell(leaf[2], leaf[4]) for leaf in leaves)
        lines.append(Line(place, expected, cells))
    wrong = tuple(line for line in lines if not line.is_right)
    return Differing(name, repeat, tuple(cases), wrong, len(lines) - len(wrong))
