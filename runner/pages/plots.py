"""Plots as inline SVG: small pure functions, no script, coloured by the page's own style.

Each has a title and a description that a screen reader speaks; the tables beside them have the
numbers. Heights are in user units; a browser scales the whole.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 14, 34
TICKS = 4
LABELS_MAX = 8
LABEL_CHARS_MAX = 13
TONES = 6  # of the style sheet

Written = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line, or one part of every bar; a value for each label, None where there is none."""

    name: str
    values: Sequence[float | None]
    tone: int | None = None  # of the style sheet; the next one by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What is plotted: rows over the same labels, and how a value is written."""

    name: str  # unique in its page
    title: str
    labels: Sequence[str]
    rows: Sequence[Row]
    written: Written = "{:,.0f}".format


def lines(plot: Plot) -> Markup:
    """Each row as a line, broken where a value is missing."""
    scale = _Scale.of(plot, stacked=False)
    return _figure(plot, scale, [_line(row, tone, plot, scale) for tone, row in _toned(plot)])


def stacked(plot: Plot) -> Markup:
    """For each label one bar, of the rows' values one on top of the other."""
    scale = _Scale.of(plot, stacked=True)
    drawn: list[Markup] = []
    below = [0.0] * len(plot.labels)
    for tone, row in _toned(plot):
        for place, value in enumerate(row.values):
            if value:
                drawn.append(_bar(row, tone, plot, scale, place, low=below[place], value=value))
                below[place] += value
    return _figure(plot, scale, drawn)


def _toned(plot: Plot) -> list[tuple[int, Row]]:
    return [
        (number % TONES if row.tone is None else row.tone, row)
        for number, row in enumerate(plot.rows)
    ]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values and places to the coordinates of the drawing."""

    most: float
    places: int

    @classmethod
    def of(cls, plot: Plot, *, stacked: bool) -> "_Scale":
        columns = zip(*(row.values for row in plot.rows), strict=True) if plot.rows else ()
        add = sum if stacked else max
        heights = [add([value or 0.0 for value in column]) for column in columns]
        return cls(_round_up(max(heights, default=0.0)), max(1, len(plot.labels)))

    @property
    def step(self) -> float:
        return (WIDTH - LEFT - RIGHT) / self.places

    def x(self, place: float) -> float:
        """The middle of a label's place."""
        return LEFT + (place + 0.5) * self.step

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.most)


def _round_up(value: float) -> float:
    """The next number of one digit, or 1.5 or 2.5 with zeros: a good end of an axis."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return next(one * unit for one in steps if one * unit >= value * (1 - 1e-9))


def _figure(plot: Plot, scale: _Scale, drawn: Sequence[Markup]) -> Markup:
    return Markup(
        '<figure class="plot"><figcaption>{title}{legend}</figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-t {id}-d">'
        '<title id="{id}-t">{title}</title><desc id="{id}-d">{told}</desc>'
        "{axes}{drawn}</svg></figure>"
    ).format(
        title=plot.title,
        legend=_legend(plot),
        width=WIDTH,
        height=HEIGHT,
        id=plot.name,
        told=_told(plot),
        axes=_axes(plot, scale),
        drawn=Markup().join(drawn),
    )


def _legend(plot: Plot) -> Markup:
    if len(plot.rows) < 2:  # noqa: PLR2004 - the title says what it is
        return Markup()
    names = [
        Markup('<span class="key tone{}">{}</span>').format(tone, row.name)
        for tone, row in _toned(plot)
    ]
    return Markup(' <span class="keys">{}</span>').format(Markup(" ").join(names))


def _told(plot: Plot) -> str:
    """The plot in words: the last and the largest value of each row."""
    if not plot.labels:
        return "Nothing to show."
    told = []
    for row in plot.rows:
        known = [
            (value, label)
            for value, label in zip(row.values, plot.labels, strict=True)
            if value is not None
        ]
        if known:
            (last, at), (most, when) = known[-1], max(known)
            told.append(
                f"{row.name}: {plot.written(last)} at {at}, at most {plot.written(most)} at {when}"
            )
    return f"{plot.labels[0]} to {plot.labels[-1]}. " + "; ".join(told) + "."


def _axes(plot: Plot, scale: _Scale) -> Markup:
    parts = []
    for tick in range(TICKS + 1):
        value = scale.most * tick / TICKS
        y = f"{scale.y(value):.1f}"
        parts.append(
            Markup(
                '<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
                '<text class="tick" x="{at}" y="{y}" dy="4" text-anchor="end">{value}</text>'
            ).format(left=LEFT, right=WIDTH - RIGHT, at=LEFT - 6, y=y, value=plot.written(value))
        )
    every = max(1, math.ceil(len(plot.labels) / LABELS_MAX))
    for place, label in enumerate(plot.labels):
        if place % every == 0:
            parts.append(
                Markup(
                    '<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
                ).format(scale.x(place), HEIGHT - BOTTOM + 18, label)
            )
    return Markup().join(parts)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARS_MAX else label[: LABEL_CHARS_MAX - 1] + "…"


def _line(row: Row, tone: int, plot: Plot, scale: _Scale) -> Markup:
    path, dots, pen_down = [], [], False
    for place, value in enumerate(row.values):
        if value is None:
            pen_down = False
            continue
        x, y = f"{scale.x(place):.1f}", f"{scale.y(value):.1f}"
        path.append(f"{'L' if pen_down else 'M'}{x} {y}")
        pen_down = True
        dots.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="2.5"><title>{}</title></circle>').format(
                x, y, f"{plot.labels[place]}, {row.name}: {plot.written(value)}"
            )
        )
    return Markup('<g class="tone{}"><path class="line" d="{}"/>{}</g>').format(
        tone, " ".join(path), Markup().join(dots)
    )


def _bar(
    row: Row, tone: int, plot: Plot, scale: _Scale, place: int, *, low: float, value: float
) -> Markup:
    width = min(48.0, 0.7 * scale.step)
    top = scale.y(low + value)
    return Markup(
        '<rect class="bar tone{tone}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        'height="{height:.1f}"><title>{told}</title></rect>'
    ).format(
        tone=tone,
        x=scale.x(place) - width / 2,
        y=top,
        width=width,
        height=scale.y(low) - top,
        told=f"{plot.labels[place]}, {row.name}: {plot.written(value)}",
    )
