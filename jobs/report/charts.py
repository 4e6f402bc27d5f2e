"""Histograms as geometry: where bars, ticks and bounds stand, in units of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from overpaint.jobs.report.format import short, whole
from overpaint.jobs.report.scores import Bin, ScoreRange, ticks
from overpaint.pipeline.policy import Bounds

WIDTH, HEIGHT = 320, 118
LEFT, RIGHT, TOP, BOTTOM = 6, 314, 16, 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Rows of one bin; the accepted ones stand at the bottom."""

    x: float
    width: float
    y: float
    height: float
    accepted_y: float
    accepted_height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A labelled place on the axis: a tick, or a bound of the policy."""

    x: float
    label: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Values that the policy turns away."""

    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One score of all rows."""

    name: str
    bars: list[Bar]
    ticks: list[Mark]
    bounds: list[Mark]
    refused: list[Area]
    facts: list[tuple[str, str]]
    notes: list[str]


def chart(name: str, found: ScoreRange, bins: Sequence[Bin], bounds: Bounds | None) -> Chart:
    """Draws one score.

    Args:
        name: of the score.
        found: its range.
        bins: its bars; none where it has no value.
        bounds: the policy's; None where it has none.
    """
    notes = [
        f"{whole(count)} {what}"
        for count, what in ((found.num_null, "not measured"), (found.num_infinite, "infinite"))
        if count
    ]
    if not bins:
        return Chart(name=name, bars=[], ticks=[], bounds=[], refused=[], facts=[], notes=notes)
    facts = [("least", short(found.least)), ("median", short(found.quantile(0.5)))]
    facts += [("mean", short(found.mean)), ("greatest", short(found.greatest))]
    low, high = bins[0].low, bins[-1].high
    return Chart(
        name=name,
        bars=_bars(bins, found),
        ticks=[_tick(value, low, high) for value in ticks(low, high)],
        bounds=_bound_marks(bounds, low, high),
        refused=_refused(bounds, low, high),
        facts=facts,
        notes=notes,
    )


def _bars(bins: Sequence[Bin], found: ScoreRange) -> list[Bar]:
    tallest = max(one.num_rows for one in bins) or 1
    low, high = bins[0].low, bins[-1].high
    bars: list[Bar] = []
    for one in bins:
        if not one.num_rows:
            continue
        x = _x(one.low, low, high)
        # A bin with one row of a million is still a bar.
        height = max(1.5, (BOTTOM - TOP) * one.num_rows / tallest)
        accepted = height * one.num_accepted / one.num_rows
        bars.append(
            Bar(
                x=round(x + 0.5, 2),
                width=round(max(1.0, _x(one.high, low, high) - x - 1), 2),
                y=round(BOTTOM - height, 2),
                height=round(height, 2),
                accepted_y=round(BOTTOM - accepted, 2),
                accepted_height=round(accepted, 2),
                title=_title(one, found, is_first=one is bins[0], is_last=one is bins[-1]),
            )
        )
    return bars


def _title(one: Bin, found: ScoreRange, *, is_first: bool, is_last: bool) -> str:
    low = found.least if is_first and found.least < one.low else one.low
    high = found.greatest if is_last and found.greatest > one.high else one.high
    rows = "row" if one.num_rows == 1 else "rows"
    return (
        f"{short(low)} to {short(high)}: {whole(one.num_rows)} {rows}, "
        f"{whole(one.num_accepted)} accepted"
    )


def _tick(value: float, low: float, high: float) -> Mark:
    return _mark(value, short(value), low, high)


def _mark(value: float, label: str, low: float, high: float) -> Mark:
    x = _x(value, low, high)
    anchor = "start" if x < LEFT + 24 else "end" if x > RIGHT - 24 else "middle"
    return Mark(x=round(x, 2), label=label, anchor=anchor)


def _bound_marks(bounds: Bounds | None, low: float, high: float) -> list[Mark]:
    if bounds is None:
        return []
    marks: list[Mark] = []
    for value, word in ((bounds.min, "min"), (bounds.max, "max")):
        if value is not None:
            marks.append(_mark(value, f"{word} {value:g}", low, high))
    return marks


def _refused(bounds: Bounds | None, low: float, high: float) -> list[Area]:
    found: list[Area] = []
    if bounds is not None and bounds.min is not None:
        found.append(Area(x=LEFT, width=round(_x(bounds.min, low, high) - LEFT, 2)))
    if bounds is not None and bounds.max is not None:
        x = _x(bounds.max, low, high)
        found.append(Area(x=round(x, 2), width=round(RIGHT - x, 2)))
    return [area for area in found if area.width > 0]


def _x(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low)
    return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share))
