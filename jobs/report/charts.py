"""Histograms as geometry: the places of bars, ticks and bounds, in units of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from overpaint.jobs.report.format import short, whole
from overpaint.jobs.report.scores import Bin, ScoreRange, ticks
from overpaint.pipeline.policy import Bounds

WIDTH, HEIGHT = 320, 118
LEFT, RIGHT, TOP, BOTTOM = 6, 314, 16, 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin as a bar, with the accepted rows at its bottom.

    Attributes:
        x: left edge.
        width: width.
        y: top of the bar.
        height: height of the bar.
        accepted_y: top of the accepted rows.
        accepted_height: height of the accepted rows.
        title: text shown when the pointer rests on the bar.
    """

    x: float
    width: float
    y: float
    height: float
    accepted_y: float
    accepted_height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A labelled place on the axis: a tick, or a bound of the policy.

    Attributes:
        x: place on the axis.
        label: text of the mark.
        anchor: alignment of the text: start, middle or end.
    """

    x: float
    label: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A range of values that the policy rejects.

    Attributes:
        x: left edge.
        width: width.
    """

    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The histogram of one score.

    Attributes:
        name: column of the score.
        about: stage that measured the score, and its meaning.
        bars: bars of the histogram; none where no row has a value.
        ticks: marks of the axis.
        bounds: bounds of the policy.
        rejected: ranges of values that the policy rejects.
        facts: figures below the axis, each with its label.
        notes: numbers of rows that no bar shows, in words.
    """

    name: str
    about: str
    bars: list[Bar]
    ticks: list[Mark]
    bounds: list[Mark]
    rejected: list[Area]
    facts: list[tuple[str, str]]
    notes: list[str]


def chart(
    name: str,
    score: ScoreRange,
    bins: Sequence[Bin],
    bounds: Bounds | None = None,
    *,
    about: str = "",
) -> Chart:
    """Draws one score.

    Args:
        name: column of the score.
        score: range of the score.
        bins: bins of the histogram; none where the score has no value.
        bounds: bounds of the policy; None where it has none for the score.
        about: stage that measured the score, and its meaning.
    """
    notes = [
        f"{whole(count)} {what}"
        for count, what in ((score.num_null, "not measured"), (score.num_infinite, "infinite"))
        if count
    ]
    empty = Chart(
        name=name, about=about, bars=[], ticks=[], bounds=[], rejected=[], facts=[], notes=notes
    )
    if not bins:
        return empty
    facts = [("least", short(score.least)), ("median", short(score.quantile(0.5)))]
    facts += [("mean", short(score.mean)), ("greatest", short(score.greatest))]
    low, high = bins[0].low, bins[-1].high
    return replace(
        empty,
        bars=_bars(bins, score),
        ticks=[_mark(value, short(value), low, high) for value in ticks(low, high)],
        bounds=_bound_marks(bounds, low, high),
        rejected=_rejected(bounds, low, high),
        facts=facts,
    )


def _bars(bins: Sequence[Bin], score: ScoreRange) -> list[Bar]:
    tallest = max(each.num_rows for each in bins) or 1
    low, high = bins[0].low, bins[-1].high
    bars: list[Bar] = []
    for each in bins:
        if not each.num_rows:
            continue
        x = _x(each.low, low, high)
        # A bin with one row of a million is still a bar.
        height = max(1.5, (BOTTOM - TOP) * each.num_rows / tallest)
        accepted = height * each.num_accepted / each.num_rows
        bars.append(
            Bar(
                x=round(x + 0.5, 2),
                width=round(max(1.0, _x(each.high, low, high) - x - 1), 2),
                y=round(BOTTOM - height, 2),
                height=round(height, 2),
                accepted_y=round(BOTTOM - accepted, 2),
                accepted_height=round(accepted, 2),
                title=_title(each, score, is_first=each is bins[0], is_last=each is bins[-1]),
            )
        )
    return bars


def _title(bar: Bin, score: ScoreRange, *, is_first: bool, is_last: bool) -> str:
    low = score.least if is_first and score.least < bar.low else bar.low
    high = score.greatest if is_last and score.greatest > bar.high else bar.high
    rows = "row" if bar.num_rows == 1 else "rows"
    return (
        f"{short(low)} to {short(high)}: {whole(bar.num_rows)} {rows}, "
        f"{whole(bar.num_accepted)} accepted"
    )


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


def _rejected(bounds: Bounds | None, low: float, high: float) -> list[Area]:
    areas: list[Area] = []
    if bounds is not None and bounds.min is not None:
        areas.append(Area(x=LEFT, width=round(_x(bounds.min, low, high) - LEFT, 2)))
    if bounds is not None and bounds.max is not None:
        x = _x(bounds.max, low, high)
        areas.append(Area(x=round(x, 2), width=round(RIGHT - x, 2)))
    return [area for area in areas if area.width > 0]


def _x(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low)
    return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share))
