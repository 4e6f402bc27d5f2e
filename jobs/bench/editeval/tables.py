"""Figures of EditEval: each editor on each task, and tables of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from overpaint.operators.forms.editeval import (
    LMM_ACCURACY,
    LMM_PRESERVATION,
    LMM_QUALITY,
    LMM_REALISM,
    LMM_SCORE,
)
from overpaint.operators.score import CLIP_SIM_TARGET
from overpaint.pipeline.columns import STATUS

TASK = "in_task"
"""Column of a manifest that has EditEval's task."""
COLUMNS = (
    *(TASK, STATUS.name, LMM_SCORE.name, LMM_ACCURACY.name, LMM_PRESERVATION.name),
    *(LMM_QUALITY.name, LMM_REALISM.name, CLIP_SIM_TARGET.name),
)
"""Columns of a manifest that figures are made of."""
SHOWN = (
    *("task", "method", "images", LMM_SCORE.name, "lmm_std", CLIP_SIM_TARGET.name),
    *("unscored", "failed"),
)
"""Figures that fit beside each other on a screen; JSON has the four factors as well."""

Figures = dict[str, Any]


def figures_of(
    method: str, rows: Iterable[Mapping[str, Any]], tasks: Sequence[str]
) -> list[Figures]:
    """Returns the figures of one editor: a row for each task, in the order of `tasks`.

    `images` counts the pictures of the task, `lmm_score` is the mean of the LMM Scores that there
    are, `lmm_std` their standard deviation (n - 1), and the factors and `clip_sim_target` are means
    as well; null where there is nothing to average. `unscored` counts the pictures without an LMM
    Score, because the edit failed (`failed`) or the judge's answer was none: they are no numbers.

    Args:
        method: name of the editor.
        rows: rows of its run, with `COLUMNS`.
        tasks: names of the tasks.
    """
    by_task = defaultdict[str, list[Mapping[str, Any]]](list)
    for row in rows:
        by_task[row[TASK]].append(row)
    return [_figures(task, method, by_task[task]) for task in tasks if by_task[task]]


def _figures(task: str, method: str, rows: Sequence[Mapping[str, Any]]) -> Figures:
    scores = _values(rows, LMM_SCORE.name)
    means = {column: _values(rows, column) for column in COLUMNS[3:]}
    return {
        "task": task,
        "method": method,
        "images": len(rows),
        LMM_SCORE.name: _mean(scores),
        "lmm_std": stdev(scores) if len(scores) > 1 else None,
        **{column: _mean(values) for column, values in means.items()},
        "unscored": len(rows) - len(scores),
        "failed": sum(row[STATUS.name] == "failed" for row in rows),
    }


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def across(figures: Sequence[Figures], column: str) -> list[Figures]:
    """Returns a table of one figure: a line for each task, a column for each editor.

    Args:
        figures: figures of all editors.
        column: name of the figure.
    """
    lines: dict[str, Figures] = {}
    for row in figures:
        line = lines.setdefault(row["task"], {"task": row["task"], "images": row["images"]})
        line[row["method"]] = row[column]
    methods = list(dict.fromkeys(row["method"] for row in figures))
    empty: Figures = dict.fromkeys(methods)
    return [
        {"task": line["task"], "images": line["images"], **empty, **line} for line in lines.values()
    ]
