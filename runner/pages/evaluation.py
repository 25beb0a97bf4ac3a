"""The page of an evaluation: the verdict, each field, and the documents that went wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.evalreport import CaseResult, Report
from runner.evals.comparing import Compared, FieldOutcome
from runner.evals.silent import WrongKind

from . import render_page

DOCUMENTS_MAX = 300  # a page of more is read by nobody


@dataclass(frozen=True, slots=True)
class Cell:
    """What one version made of a place."""

    value: Any
    outcome: FieldOutcome


@dataclass(frozen=True, slots=True)
class Line:
    """One place of a document: what was expected, and what each version gave."""

    place: str
    expected: Any
    cells: tuple[Cell | None, ...]  # of the candidate, and of the baseline if there is one

    @property
    def is_right(self) -> bool:
        """Whether every version is right."""
        return all(
            cell is None or cell.outcome in (FieldOutcome.MATCH, FieldOutcome.ABSENT)
            for cell in self.cells
        )


@dataclass(frozen=True, slots=True)
class Differing:
    """A document that some version got wrong."""

    name: str
    repeat: int
    sides: tuple[CaseResult, ...]
    lines: tuple[Line, ...]  # the wrong ones
    right: int  # places that every version has right


def evaluation_page(report: Report) -> str:
    """An evaluation as HTML that stands alone."""
    sides = [report.candidate, *([report.baseline] if report.baseline else [])]
    differing = list(_differing(report))
    return render_page(
        "evaluation.html",
        report=report,
        sides=sides,
        names=[side.pinned.prompt.version for side in sides],
        kinds=list(WrongKind),
        differing=differing[:DOCUMENTS_MAX],
        left_out=max(0, len(differing) - DOCUMENTS_MAX),
    )


def _differing(report: Report) -> Iterator[Differing]:
    others = (
        {(one.case.id, one.repeat): one for one in report.baseline.cases} if report.baseline else {}
    )
    for one in report.candidate.cases:
        other = others.get((one.case.id, one.repeat))
        lines = list(_lines(one, other))
        wrong = tuple(line for line in lines if not line.is_right)
        if wrong:
            sides = (one,) if other is None else (one, other)
            yield Differing(one.case.id, one.repeat, sides, wrong, len(lines) - len(wrong))


def _lines(one: CaseResult, other: CaseResult | None) -> Iterator[Line]:
    """Every place that either version speaks of, those of the candidate first."""
    mine = {leaf.place: leaf for leaf in one.leaves}
    theirs = {leaf.place: leaf for leaf in other.leaves} if other is not None else None
    for place in dict.fromkeys((*mine, *(theirs or ()))):
        cells = [_cell(mine.get(place))]
        if theirs is not None:
            cells.append(_cell(theirs.get(place)))
        leaf = mine.get(place) or (theirs or {})[place]
        yield Line(place, leaf.expected, tuple(cells))


def _cell(leaf: Compared | None) -> Cell | None:
    return None if leaf is None else Cell(leaf.got, leaf.outcome)
