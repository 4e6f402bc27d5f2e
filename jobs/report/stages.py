"""The stages of a run, as far as they explain its manifest: who wrote a column, and who edited."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from overpaint.jobs.report.truth import Success, SuccessCounter
from overpaint.pipeline import columns as c
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.runs.folder import RunFolder
from overpaint.pipeline.runs.manifest import ACCEPTED
from overpaint.pipeline.runs.record import RunRecord
from overpaint.pipeline.stage import Stage

MAX_VALUES = 4
"""Distinct values of a setting that are kept."""


@dataclass(frozen=True, slots=True)
class EditColumns:
    """The columns in which one stage tells how it edited.

    Attributes:
        stage: name of the stage; "" where the plan cannot be read.
        method: column of the method.
        checkpoint: column of the checkpoint.
        settings: column of the settings, as JSON.
    """

    stage: str = ""
    method: str = c.METHOD.name
    checkpoint: str = c.CHECKPOINT.name
    settings: str = c.PARAMS_JSON.name


@dataclass(frozen=True, slots=True)
class StageColumns:
    """The columns of a manifest by the stages that wrote them.

    Attributes:
        writers: name of the stage that wrote each column.
        docs: meaning of each column, in one sentence.
        edits: columns of each editing stage, in the order of the plan.
        cuts: name of the stage that wrote each column that counts cut tokens.
    """

    writers: Mapping[str, str]
    docs: Mapping[str, str]
    edits: tuple[EditColumns, ...]
    cuts: Mapping[str, str]


def stage_columns(record: RunRecord | None, folder: RunFolder) -> StageColumns:
    """Reads from a run's plan who wrote which column.

    Args:
        record: record of the run; None where the folder holds none.
        folder: run folder.

    Returns:
        The columns; where the plan is of another version, or its operators are not installed here,
        only those of one edit under their usual names.
    """
    try:
        stages = record.plan(folder).stages if record is not None else ()
    except UsageError:
        stages = ()
    columns = [(stage.name, column) for stage in stages for column in stage.outputs]
    edits = tuple(edit for stage in stages if (edit := _edit_columns(stage)))
    return StageColumns(
        writers={column.name: stage for stage, column in columns},
        docs={column.name: column.doc for _, column in columns},
        edits=edits or (EditColumns(),),
        cuts={name: stage.name for stage in stages for name in _cut_columns(stage)}
        or {c.PROMPT_TOKENS_CUT.name: ""},
    )


def _edit_columns(stage: Stage) -> EditColumns | None:
    """Returns the columns in which a stage tells how it edited; None for another stage."""
    names = _names(stage)
    own = (c.METHOD, c.CHECKPOINT, c.PARAMS_JSON)
    if stage.operator.kind != "edit" or not all(column.name in names for column in own):
        return None
    return EditColumns(stage.name, *(names[column.name] for column in own))


def _cut_columns(stage: Stage) -> list[str]:
    outputs = stage.operator.outputs
    return [stage.written_as(column.name) for column in outputs if c.tells_tokens_cut(column)]


def _names(stage: Stage) -> dict[str, str]:
    """Returns the plan's name of each output, by its name in the operator."""
    return {column.name: stage.written_as(column.name) for column in stage.operator.outputs}


@dataclass(slots=True)
class MethodRows:
    """The rows that one method edited with one checkpoint.

    Attributes:
        num_rows: number of rows, ended in whatever way.
        num_accepted: number of accepted rows.
        settings: some distinct values of each setting, as JSON.
    """

    num_rows: int = 0
    num_accepted: int = 0
    settings: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add_settings(self, texts: Collection[str]) -> None:
        """Takes distinct settings, each as a JSON object."""
        for text in list(texts)[: 8 * MAX_VALUES]:
            for name, value in json.loads(text).items():
                values = self.settings.setdefault(name, [])
                if (one := json.dumps(value)) not in values and len(values) <= MAX_VALUES:
                    values.append(one)


class MethodCounter:
    """Rows by the method and the checkpoint of one editing stage.

    Args:
        edit: columns of the stage.

    Attributes:
        edit: columns of the stage.
        groups: rows by method and checkpoint; both are "" for rows that were not edited.
    """

    def __init__(self, edit: EditColumns) -> None:
        self.edit = edit
        self.groups: dict[tuple[str, str], MethodRows] = {}
        self._success = SuccessCounter(edit.method, edit.checkpoint)

    def success(self, method: str, checkpoint: str) -> Success | None:
        """Returns the success of one group; None where no truth is known."""
        return self._success.groups.get((method, checkpoint))

    def columns(self, part: int, schema: pa.Schema) -> Collection[str]:
        """Names the columns of the stage, the status, and those that tell success."""
        names = {self.edit.method, self.edit.checkpoint, self.edit.settings, c.STATUS.name}
        return {*self._success.columns(part, schema), *(names & set(schema.names))}

    def add_part(self, part: int, table: pa.Table) -> None:
        """Counts the rows of one part."""
        self._success.add_part(part, table)
        keys = [self.edit.method, self.edit.checkpoint]
        is_accepted = [status == ACCEPTED for status in table["status"].to_pylist()]
        rows = table.select([*keys, self.edit.settings]).append_column(
            "is_accepted", pa.array(is_accepted)
        )
        measures: list[Any] = [(self.edit.settings, "distinct"), ("is_accepted", "sum")]
        for row in rows.group_by(keys).aggregate([*measures, ([], "count_all")]).to_pylist():
            group = self.groups.setdefault((row[keys[0]] or "", row[keys[1]] or ""), MethodRows())
            group.num_rows += row["count_all"]
            group.num_accepted += row["is_accepted_sum"] or 0
            settings = row[f"{self.edit.settings}_distinct"]
            group.add_settings([text for text in settings if text])
