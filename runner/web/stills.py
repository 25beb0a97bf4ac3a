"""The overview's plots as they stand, for readers without scripts; with scripts they move."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from runner.pages.plots import Plot, Row, lines
from runner.web.flow import Point

POINTS_MAX = 40

TITLES: Mapping[str, str] = {
    "depth": "Depth: documents that wait, and that run",
    "speed": "Throughput: calls and records a second",
    "spend": "Spend: USD a minute",
    "errors": "Failed calls a minute",
}
_ROWS: Mapping[str, Sequence[tuple[str, str]]] = {
    "depth": (("waiting", "waiting"), ("running", "running")),
    "speed": (("calls_per_s", "calls/s"), ("records_per_s", "records/s")),
    "spend": (("usd_per_min", "USD/min"),),
    "errors": (("failed_per_min", "failed/min"),),
}


def stills(points: Sequence[Point]) -> Mapping[str, Markup]:
    """Each plot by its name; of many points some, evenly in time, the newest among them."""
    chosen = _evenly(points)
    return {name: lines(_plot(name, chosen)) for name in TITLES}


def _evenly(points: Sequence[Point]) -> list[Point]:
    """At most POINTS_MAX: minutes of the past and looks of two seconds are unlike in length."""
    if not points:
        return []
    step_s = (points[-1].at_s - points[0].at_s) / (POINTS_MAX - 1)
    chosen = [points[-1]]
    for point in reversed(points[:-1]):
        if point.at_s <= chosen[-1].at_s - step_s:
            chosen.append(point)
    return chosen[::-1]


def _plot(name: str, points: Sequence[Point]) -> Plot:
    return Plot(
        name=name,
        title=TITLES[name],
        labels=[f"{datetime.fromtimestamp(point.at_s, UTC):%H:%M}" for point in points],
        rows=[
            Row(name=told, values=[getattr(point, field) for point in points])
            for field, told in _ROWS[name]
        ],
        written="{:,.4g}".format,
    )
