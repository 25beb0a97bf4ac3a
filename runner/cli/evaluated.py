"""How an evaluation is told to a person: the verdict first, then both versions, then each field."""

from collections.abc import Callable, Mapping, Sequence

from runner.budget import nusd_to_usd
from runner.cli.tables import Column, say_table
from runner.cli.terminal import say, talk
from runner.cli.wording import several, usd
from runner.evalreport import Report, Side
from runner.evals.scoring import Tally
from runner.evals.silent import WrongKind
from runner.evals.statistics import Interval
from runner.evals.verdicts import Verdict

_KINDS: Mapping[WrongKind, str] = {
    WrongKind.NOT_IN_DOCUMENT: "not in the document",
    WrongKind.ELSEWHERE: "of another place in it",
    WrongKind.JUDGED: "of judgement",
    WrongKind.MISSED: "missed",
}


def say_report(report: Report) -> None:
    """Write an evaluation as tables."""
    asked, judgement = report.evaluation.asked, report.judgement
    version = report.candidate.pinned.prompt.version
    against = "" if report.baseline is None else f" against {_name(report.baseline, report)}"
    say(
        f"{judgement.verdict.value.upper()}  {asked.job} {_name(report.candidate, report)}{against}"
    )
    say(f"{judgement.reason}\n")
    _say_sides([report.candidate, *([report.baseline] if report.baseline else [])], report)
    say("")
    _say_fields(report)
    if judgement.smallest_difference is not None:
        talk(
            f"\n{several(judgement.documents, 'document')} can be hoped to show a difference of "
            f"{100 * judgement.smallest_difference:.0f} points of documents exact, and no less"
        )
    talk(f"evaluation {report.id}, gold {report.evaluation.gold[:15]}…")
    if judgement.verdict is Verdict.PASS and report.baseline is not None:
        talk(f"`runner prompt promote {asked.job} {version}` makes it live")


def _name(side: Side, report: Report) -> str:
    """The version, with its models where the two sides differ in them."""
    version = side.pinned.prompt.version
    sides = [report.candidate, *([report.baseline] if report.baseline else [])]
    if len({one.pinned.models for one in sides}) > 1:
        return f"{version} ({', '.join(side.pinned.models)})"
    return version


def _say_sides(sides: Sequence[Side], report: Report) -> None:
    rows: list[tuple[str, Callable[[Side], str | None]]] = [
        ("documents exact", lambda side: _interval(side.scores.together.exact)),
        ("values right", lambda side: _share(side.scores.together.total.accuracy)),
        ("precision", lambda side: _share(side.scores.together.total.precision)),
        ("recall", lambda side: _share(side.scores.together.total.recall)),
        ("F1", lambda side: _share(side.scores.together.total.f1)),
        ("invented", lambda side: _share(side.scores.together.total.invented_rate)),
        ("ended", lambda side: ", ".join(f"{n:,} {state}" for state, n in side.states.items())),
        ("wrong values, done", lambda side: _wrong(side.wrong.done)),
        ("wrong values, review", lambda side: _wrong(side.wrong.review)),
        ("cost", _cost),
        ("calls", lambda side: f"{side.calls:,}"),
        ("latency p50, p95", _latency),
    ]
    columns = [Column(""), *(Column(_name(side, report), folds=True) for side in sides)]
    say_table(columns, [(name, *(told(side) for side in sides)) for name, told in rows])


def _say_fields(report: Report) -> None:
    others = report.baseline.scores.together.fields if report.baseline is not None else {}
    columns = (
        Column("field", folds=True),
        *(Column(name, right=True) for name in ("right", "wrong", "missed", "invented", "absent")),
        *(Column(name, right=True) for name in ("precision", "recall", "F1")),
        Column("F1 before" if report.baseline else "", right=True),
    )
    say_table(
        columns,
        [
            _field_row(name, tally, others.get(name))
            for name, tally in report.candidate.scores.together.fields.items()
        ],
    )


def _field_row(name: str, tally: Tally, other: Tally | None) -> tuple[object, ...]:
    return (
        *(name, tally.match, tally.wrong, tally.missed, tally.invented, tally.absent),
        *(_share(tally.precision), _share(tally.recall), _share(tally.f1)),
        None if other is None else _share(other.f1),
    )


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _interval(found: Interval) -> str:
    return f"{_share(found.estimate)} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _wrong(found: Mapping[WrongKind, int]) -> str:
    total = sum(found.values())
    kinds = ", ".join(f"{found[kind]:,} {name}" for kind, name in _KINDS.items() if found.get(kind))
    return f"{total:,}: {kinds}" if total else "none"


def _cost(side: Side) -> str:
    answers = side.scores.together.answers
    if side.cost_nusd is None:
        return "unknown"
    each = nusd_to_usd(side.cost_nusd // max(1, answers))
    return f"{usd(nusd_to_usd(side.cost_nusd))}, {usd(each)} a document"


def _latency(side: Side) -> str | None:
    half, most = side.latency_s(0.5), side.latency_s(0.95)
    return None if half is None or most is None else f"{half:.1f} s, {most:.1f} s"
