"""Calibration of a score of a finished run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from overpaint.jobs.calibrate.calibration import Calibration, JudgedRow, calibrate
from overpaint.jobs.calibrate.fitting import Fitted, LabelledRow, fit
from overpaint.jobs.calibrate.labels import Labels, table_labels, truth_labels
from overpaint.jobs.report.scores import score_names
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.runs.folder import RunFolder

_SCORE, _AGREE, _STATUS = "lmm_score", "lmm_orders_agree", "lmm_status"


def calibrate_run(
    folder: RunFolder,
    column: str,
    *,
    labels: str | None = None,
    good_from: float | None = None,
) -> Calibration:
    """Compares a score of a run with the labels of its rows.

    Rows that were not edited have no score and are left out; those that the judge could not read
    count as unjudged.

    Args:
        folder: run folder, finished or not.
        column: score of the run.
        labels: table of labels; None takes papercut's truth.
        good_from: least label of a good row; None where labels are 1 and 0.

    Raises:
        UsageError: there is no run, score or label.

    Example:
        >>> calibrate_run(RunFolder.at("demo-run"), "lmm_score").overall.auc
        0.91
    """
    schema = _schema_with(folder, [column])
    found = _labels(folder, schema, labels, good_from)
    rows = list(_rows(folder, schema.names, column, found))
    if not rows:
        raise UsageError(f"{folder.storage.uri}: no edited row has a label of {found.origin}")
    return calibrate(rows, column=column, labels=found.origin)


def fit_run(
    folder: RunFolder,
    columns: Sequence[str],
    *,
    labels: str | None = None,
    good_from: float | None = None,
) -> Fitted:
    """Fits the model of `combine` to scores of a run and the labels of its rows.

    Args:
        folder: run folder, finished or not.
        columns: scores of the run.
        labels: table of labels; None takes papercut's truth.
        good_from: least label of a good row; None where labels are 1 and 0.

    Raises:
        UsageError: there is no run, score or label, or nothing to fit.
    """
    found = _labels(folder, _schema_with(folder, columns), labels, good_from)
    asked = [c.SOURCE_URI, c.INSTRUCTION, c.EDIT_TYPE, c.METHOD, c.EDITED_URI]
    wanted = {*columns, *(column.name for column in asked), *found.columns}
    rows = [
        LabelledRow(
            {name: row[name] for name in columns},
            label.is_good,
            row["method"] or "",
            row["edit_type"] or "",
            row["source_uri"],
            row["instruction"] or "",
        )
        for row in folder.rows(sorted(wanted))
        if row["edited_uri"] is not None and (label := found.find(row)) is not None
    ]
    if not rows:
        raise UsageError(f"{folder.storage.uri}: no edited row has a label of {found.origin}")
    return fit(rows, columns)


def _schema_with(folder: RunFolder, scores: Sequence[str]) -> pa.Schema:
    """Returns the columns of a run, which has those scores."""
    parts = folder.parts("manifest")
    if not parts:
        raise UsageError(f"{folder.storage.uri}: no finished part of a run is there")
    schema = folder.read_part("manifest", parts[0]).schema
    for name in scores:
        if name not in score_names(schema):
            hint = near_miss(name, score_names(schema))
            raise UsageError(f"{folder.storage.uri}: the run has no score {name!r}: {hint}")
    return schema


def _labels(
    folder: RunFolder, schema: pa.Schema, table: str | None, good_from: float | None
) -> Labels:
    if table is None:
        return truth_labels(folder, schema.names)
    return table_labels(table, schema.names, good_from)


def _rows(
    folder: RunFolder, names: Sequence[str], column: str, labels: Labels
) -> Iterator[JudgedRow]:
    beside = {name: _beside(column, name, names) for name in (_AGREE, _STATUS)}
    wanted = {column, c.EDIT_TYPE.name, c.EDITED_URI.name, *labels.columns}
    wanted |= {name for name in beside.values() if name is not None}
    for row in folder.rows(sorted(wanted)):
        label = labels.find(row) if row[c.EDITED_URI.name] is not None else None
        if label is not None:
            yield JudgedRow(
                row[column],
                label.is_good,
                label.grade,
                row[c.EDIT_TYPE.name] or "",
                label.failure,
                _value(row, beside[_AGREE]),
                _value(row, beside[_STATUS]) or "",
            )


def _beside(column: str, name: str, names: Sequence[str]) -> str | None:
    """Returns the column of the judge that wrote a score; None where no judge did, or has none."""
    if not column.endswith(_SCORE):
        return None
    own = column.removesuffix(_SCORE) + name
    return own if own in names else None


def _value(row: Mapping[str, Any], name: str | None) -> Any:
    return None if name is None else row[name]
