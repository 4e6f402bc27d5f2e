"""Charts of a calibration as geometry: places in units of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from overpaint.jobs.calibrate.calibration import Calibration
from overpaint.jobs.calibrate.statistics import SurvivalPoint
from overpaint.jobs.report.format import short, whole
from overpaint.jobs.report.scores import ticks

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 14, 190
_MAX_BINS = 24
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Mark of an axis.

    Attributes:
        place: place on the axis.
        label: text of the mark.
    """

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Rectangle, with a text that is shown when the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Line through some points, as the path of an SVG.

    Attributes:
        kind: class of the line.
        path: commands of the path.
    """

    kind: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """Dot with an interval, and a text that is shown when the pointer rests on it.

    Attributes:
        x: place on the axis of scores.
        y: place of the share.
        low: lower end of the interval.
        high: upper end of the interval.
        radius: radius of the dot.
        title: text.
    """

    x: float
    y: float
    low: float
    high: float
    radius: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Picture with axes.

    Attributes:
        x_ticks: marks of the axis of scores.
        y_ticks: marks of the axis of shares or rows.
        shapes: rectangles.
        lines: lines.
        dots: dots.
    """

    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    shapes: Sequence[Shape] = ()
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()


class Axis:
    """Axis of scores.

    Args:
        low: least score.
        high: greatest score.
    """

    def __init__(self, low: float, high: float) -> None:
        margin = (high - low) * 0.03 or abs(low) * 0.05 or 0.5
        self.low, self.high = low - margin, high + margin

    def x(self, value: float) -> float:
        """Returns the place of a score."""
        return round(LEFT + (RIGHT - LEFT) * (value - self.low) / (self.high - self.low), 2)

    def ticks(self) -> list[Tick]:
        """Returns marks at round scores."""
        return [Tick(place=self.x(v), label=short(v)) for v in ticks(self.low, self.high, 5)]


def axis_of(calibration: Calibration) -> Axis | None:
    """Returns the axis of all scores; None where there are none."""
    scores = [*calibration.scores_good, *calibration.scores_bad]
    return Axis(min(scores), max(scores)) if scores else None


def distribution(calibration: Calibration, axis: Axis) -> Plot:
    """Draws how many good rows, upwards, and bad rows, downwards, have each score."""
    good, bad = calibration.scores_good, calibration.scores_bad
    values = np.unique([*good, *bad])
    num_bins = int(min(_MAX_BINS, max(4, len(values))))
    edges = np.linspace(axis.low, axis.high, num_bins + 1)
    counts = [np.histogram(each, edges)[0].tolist() for each in (good, bad)]
    most, middle = max(max(each) for each in counts), (TOP + BOTTOM) / 2
    scale = (BOTTOM - TOP) / 2 / most
    shapes = [
        Shape(
            x=axis.x(low) + 0.5,
            y=round(middle - count * scale if kind == "accepted" else middle, 2),
            width=round(axis.x(high) - axis.x(low) - 1, 2),
            height=round(count * scale, 2),
            kind=kind,
            title=f"{short(low)} to {short(high)}: {whole(count)} {word}",
        )
        for kind, word, numbers in (("accepted", "good", counts[0]), ("failed", "bad", counts[1]))
        for low, high, count in zip(edges[:-1], edges[1:], numbers, strict=True)
        if count
    ]
    y_ticks = [Tick(place=y, label=whole(most)) for y in (TOP, BOTTOM)]
    y_ticks.append(Tick(place=middle, label="0"))
    return Plot(x_ticks=axis.ticks(), y_ticks=y_ticks, shapes=shapes)


def reliability(calibration: Calibration, axis: Axis) -> Plot:
    """Draws the share of good rows by score, with intervals."""
    bins = calibration.reliability
    most = max((each.num_rows for each in bins), default=1)
    dots = [
        Dot(
            x=axis.x(each.mean),
            y=_y(each.share),
            low=_y(each.low),
            high=_y(each.high),
            radius=round(2 + 4 * (each.num_rows / most) ** 0.5, 2),
            title=f"{short(each.least)} to {short(each.greatest)}: {whole(each.num_good)} of "
            f"{whole(each.num_rows)} rows are good, {100 * each.share:.0f} %",
        )
        for each in bins
    ]
    line = _line("accent-line", [(dot.x, dot.y) for dot in dots])
    overall = calibration.overall
    base = _y(overall.num_good / overall.num_rows)
    level = _line("bound", [(LEFT, base), (RIGHT, base)])
    return Plot(x_ticks=axis.ticks(), y_ticks=_share_ticks(), lines=[level, line], dots=dots)


def survival(calibration: Calibration, axis: Axis) -> Plot:
    """Draws the shares that each threshold keeps, and the share of good rows among them."""
    points: list[SurvivalPoint] = calibration.survival
    lines = [
        _line(kind, _steps([(axis.x(p.threshold), _y(getattr(p, name))) for p in points]))
        for kind, name in (
            ("neutral-line", "kept"),
            ("accepted-line", "precision"),
            ("accent-line", "recall"),
        )
    ]
    best = calibration.thresholds[0].point if calibration.thresholds else None
    if best is not None:
        lines.append(
            _line("bound", [(axis.x(best.threshold), TOP), (axis.x(best.threshold), BOTTOM)])
        )
    return Plot(x_ticks=axis.ticks(), y_ticks=_share_ticks(), lines=lines)


def _share_ticks() -> list[Tick]:
    return [Tick(place=_y(share), label=f"{100 * share:.0f} %") for share in _SHARES]


def _y(share: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * share, 2)


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the corners of a curve that holds its value up to each next threshold."""
    corners: list[tuple[float, float]] = []
    for place, (x, y) in enumerate(points):
        corners += [(points[place - 1][0], y), (x, y)] if place else [(x, y)]
    return corners


def _line(kind: str, points: Sequence[tuple[float, float]]) -> Line:
    path = "L".join(f"{x} {y}" for x, y in points)
    return Line(kind=kind, path=f"M{path}" if points else "")
