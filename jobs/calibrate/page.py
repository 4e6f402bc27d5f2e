"""Page of a calibration: one static HTML file without a script, with nothing to fetch."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from overpaint.jobs.calibrate import charts
from overpaint.jobs.calibrate.calibration import Calibration, GroupFigures
from overpaint.jobs.report.format import NOTHING, share, short, whole
from overpaint.jobs.report.security import content_security_policy

_TEMPLATES = Path(__file__).parent / "templates"
_OWN_STYLE = """
.accent-line, .accepted-line, .neutral-line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.accent-line { stroke: var(--accent); }
.accepted-line { stroke: var(--accepted); }
.neutral-line { stroke: var(--neutral); }
.interval { stroke: var(--accent); stroke-opacity: .45; stroke-width: 1.5; }
.accent-dot { fill: var(--accent); }
rect.failed { fill: var(--failed); }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
.key { display: inline-block; width: 14px; height: 3px; margin: 0 5px 3px 10px; }
.key.accent { background: var(--accent); }
.key.accepted { background: var(--accepted); }
.key.neutral { background: var(--neutral); }
td.wide { text-align: left; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLine:
    """Line of a table with a bar from 0 to 1.

    Attributes:
        label: subject of the line.
        width: width of the bar, in per cent.
        figures: figures in words.
    """

    label: str
    width: float
    figures: tuple[str, ...]


def calibration_page(calibration: Calibration, subject: str) -> str:
    """Returns the page of a calibration.

    Args:
        calibration: figures and scores.
        subject: run or bench that the rows are of.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _style()
    axis = charts.axis_of(calibration)
    overall = calibration.overall
    return environment.get_template("calibration.html").render(
        calibration=calibration,
        subject=subject,
        style=Markup(style),
        security=content_security_policy(style),
        facts=_facts(calibration),
        size=charts,
        plots=_plots(calibration, axis),
        types=[_group_line(each, each.num_rows) for each in calibration.by_type],
        failures=[
            _group_line(each, each.num_rows - overall.num_good) for each in calibration.by_failure
        ],
        thresholds=_threshold_lines(calibration),
        statuses=[
            (name, whole(number), share(number, overall.num_rows))
            for name, number in calibration.statuses.items()
        ],
    )


def _plots(
    calibration: Calibration, axis: charts.Axis | None
) -> list[tuple[str, str, charts.Plot]]:
    if axis is None:
        return []
    return [
        ("distribution", "Scores of good and bad rows", charts.distribution(calibration, axis)),
        ("reliability", "Reliability", charts.reliability(calibration, axis)),
        ("survival", "Survival by threshold", charts.survival(calibration, axis)),
    ]


def _facts(calibration: Calibration) -> list[tuple[str, str]]:
    overall = calibration.overall
    facts = [
        ("AUC", figure_with_error(overall.auc, overall.auc_error)),
        (f"rank correlation with the {calibration.correlated_with}", short(overall.spearman)),
        ("labelled rows", whole(overall.num_rows)),
        ("good", f"{whole(overall.num_good)} ({share(overall.num_good, overall.num_rows)})"),
        ("without a score", whole(overall.num_unjudged)),
    ]
    if calibration.orders_agree is not None:
        facts.append(("orders agree", f"{100 * calibration.orders_agree:.1f} %"))
    return facts


def figure_with_error(value: float | None, error: float | None) -> str:
    """Returns a figure with its standard error: `0.912 ± 0.021`."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _group_line(group: GroupFigures, num_rows: int) -> TableLine:
    return TableLine(
        label=group.name,
        width=round(100 * (group.auc or 0.0), 2),
        figures=(
            figure_with_error(group.auc, group.auc_error),
            short(group.spearman),
            short(group.mean_good),
            short(group.mean_bad),
            whole(num_rows),
            whole(group.num_unjudged),
        ),
    )


def _threshold_lines(calibration: Calibration) -> Sequence[tuple[str, ...]]:
    return [
        (each.reason, *(NOTHING,) * 4)
        if each.point is None
        else (
            each.reason,
            f"{each.point.threshold:.4g}",
            f"{100 * each.point.precision:.1f} %",
            f"{100 * each.point.recall:.1f} %",
            f"{100 * each.point.kept:.1f} %",
        )
        for each in calibration.thresholds
    ]


def _style() -> str:
    """Returns the style of all pages, and what this one adds."""
    return (files("overpaint.jobs.report") / "templates" / "report.css").read_text() + _OWN_STYLE
