"""What the commands about a home and its jobs print with `--json`: audit, doctor, new."""

from decimal import Decimal
from typing import Literal, Self

from runner.budget import nusd_to_usd
from runner.cli.shapes.base import Shape
from runner.ledger.audit import AuditReport


class AuditShape(Shape):
    """`audit`."""

    balanced: bool
    batches: int
    documents: int
    attempts: int
    settled_usd: Decimal
    ambiguous_usd: Decimal
    held_usd: Decimal
    problems: tuple[str, ...]

    @classmethod
    def of(cls, report: AuditReport) -> Self:
        """What the audit counted."""
        return cls(
            balanced=not report.problems,
            batches=report.batches,
            documents=report.documents,
            attempts=report.attempts,
            settled_usd=nusd_to_usd(report.settled_nusd),
            ambiguous_usd=nusd_to_usd(report.ambiguous_nusd),
            held_usd=nusd_to_usd(report.held_nusd),
            problems=report.problems,
        )


class CheckShape(Shape):
    """One check of `doctor`."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    message: str


class DoctorShape(Shape):
    """`doctor`."""

    ok: bool
    checks: tuple[CheckShape, ...]


class NewShape(Shape):
    """`new`."""

    job: str
    files: tuple[str, ...]
